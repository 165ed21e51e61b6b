"""What sources that read a corpus from disk have in common."""

import collections
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable
from typing import Any, ClassVar

from fgmm import remote
from fgmm.config.option import check_options, option
from fgmm.data.fingerprint import Fingerprint, Members, encoded, of_members
from fgmm.data.preparation.raw import WHOLE

SPLITS = ("train", "validation")
SECONDS = "Of a window; data.seconds unless it is set."


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileSource:
    """A source that reads a corpus from disk.

    Fields are the options; a subclass adds its own. Sources with equal options are equal. Cached
    properties keep what is read of the corpus.

    Attributes:
      opened: False reads nothing yet, for ``fgmm.data.prepare``, which needs only the lists of a
        corpus.
      of_clips: the options that say which clips are made of a recording. ``fgmm.data.prepare``
        takes recordings as they are and does not offer these options.
    """

    root: str = option(help="The folder of the corpus, or the same as one tar or zip file.")
    opened: dataclasses.InitVar[bool] = True
    of_clips: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self, opened: bool):
        """Opens the corpus.

        Raises:
          ConfigError: an option makes no sense, or something of the corpus is missing or of another
            form.
        """
        check_options(self)
        remote.refuse(self.root, "root")
        # A shell does not expand ``~`` after ``=``.
        object.__setattr__(self, "root", os.path.expanduser(self.root))
        if opened:
            self.open()

    def open(self) -> None:
        """Reads all that clips are made of except media. Raises ConfigError if that fails."""
        raise NotImplementedError

    def listed(self) -> Any:
        """Reads the lists of the corpus and opens no media. The result has a ``report`` of what was
        left out.

        Raises:
          ConfigError: a list is missing or of another form.
        """
        raise NotImplementedError

    def members(self) -> Members:
        """The clips, or the recordings that they are made of, and their files."""
        raise NotImplementedError

    def fingerprint(self) -> Fingerprint:
        """As ``fgmm.data.fingerprint.of_members``."""
        return of_members(len(self), self.members())

    @functools.cached_property
    def _listed(self) -> Any:
        return self.listed()

    @property
    def report(self) -> collections.Counter[str]:
        """What was left out, by reason."""
        return self._listed.report

    @classmethod
    def is_there(cls, root: str) -> bool:
        """Whether there is anything at ``root`` to be opened."""
        return os.path.exists(root)

    @classmethod
    def splits(cls, root: str) -> tuple[str, ...]:
        """The splits that ``fgmm.data.prepare`` takes if no others are asked for: all choices of
        the option ``split``, or its default where any name is allowed.
        """
        del root
        for field in dataclasses.fields(cls):
            if field.name == "split":
                return field.metadata.get("choices") or (field.default or WHOLE,)
        return (WHOLE,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitByName(FileSource):
    """A source whose splits are decided by the names of the files alone. A file stays in its split
    when others are added, unless there are only a few files: see ``border_of``.
    """

    split: str = option("train", choices=SPLITS)
    validation: float = option(
        0.1, low=0, high=1, help="Share of the files in the split ``validation``."
    )

    def has(self, name: str, border: float | None = None) -> bool:
        """Whether a file is in the split; ``border`` replaces ``validation``, if given."""
        border = self.validation if border is None else border
        return (place(name) < border) == (self.split == "validation")

    def border_of(self, found: Iterable[float]) -> float:
        """The place below which files are in ``validation``. It is the option ``validation``, moved
        if needed so that of two or more files each split has one, unless the option is 0 or 1.

        Args:
          found: the places of the files, or at least the first two and the last.
        """
        places = sorted(set(found))
        if len(places) < 2 or self.validation in (0, 1):
            return self.validation
        # The first place is always below the border, the last never.
        return min(max(self.validation, places[1]), places[-1])


def place(name: str) -> float:
    """A number from 0 to 1 that depends on nothing but a file's name without its ending."""
    stem = os.path.splitext(name)[0]
    digest = hashlib.sha256(encoded(stem)).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def left_out(report: collections.Counter[str]) -> str:
    """What was left out of a corpus, by reason, for an error."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(report.items()))
