"""What a source tells the preparation: its recordings as they lie on disk, one by one.

A source module may define a class ``Raw`` beside its ``Source``::

    Raw(*, root: str, split: str, **options)    raises ConfigError; no split where there is but one
    Raw.splits: Iterable[str]                   those prepared if no others are asked for,
                                                or a function of root to them
    raw.videos: Sequence[str]                   names of the recordings
    len(raw), raw[index] -> RawRecord           raises BadInput for one that is left out
    raw.report: collections.Counter             what was left out when the list was read
    raw.classes: dict[str, tuple[str, ...]]     as of ``Source``, where there are labels

It can be pickled, and gives the recordings in an order that depends on the corpus alone. That of a
corpus which may have millions keeps no Python object for each. A source without one is prepared as
well where its clips carry encoded pictures and no sound.
"""

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from fgmm import components
from fgmm.config import ConfigError, variant
from fgmm.data.schema import Caption

KINDS = ("video", "audio", "image")
# The split of a source that has none; TFDS takes "all" for a name of its own.
WHOLE = "whole"
# Clips by which a source without a ``Raw`` is judged.
_LOOKED_AT = 100


class RawRecord(NamedTuple):
    """A recording with all that is known of it.

    Attributes:
      clip_id: its name within the corpus.
      media: the file, or its contents.
      kind: one of ``KINDS``: moving pictures, with sound or not; sound alone; one picture.
      captions: with times from the start of the file, in order.
      labels, group: as in ``Clip``.
      problems: what was left out of it, by reason.
    """

    clip_id: str
    media: pathlib.Path | bytes
    kind: str
    captions: tuple[Caption, ...] = ()
    labels: Mapping[str, int] = {}
    group: str = ""
    problems: Mapping[str, int] = {}


class Pictures:
    """The pictures of a source whose clips carry them encoded."""

    def __init__(self, source: Any, name: str):
        self._source, self.report = source, source.report
        self.classes = getattr(source, "classes", {})
        first = [source[i] for i in range(min(_LOOKED_AT, len(source)))]
        pictures = any(isinstance(clip.video, bytes) for clip in first)
        if not pictures or any(clip.audio is not None for clip in first):
            raise ConfigError(
                f"source {name!r} cannot be prepared: a record holds one file, and its clips are "
                f"neither pictures without sound nor files that a class Raw in "
                f"fgmm/data/sources/{name}.py names"
            )

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> RawRecord:
        clip = self._source[index]
        encoded = clip.video if isinstance(clip.video, bytes) else None
        if encoded is None and clip.video is not None:
            clip.video()  # what stands for a picture that cannot be read says why
        return RawRecord(
            clip.clip_id, encoded or b"", "image", clip.captions, clip.labels, clip.group
        )


class Chosen(NamedTuple):
    """A source as the command line names it: ``NAME`` or ``NAME:option=value,option=value``."""

    name: str
    options: dict[str, Any]


def choose(text: str, *, raw: bool) -> Chosen:
    """Parses the name of a source and its options.

    Args:
      text: as above.
      raw: whether the options are those of the recordings, not of ``Source``.

    Raises:
      ConfigError: no such source, or an option that it does not have.
    """
    name, _, rest = text.partition(":")
    target, _ = _target(name, raw)
    allowed = {
        option: default
        for option, default in components.options(target).items()
        if option not in (("root", "split") if raw else ("root",))
        and isinstance(default, str | int | float)
    }
    given = variant(rest, **allowed)
    return Chosen(name, {key: given[key] for key in allowed if given[key] != allowed[key]})


def splits(chosen: Chosen, root: str) -> tuple[str, ...]:
    """The splits of a corpus that are prepared if no others are asked for.

    Raises:
      ConfigError: the source is made from no files, or the corpus is not as it should be.
    """
    target, own = _target(chosen.name, raw=True)
    if own:
        _demand_there(root)
        return tuple(target.splits(root) if callable(target.splits) else target.splits)
    options = components.options(target)
    if "root" not in options:
        raise ConfigError(f"source {chosen.name!r} cannot be prepared: it has no files")
    named = getattr(sys.modules[target.__module__], "SPLITS", (options.get("split"),))
    return tuple(named) if "split" in options else (WHOLE,)


def open_raw(chosen: Chosen, root: str, split: str) -> Any:
    """Opens the recordings of a split.

    Raises:
      ConfigError: anything of the corpus is missing or of another form.
    """
    target, own = _target(chosen.name, raw=True)
    allowed = components.options(target)
    _demand_there(root)
    if "split" not in allowed and split != WHOLE:
        raise ConfigError(f"--splits={split} is unknown; {chosen.name} has none but {WHOLE!r}")
    given = {**chosen.options, "root": root} | ({"split": split} if "split" in allowed else {})
    opened = target(**components.check(target, given, key="--source"))
    return opened if own else Pictures(opened, chosen.name)


def open_source(chosen: Chosen, root: str | None) -> Any:
    """Opens a source for clips, as training does.

    Raises:
      ConfigError: anything of the corpus is missing or of another form.
    """
    entry = {"name": chosen.name, **chosen.options} | ({"root": root} if root else {})
    return components.build("data.sources", entry, key="--source")


def _demand_there(root: str) -> None:
    if not os.path.exists(root):
        raise ConfigError(f"--input={root} does not exist; give the folder of the corpus")


def _target(name: str, raw: bool) -> tuple[type, bool]:
    """The class to be opened, and whether it is the source's own ``Raw``."""
    source = components.find("data.sources", name, key="--source")
    own = getattr(sys.modules[source.__module__], "Raw", None) if raw else None
    return own or source, own is not None
