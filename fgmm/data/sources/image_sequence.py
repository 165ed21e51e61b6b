"""Illustrated stories as slow narrated video: each page lasts a second, and its text is narration.

::

    stories.jsonl        {"id": "0004", "split": "train",
                          "pages": [{"page": 1, "image": "images/0004/01.jpg", "text": ...}, ...]}
    images/0004/01.jpg
"""

import collections
import dataclasses
import functools
import json
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import UInt8

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, images, labelled
from fgmm.data.corpora.ranges import Ranges
from fgmm.data.corpora.source import FileSource
from fgmm.data.fingerprint import Members
from fgmm.data.media import decode
from fgmm.data.schema import CROPPED, Caption, Clip, Resizing
from fgmm.data.text.captions import without_markup

_STORIES = "stories.jsonl"
_LAYOUT = f"the layout is {_STORIES}, images/<story>/<page>.jpg"


class Page(NamedTuple):
    """A page of a story: the path of its picture, and its text."""

    image: str
    text: str


# The id of a story, and its pages.
Story = tuple[str, list[Page]]


class Listing(NamedTuple):
    """The stories of a split, and what was left out."""

    corpus: files.Corpus
    stories: list[Story]
    report: files.Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(FileSource):
    """A clip is a page: pictures of it and of its neighbours, and the texts nearest to it.

    With one page and one candidate it is a picture with its text, as retrieval wants it. Can be
    pickled, and read by many threads.

    Attributes:
      report: ``malformed_line`` counts lines that are no stories, and pages without a picture;
        ``duplicate_id`` stories with the id of an earlier one; ``empty_caption`` pages of this
        split without text, whose clips have only the texts of neighbours.
    """

    split: str = option("train", help="Of the stories, as they say it.")
    pages: int = option(
        1, low=1, help="That a clip shows, around its own; all of a story that has fewer."
    )
    candidates: int = option(1, low=1, help="K, pages around the clip's own whose texts it has.")

    of_clips: ClassVar[tuple[str, ...]] = ("pages", "candidates")

    @classmethod
    def splits(cls, root: str) -> tuple[str, ...]:
        """The splits of the stories."""
        return tuple(sorted(_stories(root, files.Report())[1]))

    def open(self) -> None:
        """Reads the list."""
        if not self._listed.stories:
            raise ConfigError(
                f"root={self.root!r}: no story of split {self.split!r} has a page; {_LAYOUT}"
            )

    def listed(self) -> Listing:
        """Reads the list."""
        report = files.Report()
        corpus, stories = _stories(self.root, report)
        if self.split not in stories:
            allowed = ", ".join(sorted(stories))
            raise ConfigError(f"split={self.split!r} is unknown; allowed: {allowed}")
        found = [(name, pages) for name, pages in stories[self.split] if pages]
        report["empty_caption"] += sum(not page.text for _, pages in found for page in pages)
        return Listing(corpus, found, +report)

    def members(self) -> Members:
        """The pages."""
        shown = [page for _, pages in self._listed.stories for page in pages]
        names = ((page.image, page.image) for page in shown)
        return Members(self._listed.corpus, names, (page.text for page in shown))

    @functools.cached_property
    def _ranges(self) -> Ranges:
        """The pages of each story."""
        return Ranges(len(pages) for _, pages in self._listed.stories)

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, index: int) -> Clip:
        number, own = self._ranges.find(index)
        corpus, (name, pages) = self._listed.corpus, self._listed.stories[number]
        shown = around(own, self.pages, len(pages))
        said = around(own, self.candidates, len(pages))
        return Clip(
            clip_id=pages[own].image,
            video=(
                images.encoded(corpus, pages[own].image)
                if self.pages == 1
                else _PagesShown(corpus, tuple(pages[i].image for i in shown))
            ),
            captions=tuple(
                Caption(pages[i].text, float(i - shown.start), i - shown.start + 1.0)
                for i in said
                if pages[i].text
            ),
            group=name,
        )


def _stories(root: str, report: files.Report) -> tuple[files.Corpus, dict[str, list[Story]]]:
    """The corpus, and its stories by split."""
    corpus = labelled.open_root(root, _LAYOUT, _STORIES)
    stories: dict[str, list[Story]] = collections.defaultdict(list)
    known: set[str] = set()
    for line in labelled.read_lines(corpus, _STORIES):
        try:
            story = json.loads(line)
            name, split = story["id"], story["split"]
            if not isinstance(name, str) or not isinstance(split, str):
                raise TypeError
            pages = [_page(page, report) for page in story["pages"]]
            if name in known:
                report["duplicate_id"] += 1
                continue
            stories[split].append((name, [page for page in pages if page]))
            known.add(name)
        except (ValueError, KeyError, TypeError, RecursionError):
            report["malformed_line"] += 1
    return corpus, stories


def around(index: int, count: int, whole: int) -> range:
    """``count`` neighbouring indices out of ``whole``, with ``index`` in the middle, or off the
    middle near the ends. All indices if ``whole`` is less than ``count``.

    >>> around(5, 3, 10), around(0, 3, 10), around(9, 3, 10), around(1, 9, 4)
    (range(4, 7), range(0, 3), range(7, 10), range(0, 4))
    """
    first = max(0, min(index - (count - 1) // 2, whole - count))
    return range(first, min(whole, first + count))


@dataclasses.dataclass(frozen=True)
class _PagesShown:
    """Pages as the pictures of a clip."""

    corpus: files.Corpus
    paths: tuple[str, ...]

    def fill(self, out: UInt8[np.ndarray, "T H W 3"], resizing: Resizing = CROPPED) -> None:
        """Writes T pages, chosen as in ``decode.fit_frames``."""
        for i, chosen in enumerate(decode.chosen_frames(len(self.paths), len(out)).tolist()):
            data = files.contents(self.corpus, self.paths[chosen], "unreadable_video")
            out[i] = decode.read_image(data, *out.shape[1:3], resizing)[0]

    def frames(self, count: int, size: int) -> UInt8[np.ndarray, "t h w 3"]:
        """All pages, but at most ``count``, cropped to squares of ``size`` pixels."""
        out = np.empty((min(count, len(self.paths)), size, size, 3), np.uint8)
        self.fill(out)
        return out


def _page(entry: Any, report: files.Report) -> Page | None:
    image, text = (entry.get("image"), entry.get("text")) if isinstance(entry, dict) else ("", "")
    if isinstance(image, str) and image:
        return Page(image, without_markup(text) if isinstance(text, str) else "")
    report["malformed_line"] += 1
    return None
