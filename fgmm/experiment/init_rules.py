"""The rules of ``config.init_from``; ``fgmm.train.init_from`` describes them."""

from typing import Any, NamedTuple

from fgmm.config import Config, ConfigError
from fgmm.config.regex_rules import checked_rules

# Actions on the names of the checkpoint and of the model.
ON_CHECKPOINT = ("skip", "rename")
ON_MODEL = ("initialise", "load")


class Rule(NamedTuple):
    """A rule of ``config.init_from.rules``.

    Attributes:
      regex: of whole paths.
      action: ``"skip"``, ``"rename"``, ``"initialise"`` or ``"load"``.
      name: the new name, of ``"rename"`` alone.
    """

    regex: str
    action: str
    name: str = ""


def from_config(entry: Config) -> tuple[Rule, ...]:
    """The rules of ``config.init_from``.

    Raises:
      ConfigError: one is no (regex, action), or there are rules but no path.
    """
    rules = checked_rules(entry["rules"], "init_from.rules", _action, "action")
    if rules and not entry["path"]:
        raise ConfigError("init_from.rules are set but init_from.path is empty")
    return tuple(Rule(regex, *action) for regex, action in rules)


def _action(given: Any) -> tuple[str, str]:
    """An action with the name that it gives."""
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
