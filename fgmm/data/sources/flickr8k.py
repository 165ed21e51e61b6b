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
import os
import pathlib
import re

from fgmm.config import ConfigError
from fgmm.data.corpora import files
from fgmm.data.sources import image_captions

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


class Source(image_captions.CaptionedImages):
    """One split of the corpus.

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
        images, texts = _open(root)
        names = self._distinct(self._lines(texts, SPLITS[split], root))
        if not names:
            raise ConfigError(f"root={root!r}: {SPLITS[split]} lists no images; {_LAYOUT}")
        folder = _image_folder(images, names, root)
        lines = self._lines(texts, _CAPTIONS, root)
        super().__init__(
            images,
            {name: f"{folder}/{name}" for name in names},
            image_captions.token_captions(lines, names, self.report),
            self.report,
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


def _image_folder(images: files.Folder | files.Archive, names: list[str], root: str) -> str:
    for folder in _IMAGE_FOLDERS:
        if any(f"{folder}/{name}" in images for name in names):
            return folder
    raise ConfigError(
        f"root={root!r} has no image of this split in {' or '.join(_IMAGE_FOLDERS)}; {_LAYOUT}"
    )


def _open(root: str) -> tuple[files.Folder | files.Archive, files.Folder | files.Archive]:
    """Where the images and where the texts are."""
    official = [pathlib.Path(root) / name for name in _OFFICIAL_ARCHIVES]
    if all(path.is_file() for path in official):
        return files.open_files(official[0]), files.open_files(official[1])
    found = files.open_files(root)
    return found, found
