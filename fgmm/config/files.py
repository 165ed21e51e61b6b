"""Config files by name: ``quickstart`` is ``configs/quickstart.py``."""

import pathlib

from fgmm.config import ConfigError

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def folder() -> pathlib.Path:
    """The folder of the configs: ``configs/`` of the checkout, or of the installed package."""
    checkout = _PACKAGE.parent
    if (checkout / "setup.py").exists() and (checkout / "configs").is_dir():
        return checkout / "configs"
    return _PACKAGE / "configs"


def names() -> list[str]:
    """The names of all configs, such as ``quickstart`` and ``eval/zero_shot``."""
    found = (path.relative_to(folder()).with_suffix("") for path in folder().rglob("*.py"))
    return sorted(path.as_posix() for path in found)


def resolved(value: str, option: str = "--config") -> str:
    """The path of a config that an option gives by name.

    Args:
      value: a name, or a path that ends in ``.py``, which is returned as it is. Variants after a
        colon are kept.
      option: name of the option, for errors.

    Raises:
      ConfigError: there is no config of that name.
    """
    name, colon, variant = value.partition(":")
    if name.endswith(".py"):
        return value
    if name not in names():
        raise ConfigError(
            f"{option}={name} is unknown; give a path that ends in .py, or one of: "
            f"{', '.join(names())}"
        )
    return f"{folder() / name}.py{colon}{variant}"
