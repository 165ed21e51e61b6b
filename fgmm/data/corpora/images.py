"""Corpora of pictures with captions."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, narrations
from fgmm.data.corpora.source import FileSource
from fgmm.data.fingerprint import Members
from fgmm.data.schema import BadInput, Caption, Clip, Unreadable

CAPTION_LINE = re.compile(r"([^#\t]+)#\d+\t(.*)")


class ListedImages(NamedTuple):
    """What the lists of a corpus say of the images of a split.

    Attributes:
      corpus: where the images are.
      paths: of the images, in order, by name; the name is the ``clip_id``.
      captions: of the images, by name.
      report: what was left out, by reason.
    """

    corpus: files.Corpus
    paths: Mapping[str, str]
    captions: Mapping[str, tuple[Caption, ...]]
    report: files.Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionedImages(FileSource):
    """A source of images. A clip is an image with its captions, in the order of the lists.

    An image that the split lists and the corpus lacks stays, as a clip whose video raises
    ``BadInput("missing_file")``. An image without captions stays too. Can be pickled, and read by
    many threads.

    Attributes:
      report: lines or entries left out. ``malformed_line`` counts those that cannot be understood,
        ``empty_caption`` captions of this split without words.
    """

    start: int = option(0, low=0, help="The first image, in the order of the split.")
    stop: int = option(0, low=0, help="The image after the last; 0 for all to the end.")

    def open(self) -> None:
        """Reads the lists.

        Raises:
          ConfigError: ``start`` and ``stop`` leave no image.
        """
        if not self._names and self._listed.paths:
            raise ConfigError(
                f"root={self.root!r} holds no image from start={self.start} to stop={self.stop}; "
                f"the split has {len(self._listed.paths)}"
            )

    @functools.cached_property
    def _names(self) -> list[str]:
        return list(self._listed.paths)[self.start : self.stop or None]

    def members(self) -> Members:
        """The images."""
        names, listed = self._names, self._listed
        said = (caption.text for name in names for caption in listed.captions.get(name, ()))
        return Members(listed.corpus, {name: listed.paths[name] for name in names}.items(), said)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Clip:
        name, listed = self._names[index], self._listed
        return Clip(
            clip_id=name,
            video=encoded(listed.corpus, listed.paths[name]),
            captions=listed.captions.get(name, ()),
        )


def encoded(corpus: files.Corpus, path: str) -> bytes | Unreadable:
    """The contents of an image for ``Clip.video``; ``Unreadable`` if it cannot be read."""
    try:
        return files.contents(corpus, path, "unreadable_video")
    except BadInput as error:
        return Unreadable(error.reason, path)


def token_captions(
    lines: Iterable[str], names: Iterable[str], report: files.Report
) -> dict[str, tuple[Caption, ...]]:
    """The captions of images in a token file.

    Args:
      lines: of the file, ``<image>#<number><TAB><caption>``.
      names: of the images wanted.
      report: counts other lines as ``malformed_line``, and captions without words of the images
        wanted as ``empty_caption``.
    """
    captions: dict[str, list[Caption]] = {name: [] for name in names}
    for line in lines:
        match = CAPTION_LINE.fullmatch(line)
        if not match:
            report["malformed_line"] += 1
        elif match[1] in captions:
            captions[match[1]] += narrations.untimed([match[2]], report)
    return {name: tuple(found) for name, found in captions.items()}
