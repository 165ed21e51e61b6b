"""What the preparation reads from a source: its recordings as they lie on disk, one by one.

A source that can be prepared has, beside what ``fgmm/data/sources`` says::

    Source(root=..., split=..., opened=False)   reads nothing; of ``fgmm.data.corpora.source``
    source.raw() -> recordings                  raises ConfigError
    Source.splits(root) -> tuple[str, ...]      those prepared if no others are asked for
    Source.is_there(root) -> bool               only if a root may be something else than a path
    Source.of_clips: tuple[str, ...]            options that do not apply to whole recordings

    recordings.names: Sequence[str]             of the recordings
    len(recordings)
    recordings[index] -> RawRecord              raises BadInput for one that is left out
    recordings.report: collections.Counter      what was left out when the list was read
    recordings.classes                          as of ``Source``, where there are labels

``recordings`` can be pickled, and their order depends on the corpus alone. Where there may be
millions, no Python object is kept for each. A source without ``raw`` can be prepared too if its
clips carry encoded pictures and no sound.
"""

import functools
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from fgmm import components
from fgmm.config import ConfigError, variant
from fgmm.data.schema import Caption, Clip

KINDS = ("video", "audio", "image")
# What the flag takes that ``choose`` parses.
SOURCE_HELP = (
    "The corpus: a file's name in fgmm/data/sources, or module:Class; NAME:option=value,..."
)
# The split of a source without splits. TFDS reserves the name "all".
WHOLE = "whole"
# Clips that are looked at to judge whether a source without ``raw`` can be prepared.
_LOOKED_AT = 100
# A name, or module:Class, and options. What follows the first colon is no class if it has a ``=``.
_CHOICE = re.compile(r"([^:]*(?::[^\W\d]\w*(?=:|$))?)(?::(.*))?", re.DOTALL)


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
    labels: Mapping[str, int | tuple[int, ...]] = {}
    group: str = ""
    problems: Mapping[str, int] = {}


class EncodedPictures:
    """The pictures of a source whose clips carry them encoded."""

    def __init__(self, source: Any, name: str):
        self._source, self.report = source, source.report
        self.classes = getattr(source, "classes", {})
        first = [source[i] for i in range(min(_LOOKED_AT, len(source)))]
        pictures = any(isinstance(clip.video, bytes) for clip in first)
        self._name = name
        if not pictures:
            raise self._refused()
        for clip in first:
            self._check(clip)

    @functools.cached_property
    def names(self) -> list[str] | None:
        """The names of the pictures; None of a source that knows them by its clips alone."""
        members = getattr(self._source, "members", None)
        names = [name for name, _ in members().names] if members else []
        return names if names and len(names) == len(self) else None

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> RawRecord:
        clip = self._source[index]
        self._check(clip)
        encoded = clip.video if isinstance(clip.video, bytes) else None
        if encoded is None and clip.video is not None:
            clip.video()  # raises BadInput for a picture that cannot be read
        return RawRecord(
            *(clip.clip_id, encoded or b"", "image", clip.captions, clip.labels, clip.group),
            problems=dict.fromkeys(clip.problems, 1),
        )

    def _check(self, clip: Clip) -> None:
        """Raises ConfigError for a clip with sound, which a record of a picture cannot hold."""
        if clip.audio is not None:
            raise self._refused(f" ({clip.clip_id!r} has sound)")

    def _refused(self, found: str = "") -> ConfigError:
        return ConfigError(
            f"source {self._name!r} cannot be prepared: it has no method raw, and its clips are "
            f"not pictures without sound{found}"
        )


class SourceChoice(NamedTuple):
    """A source as the command line names it: ``NAME`` or ``NAME:option=value,option=value``, where
    the name may also be ``module:Class``.
    """

    name: str
    options: dict[str, Any]


def choose(text: str, *, raw: bool) -> SourceChoice:
    """Parses the name of a source and its options.

    Args:
      text: as in ``SourceChoice``.
      raw: True for the options of the recordings, without ``split`` and ``of_clips``; False for
        those of ``Source``. Either way, only options with a number or a string as default.

    Raises:
      ConfigError: no such source, or an option that it does not have.
    """
    name, rest = _CHOICE.fullmatch(text).groups(default="")
    source = components.find("data.sources", name, key="--source")
    left_out = ("root", "split", *getattr(source, "of_clips", ())) if raw else ("root",)
    allowed = {
        option: default
        for option, default in components.options(source).items()
        if option not in left_out and isinstance(default, str | int | float)
    }
    given = variant(rest, **allowed)
    return SourceChoice(name, {key: given[key] for key in allowed if given[key] != allowed[key]})


def splits(chosen: SourceChoice, root: str) -> tuple[str, ...]:
    """The splits of a corpus that are prepared if no others are asked for.

    Raises:
      ConfigError: the source reads no files, or the corpus is missing or of another form.
    """
    source = components.find("data.sources", chosen.name, key="--source")
    options = components.options(source)
    if "root" not in options:
        raise ConfigError(f"source {chosen.name!r} cannot be prepared: it has no files")
    _demand_there(source, root)
    return source.splits(root) if hasattr(source, "splits") else (options.get("split") or WHOLE,)


def open_raw(chosen: SourceChoice, root: str, split: str) -> Any:
    """Opens the recordings of a split.

    Raises:
      ConfigError: anything of the corpus is missing or of another form.
    """
    source = components.find("data.sources", chosen.name, key="--source")
    has_splits = "split" in components.options(source)
    _demand_there(source, root)
    if not has_splits and split != WHOLE:
        raise ConfigError(f"--splits={split}: {chosen.name} has no splits; leave --splits out")
    given = {**chosen.options, "root": root}
    if has_splits:
        given["split"] = "" if split == WHOLE else split
    complete = components.check(source, given, key="--source")
    if hasattr(source, "raw"):
        return source(**complete, opened=False).raw()
    return EncodedPictures(source(**complete), chosen.name)


def _demand_there(source: Any, root: str) -> None:
    if not getattr(source, "is_there", os.path.exists)(root):
        raise ConfigError(f"--input={root} does not exist; give the folder of the corpus")
