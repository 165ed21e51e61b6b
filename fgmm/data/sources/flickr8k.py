"""Images with five captions each, in the official layout of Flickr8k.

::

    Flicker8k_Dataset/<image>.jpg        (also Flickr8k_Dataset)
    Flickr8k.token.txt                   <image>.jpg#<number><TAB><caption>
    Flickr_8k.trainImages.txt            one <image>.jpg a line
    Flickr_8k.devImages.txt
    Flickr_8k.testImages.txt

Hodosh, Young, Hockenmaier: Framing Image Description as a Ranking Task, JAIR 47, 2013.
"""

import collections
import dataclasses
import os
import pathlib
import re
from typing import NoReturn

from fgmm.config import ConfigError
from fgmm.data import files
from fgmm.data.schema import BadInput, Caption, Clip

SPLITS = {
    "train": "Flickr_8k.trainImages.txt",
    "dev": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_CAPTIONS = "Flickr8k.token.txt"
_IMAGE_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset")
_OFFICIAL_ARCHIVES = ("Flickr8k_Dataset.zip", "Flickr8k_text.zip")
_LAYOUT = f"the layout is {_IMAGE_FOLDERS[0]}/, {_CAPTIONS}, {', '.join(SPLITS.values())}"
_IMAGE_NAME = re.compile(r"[^/\\\0#\t]*\.\w+")
_CAPTION_LINE = re.compile(r"([^#\t]+)#\d+\t(.*)")


@dataclasses.dataclass(frozen=True)
class _Unreadable:
    """The frames of an image whose file cannot be read."""

    reason: str
    detail: str

    def __call__(self) -> NoReturn:
        raise BadInput(self.reason, self.detail)


class Source:
    """One split of the corpus; a clip is an image with its captions, in the order of the files.

    An image that the split lists and the corpus lacks stays, as a clip whose video raises
    ``BadInput("missing_file")``; an image without captions has none. Can be pickled, and read by
    many threads.

    Attributes:
      report: lines left out. ``malformed_line`` counts lines of either text file that cannot be
        understood, ``empty_caption`` captions of this split without words.
    """

    def __init__(self, *, root: str, split: str = "train"):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, the same as one tar or zip file, or a folder with
            the two official archives ``Flickr8k_Dataset.zip`` and ``Flickr8k_text.zip``.
          split: ``train``, ``dev`` or ``test``.

        Raises:
          ConfigError: an unknown split, or a missing or unreadable root, list or caption file.
        """
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
        if not root or not os.path.exists(root):
            raise ConfigError(
                f"root={root!r} does not exist; give the folder or archive of Flickr8k: {_LAYOUT}"
            )
        self.report: collections.Counter[str] = collections.Counter()
        self._images, texts = _open(root)
        names = self._lines(texts, SPLITS[split], root)
        self._names = self._distinct(names)
        if not self._names:
            raise ConfigError(f"root={root!r}: {SPLITS[split]} lists no images; {_LAYOUT}")
        self._folder = self._image_folder(root)
        self._captions = self._read_captions(self._lines(texts, _CAPTIONS, root))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Clip:
        name = self._names[index]
        return Clip(
            clip_id=name,
            video=self._image(name),
            captions=self._captions.get(name, ()),
        )

    def _image(self, name: str) -> bytes | _Unreadable:
        path = f"{self._folder}/{name}"
        try:
            return self._images.read(path)
        except FileNotFoundError:
            return _Unreadable("missing_file", path)
        except OSError as error:
            return _Unreadable("unreadable_video", str(error))

    def _image_folder(self, root: str) -> str:
        for folder in _IMAGE_FOLDERS:
            if any(f"{folder}/{name}" in self._images for name in self._names):
                return folder
        raise ConfigError(
            f"root={root!r} has no image of this split in {' or '.join(_IMAGE_FOLDERS)}; {_LAYOUT}"
        )

    def _lines(self, texts: files.Folder | files.Archive, name: str, root: str) -> list[str]:
        """The lines of a text file that are not blank; those that are no UTF-8 are counted."""
        try:
            data = texts.read(name)
        except OSError as error:
            raise ConfigError(f"root={root!r} has no readable {name}; {_LAYOUT}") from error
        lines = []
        for line in data.removeprefix(b"\xef\xbb\xbf").splitlines():
            try:
                lines.append(line.decode("utf-8"))
            except UnicodeDecodeError:
                self.report["malformed_line"] += 1
        return [line for line in lines if line.strip()]

    def _distinct(self, lines: list[str]) -> list[str]:
        names: dict[str, None] = {}
        for line in lines:
            name = line.strip()
            if name in names or not _IMAGE_NAME.fullmatch(name):
                self.report["malformed_line"] += 1
            else:
                names[name] = None
        return list(names)

    def _read_captions(self, lines: list[str]) -> dict[str, tuple[Caption, ...]]:
        captions: dict[str, list[Caption]] = {name: [] for name in self._names}
        for line in lines:
            match = _CAPTION_LINE.fullmatch(line)
            if not match:
                self.report["malformed_line"] += 1
            elif match[1] in captions:
                text = match[2].strip()
                if text:
                    captions[match[1]].append(Caption(text))
                else:
                    self.report["empty_caption"] += 1
        return {name: tuple(found) for name, found in captions.items()}


def _open(root: str) -> tuple[files.Folder | files.Archive, files.Folder | files.Archive]:
    """Where the images and where the texts are."""
    official = [pathlib.Path(root) / name for name in _OFFICIAL_ARCHIVES]
    if all(path.is_file() for path in official):
        return files.open_files(official[0]), files.open_files(official[1])
    found = files.open_files(root)
    return found, found
