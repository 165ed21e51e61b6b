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
Loader: github.com/fartashf/vsepp, data.py; evaluation.py there cuts the 5,000 test images of COCO
into five galleries of 1,000, in order (``folds=5`` of retrieval).
"""

import collections
import dataclasses
import posixpath

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, images, labelled
from fgmm.data.schema import Caption
from fgmm.data.text.captions import without_markup

_JSON = ("dataset_coco.json", "dataset_flickr30k.json", "dataset_flickr8k.json", "dataset.json")
_TOKENS = ("results_20130124.token", "Flickr8k.token.txt")
_LAYOUT = f"the layout is {_JSON[0]} or {_TOKENS[0]}, <folders>/*.jpg"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(images.CaptionedImages):
    """One split, or several. ``clip_id`` is the image's path as the annotations have it.

    With a JSON file ``split`` is one of its splits, or several joined by ``+``: those of COCO are
    ``train``, ``restval``, ``val`` and ``test``, and published models are trained on
    ``train+restval``. With a token file ``split`` is the name of a text file in the corpus that
    lists images, with their endings or without. ``all`` takes all images.
    """

    split: str = option("train", help="One or several of the annotations, a list, or all.")
    annotations: str = option(
        "", help="Path below root of the JSON or token file; empty for the one of a name above."
    )

    def listed(self) -> images.ListedImages:
        """Reads the annotations."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        path = self.annotations or _only(corpus, self.root)
        read = _karpathy if path.lower().endswith(".json") else _listed
        captions = read(corpus, path, self.split, report)
        if not captions:
            raise ConfigError(f"root={self.root!r}: {path} lists no image of split={self.split!r}")
        present: dict[str, list[str]] = collections.defaultdict(list)
        for name in corpus.names():
            if posixpath.splitext(name)[1].lower() in files.IMAGE_ENDINGS:
                present[posixpath.basename(name)].append(name)
        paths = {}
        for name in captions:
            found = [name] if name in corpus else present.get(posixpath.basename(name), [name])
            # The annotations may be in a folder that is not at the top.
            found = [path for path in found if path.endswith(f"/{name}")] or found
            paths[name] = found[0]
            report["duplicate_id"] += len(found) - 1
        return images.ListedImages(corpus, paths, captions, +report)


def _only(corpus: files.Corpus, root: str) -> str:
    """The one file of annotations; token files count where there is no JSON."""
    found = files.find(corpus, _JSON) or files.find(corpus, _TOKENS)[:1]
    if len(found) != 1:
        if found:
            raise ConfigError(
                f"root={root!r}: set annotations to one of {', '.join(found)}; {_LAYOUT}"
            )
        known = ", ".join(_JSON + _TOKENS)
        raise ConfigError(f"root={root!r}: found none of {known}; set annotations; {_LAYOUT}")
    return found[0]


def _karpathy(
    corpus: files.Corpus, path: str, split: str, report: files.Report
) -> dict[str, tuple[Caption, ...]]:
    """The captions of the images of a split of a JSON file, by their paths in it."""
    content = files.read_json(corpus, path)
    where = f"root={str(corpus.path)!r}: {path}"
    listed = content.get("images") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ConfigError(f'{where} is not of the form {{"images": [...]}}')
    named = [entry.get("split") for entry in listed if isinstance(entry, dict)]
    known = {name for name in named if isinstance(name, str)}
    wanted = known if split == "all" else set(split.split("+"))
    for name in sorted(wanted - known):
        allowed = ", ".join([*sorted(known), "all"])
        raise ConfigError(f"split={name!r} is unknown to {path}; allowed: {allowed}")
    captions: dict[str, tuple[Caption, ...]] = {}
    for entry in listed:
        try:
            if entry["split"] in wanted:
                name = posixpath.join(entry.get("filepath") or "", entry["filename"])
                texts = [without_markup(sentence["raw"]) for sentence in entry["sentences"]]
                if name in captions:
                    report["duplicate_id"] += 1
                    continue
                report["empty_caption"] += texts.count("")
                captions[name] = tuple(Caption(text) for text in texts if text)
        except (KeyError, TypeError, AttributeError):
            report["malformed_line"] += 1
    return captions


def _listed(
    corpus: files.Corpus, path: str, split: str, report: files.Report
) -> dict[str, tuple[Caption, ...]]:
    """The captions in a token file of the images that the list ``split`` names, by these names."""
    lines = labelled.read_lines(corpus, path)
    if split == "all":
        names = {match[1]: None for line in lines if (match := images.CAPTION_LINE.fullmatch(line))}
    else:
        found = files.find(corpus, [split])
        if not found:
            raise ConfigError(
                f"split={split!r} is no file in {str(corpus.path)!r}; {path} knows no splits, so "
                "name a text file that lists images, or all"
            )
        listed = labelled.read_lines(corpus, found[0])
        given = [name if posixpath.splitext(name)[1] else f"{name}.jpg" for name in listed]
        names = dict.fromkeys(given)
        report["duplicate_id"] += len(given) - len(names)
    return images.token_captions(lines, names, report)
