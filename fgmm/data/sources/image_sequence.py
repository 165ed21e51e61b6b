"""Illustrated stories, as slow narrated video: a page is a second, its text is what is said.

::

    stories.jsonl        {"id": "0004", "split": "train",
                          "pages": [{"page": 1, "image": "images/0004/01.jpg", "text": ...}, ...]}
    images/0004/01.jpg
"""

import collections
import dataclasses
import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from fgmm.config import ConfigError
from fgmm.data.corpora import files, labelled
from fgmm.data.media import decode
from fgmm.data.preparation import raw
from fgmm.data.schema import Caption, Clip
from fgmm.data.sources import image_captions

_STORIES = "stories.jsonl"
_LAYOUT = f"the layout is {_STORIES}, images/<story>/<page>.jpg"


class Page(NamedTuple):
    """A page of a story: the path of its picture, and its text."""

    image: str
    text: str


class Source:
    """A clip is a page: pictures of it and of its neighbours, and the texts nearest to it.

    With one frame and one candidate it is a picture with its text, as retrieval wants it. Can be
    pickled, and read by many threads.

    Attributes:
      report: ``malformed_line`` counts lines that are no stories, and pages without a picture;
        ``empty_caption`` pages of this split without text, whose clips have that of neighbours
        alone.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str = "train",
        frames: int = 1,
        candidates: int = 1,
        size: int = 224,
    ):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, or the same as one tar or zip file.
          split: of the stories, as they say it.
          frames: T, pages that follow each other around the clip's own. A story with fewer gives
            all that it has.
          candidates: K, pages around the clip's own whose texts it has.
          size: with several frames, pictures are cropped to a square of this many pixels; a single
            one stays as it is.

        Raises:
          ConfigError: a missing or unreadable root or list, an unknown split, or an option that
            makes no sense.
        """
        labelled.demand_positive(frames=frames, candidates=candidates, size=size)
        self._corpus = labelled.open_root(root, _LAYOUT, _STORIES)
        self.report: collections.Counter[str] = collections.Counter()
        self._frames, self._candidates, self._size = frames, candidates, size
        stories = _stories(self._corpus, self.report)
        labelled.demand_known(sorted(stories), split=split)
        self._stories = [(name, pages) for name, pages in stories[split] if pages]
        self._ends = np.cumsum([len(pages) for _, pages in self._stories])
        self.report["empty_caption"] += sum(not p.text for _, ps in self._stories for p in ps)
        self.report = +self.report
        if not self._stories:
            raise ConfigError(f"root={root!r}: no story of split {split!r} has a page; {_LAYOUT}")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Clip:
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        name, pages = self._stories[number]
        own = index - int(self._ends[number]) + len(pages)
        shown = around(own, self._frames, len(pages))
        if self._frames == 1:
            video: bytes | Callable = image_captions.encoded(self._corpus, pages[own].image)
        else:
            video = _Pictures(self._corpus, tuple(pages[i].image for i in shown), self._size)
        said = around(own, self._candidates, len(pages))
        return Clip(
            clip_id=pages[own].image,
            video=video,
            captions=tuple(
                Caption(pages[i].text, float(i - shown.start), i - shown.start + 1.0)
                for i in said
                if pages[i].text
            ),
            group=name,
        )


class Raw(raw.Pictures):
    """The pages of one split for ``fgmm.data.prepare``: each a picture with its text alone, and its
    story as group.
    """

    def __init__(self, *, root: str, split: str = "train"):
        """Reads the list; the arguments are those of ``Source``."""
        super().__init__(Source(root=root, split=split), "image_sequence")

    @staticmethod
    def splits(root: str) -> tuple[str, ...]:
        """Those that stories are in."""
        corpus = labelled.open_root(root, _LAYOUT, _STORIES)
        return tuple(sorted(_stories(corpus, collections.Counter())))


def _stories(
    corpus: files.Folder | files.Archive, report: collections.Counter[str]
) -> dict[str, list[tuple[str, list[Page]]]]:
    """Names and pages of the stories, by split."""
    stories: dict[str, list[tuple[str, list[Page]]]] = collections.defaultdict(list)
    for line in labelled.read_lines(corpus, _STORIES):
        try:
            story = json.loads(line)
            pages = [_page(page, report) for page in story["pages"]]
            stories[story["split"]].append((story["id"], [page for page in pages if page]))
        except (ValueError, KeyError, TypeError, RecursionError):
            report["malformed_line"] += 1
    return stories


def around(index: int, count: int, whole: int) -> range:
    """``count`` neighbours with ``index`` in their middle, of ``whole``; nearer its ends it is not
    in their middle, and of fewer there are all.

    >>> around(5, 3, 10), around(0, 3, 10), around(9, 3, 10), around(1, 9, 4)
    (range(4, 7), range(0, 3), range(7, 10), range(0, 4))
    """
    first = max(0, min(index - (count - 1) // 2, whole - count))
    return range(first, min(whole, first + count))


@dataclasses.dataclass(frozen=True)
class _Pictures:
    """Pages as the frames of a clip."""

    corpus: files.Folder | files.Archive
    paths: tuple[str, ...]
    size: int

    def __call__(self) -> UInt8[np.ndarray, "T h w 3"]:
        frames = []
        for path in self.paths:
            data = image_captions.read(self.corpus, path)
            frames.append(decode.read_image(data, self.size, self.size)[0])
        return np.stack(frames)


def _page(entry: dict, report: collections.Counter[str]) -> Page | None:
    image, text = entry.get("image"), entry.get("text")
    if isinstance(image, str) and image:
        return Page(image, " ".join(text.split()) if isinstance(text, str) else "")
    report["malformed_line"] += 1
    return None
