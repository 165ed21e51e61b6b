"""The rules of ``config.init_from``; what they do is told in ``fgmm.train.init_from``."""

import re
from typing import NamedTuple

from fgmm.config import Config, ConfigError

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


def checked_rules(entry: Config) -> tuple[Rule, ...]:
    """The rules of ``config.init_from``.

    Raises:
      ConfigError: one is no (regex, action), or there are rules but no path.
    """
    rules = []
    for given in entry["rules"]:
        where = f"init_from.rules holds {given!r}"
        pair = isinstance(given, list | tuple) and len(given) == 2
        if not pair or not all(isinstance(part, str) for part in given):
            raise ConfigError(f"{where}; each entry must be (regex, action)")
        regex, action = given
        action, _, name = action.partition(" ")
        if action == "freeze":
            raise ConfigError(
                f"{where}; freezing is a rule of the optimizer: ({regex!r}, 'frozen') in "
                "optimizer.learning_rate_scale"
            )
        known = action in (*ON_CHECKPOINT, *ON_MODEL)
        if not known or bool(name.strip()) != (action == "rename"):
            raise ConfigError(f"{where}; allowed actions: skip, initialise, load, rename NEW_NAME")
        try:
            re.compile(regex)
        except re.error as error:
            raise ConfigError(f"{where}: {error}") from error
        rules.append(Rule(regex, action, name.strip()))
    if rules and not entry["path"]:
        raise ConfigError("init_from.rules are set but init_from.path is empty")
    return tuple(rules)
