"""Images with five captions each, in the official layout of Flickr8k.

::

    Flicker8k_Dataset/<image>.jpg        (also Flickr8k_Dataset)
    Flickr8k.token.txt                   <image>.jpg#<number><TAB><caption>
    Flickr_8k.trainImages.txt            one <image>.jpg a line
    Flickr_8k.devImages.txt
    Flickr_8k.testImages.txt

Hodosh, Young, Hockenmaier: Framing Image Description as a Ranking Task, JAIR 47, 2013.
"""

import dataclasses
import os
import pathlib
import re

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, images

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(images.CaptionedImages):
    """One split of the corpus. ``root`` may also be a folder with the two official archives
    ``Flickr8k_Dataset.zip`` and ``Flickr8k_text.zip``.

    Attributes:
      report: lines left out. ``malformed_line`` counts lines of either text file that cannot be
        understood, ``duplicate_id`` images that the split lists again, ``empty_caption`` captions
        of this split without words.
    """

    split: str = option("train", choices=tuple(SPLITS))

    def listed(self) -> images.ListedImages:
        """Reads the captions and the list of the split."""
        root, listing = self.root, SPLITS[self.split]
        if not root or not os.path.exists(root):
            raise ConfigError(
                f"root={root!r} does not exist; give the folder or archive of Flickr8k: {_LAYOUT}"
            )
        report = files.Report()
        corpus, texts = _open(root)
        names = _distinct(_lines(texts, listing, root, report), report)
        if not names:
            raise ConfigError(f"root={root!r}: {listing} lists no images; {_LAYOUT}")
        folder = _image_folder(corpus, names, root)
        captions = images.token_captions(_lines(texts, _CAPTIONS, root, report), names, report)
        paths = {name: f"{folder}/{name}" for name in names}
        return images.ListedImages(corpus, paths, captions, +report)


def _lines(texts: files.Corpus, name: str, root: str, report: files.Report) -> list[str]:
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
            report["malformed_line"] += 1
    return [line for line in lines if line.strip()]


def _distinct(lines: list[str], report: files.Report) -> list[str]:
    names: dict[str, None] = {}
    for line in lines:
        name = line.strip()
        if not _IMAGE_NAME.fullmatch(name):
            report["malformed_line"] += 1
        elif name in names:
            report["duplicate_id"] += 1
        else:
            names[name] = None
    return list(names)


def _image_folder(corpus: files.Corpus, names: list[str], root: str) -> str:
    for folder in _IMAGE_FOLDERS:
        if any(f"{folder}/{name}" in corpus for name in names):
            return folder
    raise ConfigError(
        f"root={root!r} has no image of this split in {' or '.join(_IMAGE_FOLDERS)}; {_LAYOUT}"
    )


def _open(root: str) -> tuple[files.Corpus, files.Corpus]:
    """Where the images and where the texts are."""
    official = [pathlib.Path(root) / name for name in _OFFICIAL_ARCHIVES]
    if all(path.is_file() for path in official):
        return files.open_files(official[0]), files.open_files(official[1])
    found = files.open_files(root)
    return found, found
