"""The rules of ``config.init_from``; what they do is told in ``fgmm.train.init_from``."""

from typing import Any, NamedTuple

from fgmm.config import Config, ConfigError
from fgmm.experiment.frozen import Frozen
from fgmm.experiment.rules import checked_rules

# Actions on the names of the checkpoint and of the model.
ON_CHECKPOINT = ("skip", "rename")
ON_MODEL = ("initialise", "freeze")


class Rule(NamedTuple):
    """A rule of ``config.init_from.rules``.

    Attributes:
      regex: of whole paths.
      action: ``"skip"``, ``"rename"``, ``"initialise"`` or ``"freeze"``.
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
    known = action in (*ON_CHECKPOINT, *ON_MODEL)
    if not known or bool(name.strip()) != (action == "rename"):
        raise ValueError("allowed actions: skip, initialise, freeze, rename NEW_NAME")
    return action, name.strip()


def frozen(entry: Config) -> Frozen:
    """The parameters that ``config.init_from`` freezes.

    Raises:
      ConfigError: as ``from_config``.
    """
    rules = from_config(entry)
    return Frozen(tuple((r.regex, r.action == "freeze") for r in rules if r.action in ON_MODEL))
