"""Images with captions: Flickr8k, Flickr30k and COCO, by the splits of Karpathy's JSON files.

::

    dataset_coco.json            {"images": [{"filepath": "val2014", "filename": ...,
                                     "split": "test", "sentences": [{"raw": ...}, ...]}, ...]}
    val2014/<filename>           images, in folders of any names

    results_20130124.token       or a token file: <image>.jpg#<number><TAB><caption>
    train.txt                    split="train.txt" takes the images that it lists, one a line

Karpathy, Fei-Fei: Deep Visual-Semantic Alignments for Generating Image Descriptions, CVPR 2015.
Young, Lai, Hodosh, Hockenmaier: From Image Descriptions to Visual Denotations, TACL 2014.
Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014, arXiv 1405.0312.
"""

import collections
import dataclasses
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

from fgmm.config import ConfigError
from fgmm.data.corpora import files, labelled
from fgmm.data.schema import BadInput, Caption, Clip

_JSON = ("dataset_coco.json", "dataset_flickr30k.json", "dataset_flickr8k.json", "dataset.json")
_TOKENS = ("results_20130124.token", "Flickr8k.token.txt")
_LAYOUT = f"the layout is {_JSON[0]} or {_TOKENS[0]}, <folders>/*.jpg"
_CAPTION_LINE = re.compile(r"([^#\t]+)#\d+\t(.*)")


@dataclasses.dataclass(frozen=True)
class _Unreadable:
    """The frames of an image whose file cannot be read."""

    reason: str
    detail: str

    def __call__(self) -> NoReturn:
        raise BadInput(self.reason, self.detail)


def encoded(corpus: files.Folder | files.Archive, path: str) -> bytes | _Unreadable:
    """The contents of an image for ``Clip.video``; where there are none, what says so when read."""
    try:
        return read(corpus, path)
    except BadInput as error:
        return _Unreadable(error.reason, path)


def read(corpus: files.Folder | files.Archive, path: str) -> bytes:
    """The contents of an image.

    Raises:
      BadInput: ``missing_file`` or ``unreadable_video``.
    """
    try:
        if files.leads_out(path):
            raise FileNotFoundError(path)
        return corpus.read(path)
    except FileNotFoundError as error:
        raise BadInput("missing_file", path) from error
    except OSError as error:
        raise BadInput("unreadable_video", str(error)) from error


class CaptionedImages:
    """A source of images; a clip is one with its captions, in the order of the files.

    An image that the split lists and the corpus lacks stays, as a clip whose video raises
    ``BadInput("missing_file")``; an image without captions has none. Can be pickled, and read by
    many threads.

    Attributes:
      report: lines or entries left out. ``malformed_line`` counts those that cannot be understood,
        ``empty_caption`` captions of this split without words.
    """

    def __init__(
        self,
        corpus: files.Folder | files.Archive,
        paths: Mapping[str, str],
        captions: Mapping[str, tuple[Caption, ...]],
        report: collections.Counter[str],
    ):
        """Opens nothing.

        Args:
          corpus: where the images are.
          paths: of the images of the split in their order, by the name of each, its ``clip_id``.
          captions: by name.
          report: to be continued.
        """
        self.report = +report
        self._corpus, self._captions = corpus, captions
        self._images = list(paths.items())

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Clip:
        name, path = self._images[index]
        return Clip(
            clip_id=name,
            video=encoded(self._corpus, path),
            captions=self._captions.get(name, ()),
        )


class Source(CaptionedImages):
    """One split, or several. ``clip_id`` is the image's path as the annotations say it."""

    def __init__(self, *, root: str, split: str = "train", annotations: str = ""):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, or the same as one tar or zip file.
          split: with a JSON file one of its splits, or several joined by ``+``: those of COCO are
            ``train``, ``restval``, ``val`` and ``test``, and published models are trained on
            ``train+restval``. With a token file the name of a text file in the corpus that lists
            images, with their endings or without. ``all`` for all images.
          annotations: path below ``root`` of the JSON or token file; empty for the one that is
            there under one of the names above.

        Raises:
          ConfigError: a missing or unreadable root or file, several files to choose from, or an
            unknown split.
        """
        corpus = labelled.open_root(root, _LAYOUT)
        report: collections.Counter[str] = collections.Counter()
        path = annotations or _only(corpus, root)
        if path.endswith(".json"):
            captions = _karpathy(corpus, path, split, report)
        else:
            captions = _listed(corpus, path, split, report)
        if not captions:
            raise ConfigError(f"root={root!r}: {path} lists no image of split={split!r}")
        present = {
            posixpath.basename(name): name
            for name in corpus.names()
            if posixpath.splitext(name)[1].lower() in files.IMAGE_ENDINGS
        }
        paths = {
            name: name if name in corpus else present.get(posixpath.basename(name), name)
            for name in captions
        }
        super().__init__(corpus, paths, captions, report)


def _only(corpus: files.Folder | files.Archive, root: str) -> str:
    """The one file of annotations; token files count where there is no JSON."""
    found = files.find(corpus, _JSON) or files.find(corpus, _TOKENS)[:1]
    if len(found) != 1:
        what = f"are {', '.join(found)}" if found else f"is none of {', '.join(_JSON + _TOKENS)}"
        raise ConfigError(f"root={root!r}: annotations must be set, as there {what}; {_LAYOUT}")
    return found[0]


def _karpathy(
    corpus: files.Folder | files.Archive, path: str, split: str, report: collections.Counter[str]
) -> dict[str, tuple[Caption, ...]]:
    """The captions of the images of a split of a JSON file, by their paths in it."""
    content = files.read_json(corpus, path)
    where = f"root={str(corpus.path)!r}: {path}"
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise ConfigError(f'{where} is not of the form {{"images": [...]}}')
    named = [entry.get("split") for entry in images if isinstance(entry, dict)]
    known = {name for name in named if isinstance(name, str)}
    wanted = known if split == "all" else set(split.split("+"))
    for name in sorted(wanted - known):
        allowed = ", ".join([*sorted(known), "all"])
        raise ConfigError(f"split={name!r} is unknown to {path}; allowed: {allowed}")
    captions: dict[str, tuple[Caption, ...]] = {}
    for entry in images:
        try:
            if entry["split"] in wanted:
                name = posixpath.join(entry.get("filepath") or "", entry["filename"])
                texts = [" ".join(sentence["raw"].split()) for sentence in entry["sentences"]]
                report["empty_caption"] += texts.count("")
                captions[name] = tuple(Caption(text) for text in texts if text)
        except (KeyError, TypeError, AttributeError):
            report["malformed_line"] += 1
    return captions


def _listed(
    corpus: files.Folder | files.Archive, path: str, split: str, report: collections.Counter[str]
) -> dict[str, tuple[Caption, ...]]:
    """The captions of the images that a list names, by these names."""
    lines = labelled.read_lines(corpus, path)
    if split == "all":
        names = {match[1]: None for line in lines if (match := _CAPTION_LINE.fullmatch(line))}
    else:
        found = files.find(corpus, [split])
        if not found:
            raise ConfigError(
                f"split={split!r} is no file in {str(corpus.path)!r}; {path} knows no splits, so "
                "name a text file that lists images, or all"
            )
        listed = labelled.read_lines(corpus, found[0])
        names = {name if posixpath.splitext(name)[1] else f"{name}.jpg": None for name in listed}
    return token_captions(lines, names, report)


def token_captions(
    lines: Iterable[str], names: Iterable[str], report: collections.Counter[str]
) -> dict[str, tuple[Caption, ...]]:
    """The captions of images in a token file.

    Args:
      lines: of the file, ``<image>#<number><TAB><caption>``.
      names: of the images wanted.
      report: counts other lines as ``malformed_line``, and of the images wanted captions without
        words as ``empty_caption``.
    """
    captions: dict[str, list[Caption]] = {name: [] for name in names}
    for line in lines:
        match = _CAPTION_LINE.fullmatch(line)
        if not match:
            report["malformed_line"] += 1
        elif match[1] in captions:
            text = match[2].strip()
            if text:
                captions[match[1]].append(Caption(text))
            else:
                report["empty_caption"] += 1
    return {name: tuple(found) for name, found in captions.items()}
