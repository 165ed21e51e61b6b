"""Checks that a run continues with the corpus that it began with."""

import pathlib
from collections.abc import Mapping
from typing import Any

from fgmm.config import ConfigError
from fgmm.data import fingerprint
from fgmm.train import distributed

# The key of the fingerprint in a checkpoint's position.
KEY = "corpus"


def same_everywhere(source: Any) -> fingerprint.Fingerprint:
    """The fingerprint of the corpus to train on; every process has to call it.

    Raises:
      ConfigError: a process sees another corpus than process 0.
    """
    with distributed.all_or_none():
        mine = fingerprint.of_source(source)
    theirs = distributed.from_primary(lambda: fingerprint.without_times(mine))
    with distributed.all_or_none():
        if change := fingerprint.difference(theirs, mine, when=("on process 0", "here")):
            raise ConfigError(
                f"data.source is not the same on every process: {change}; give all of them the "
                "same files"
            )
    return mine


def check_unchanged(
    position: Mapping[str, Any],
    now: fingerprint.Fingerprint,
    workdir: pathlib.Path,
    accept_changes: bool,
) -> None:
    """Compares the corpus with that of a checkpoint; prints what differs if the run continues.

    Args:
      position: of the data, from the checkpoint.
      now: the fingerprint of the corpus.
      workdir: of the run.
      accept_changes: as in ``config.data``.

    Raises:
      ConfigError: it is another corpus.
    """
    step, before = position["next_step"], position.get(KEY)
    if before is None:
        distributed.say(
            f"the checkpoint of step {step} does not say which clips it was trained on; going on "
            f"with the {now['clips']} of data.source as they are"
        )
        return
    change = fingerprint.difference(before, now)
    if change and not accept_changes:
        raise ConfigError(
            f"--workdir={workdir}: data.source has changed since step {step} ({change}), so its "
            "clips would come in another order. Bring it back, or accept it with "
            "--config.data.accept_changes=True, or start another workdir with "
            f"--config.init_from.path={workdir}"
        )
    if change:
        distributed.say(f"data.source has changed since step {step} ({change}); going on with it")
    elif before != now:
        distributed.say(
            f"files of data.source were written again since step {step}; names and sizes are the "
            "same, going on"
        )
