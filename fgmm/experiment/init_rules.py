"""The rules of ``config.init_from``, parsed; ``fgmm.train.init_from`` describes them."""

from typing import Any, NamedTuple

from fgmm.config import Config, ConfigError
from fgmm.config.option import check_given, declared
from fgmm.config.regex_rules import checked_rules
from fgmm.config.sections import InitFromSection

# Actions on names of the checkpoint, and on names of the model.
ON_CHECKPOINT = ("skip", "rename")
ON_MODEL = ("initialise", "load")


class Rule(NamedTuple):
    """A rule of ``config.init_from.rules``.

    Attributes:
      regex: matches whole paths.
      action: ``"skip"``, ``"rename"``, ``"initialise"`` or ``"load"``.
      name: the new name, for ``"rename"`` only.
    """

    regex: str
    action: str
    name: str = ""


class Start(NamedTuple):
    """A run to take arrays from.

    Attributes:
      key: where it stands in the config, for errors.
      path, step, weights: its folder, and which checkpoint and parameters of it.
      rules: rules on names of arrays.
    """

    key: str
    path: str
    step: str
    weights: str
    rules: tuple[Rule, ...]


def from_config(entry: Config) -> tuple[Start, ...]:
    """The runs of ``config.init_from``: the run that it names itself, then those of ``also``.

    Raises:
      ConfigError: a rule is not (regex, action), there are rules but no path, an option is unknown
        or wrong, or an entry of ``also`` is not a dict or has no path.
    """
    options = declared(InitFromSection)
    also = options.pop("also")
    usual = {name: option.default for name, option in options.items()}
    also.check(entry.get("also", {}), "init_from.also")
    entries = {"init_from": {name: entry.get(name, usual[name]) for name in usual}}
    for run, given in entry.get("also", {}).items():
        key = f"init_from.also.{run}"
        if not isinstance(given, Config):
            raise ConfigError(f"{key}={given!r} must be a dict of path, step, weights and rules")
        check_given(options, given, key=key)
        entries[key] = {**usual, **given}
        if not entries[key]["path"]:
            raise ConfigError(f"{key}.path is empty; name the folder of a run")
    starts = []
    for key, found in entries.items():
        rules = checked_rules(found["rules"], f"{key}.rules", _action, "action")
        if rules and not found["path"]:
            raise ConfigError(f"{key}.rules are set but {key}.path is empty")
        if found["path"]:
            rules = tuple(Rule(regex, *action) for regex, action in rules)
            starts.append(Start(key, found["path"], found["step"], found["weights"], rules))
    return tuple(starts)


def _action(given: Any) -> tuple[str, str]:
    """An action, and the new name for ``rename``."""
    action, _, name = given.partition(" ") if isinstance(given, str) else (given, "", "")
    if action == "freeze":
        raise ValueError(
            "freezing is a rule of the optimizer: (regex, 'frozen') in "
            "optimizer.learning_rate_scale"
        )
    known = action in (*ON_CHECKPOINT, *ON_MODEL)
    if not known or bool(name.strip()) != (action == "rename"):
        raise ValueError("allowed actions: skip, initialise, load, rename NEW_NAME")
    return action, name.strip()
