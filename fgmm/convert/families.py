"""The families of published models: modules of this package with ``MODEL``, ``recognises`` and
``as_run``.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from fgmm import convert as package
from fgmm.config import ConfigError
from fgmm.convert.published import PublishedModel


def families() -> Iterator[ModuleType]:
    """The modules of all families."""
    for found in pkgutil.iter_modules(package.__path__):
        if found.name != "__main__":
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            if hasattr(module, "recognises"):
                yield module


def family_of(published: PublishedModel) -> ModuleType:
    """The module of the first family that recognises a published model.

    Raises:
      ConfigError: no family does.
    """
    known = list(families())
    for module in known:
        if module.recognises(published):
            return module
    kind = published.config.get("model_type") or published.config.get("architectures")
    what = f"model_type {kind!r}" if kind else f"arrays such as {next(iter(published.arrays))}"
    raise ConfigError(
        f"--from={published.folder} has {what}, which is not supported; allowed: "
        + ", ".join(module.MODEL for module in known)
        + ", and S3D by fgmm.convert.s3d_howto100m"
    )
