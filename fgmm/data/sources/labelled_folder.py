"""Video or sound files in a folder for each class, or named by a table.

::

    cooking/a.mp4                      a class, a folder
    cooking/kitchen2/b.mp4             files in one folder below it stay on one side of a split
    test/cooking/c.mp4                 with split="test", classes are in a folder of that name
    train.txt                          listing="train.txt" takes the files that it names, one a line
    clips.csv                          filename,label with, if wanted, split and group:
                                       listing="clips.csv" goes by that instead of folders
"""

import collections
import posixpath
from collections.abc import Iterable

from fgmm.config import ConfigError
from fgmm.data.corpora import files, labelled
from fgmm.data.preparation.raw import WHOLE

_ENDINGS = {"video": files.VIDEO_ENDINGS, "audio": files.SOUND_ENDINGS}
_LAYOUT = "the layout is <class>/<file>, or a listing; see fgmm/data/sources/labelled_folder.py"

# A file's name, its class, and its group.
Labelled = tuple[str, str, str]


class Source(labelled.LabelledRecordings):
    """``Clip.labels["label"]`` is the class.

    Attributes:
      classes: names of the classes, by label, in alphabetic order: of all folders, or of the whole
        table, whatever the split.
      report: recordings left out, and ``malformed_line`` for lines of a listing without a file or a
        class.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str = "",
        listing: str = "",
        modality: str = "video",
        windows: int = 1,
        seconds: float = 2.0,
        fps: float = 4.0,
        size: int = 112,
    ):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, or the same as one tar or zip file.
          split: the folder that the classes are in, or a value of the table's column ``split``;
            empty for all that there is.
          listing: path below ``root`` of a text file or a ``.csv``; empty to take all files.
          modality: ``video`` for video files, ``audio`` for sound files, whose clips have no video.
          windows, seconds, fps, size: as in ``labelled.LabelledRecordings``; sound files have no
            use for the last two.

        Raises:
          ConfigError: a missing or unreadable root or listing, no file of the split, no readable
            recording, or an option that makes no sense.
        """
        fps = fps if modality == "video" else None
        listing = _listed(root, split, listing, modality)
        super().__init__(listing, windows=windows, seconds=seconds, fps=fps, size=size)


class Raw(labelled.RawRecordings):
    """The files of a split, or of all together, for ``fgmm.data.prepare``."""

    splits = (WHOLE,)

    def __init__(self, *, root: str, split: str = "", listing: str = "", modality: str = "video"):
        """Reads the names; the arguments are those of ``Source``; ``whole`` is its empty split."""
        split = "" if split == WHOLE else split
        super().__init__(_listed(root, split, listing, modality), modality)


def _listed(root: str, split: str, listing: str, modality: str) -> labelled.Listing:
    labelled.demand_known(tuple(_ENDINGS), modality=modality)
    corpus = labelled.open_root(root, _LAYOUT)
    report: collections.Counter[str] = collections.Counter()
    if listing.endswith(".csv"):
        found, names = _of_table(corpus, listing, split, report)
    else:
        depth = 1 if split else 0
        present = [n for n in corpus.names() if _ending(n) in _ENDINGS[modality]]
        names = {parts[depth] for n in present if len(parts := n.split("/")) > depth + 1}
        listed = labelled.read_lines(corpus, listing) if listing else present
        found = list(_of_folders(listed, split, names, report if listing else None))
    if not found:
        raise ConfigError(f"root={root!r} has no {modality} of split={split!r}; {_LAYOUT}")
    classes = {"label": tuple(sorted(names))}
    labels = {name: {"label": i} for i, name in enumerate(classes["label"])}
    entries = [labelled.Entry(name, labels[label], group) for name, label, group in found]
    return labelled.Listing(corpus, entries, classes, report)


def _of_table(
    corpus: files.Folder | files.Archive,
    listing: str,
    split: str,
    report: collections.Counter[str],
) -> tuple[list[Labelled], set[str]]:
    """The files of a split, and all classes of the table."""
    columns = ("filename", "label", *(("split",) if split else ()))
    rows = labelled.read_table(corpus, listing, columns, report, ("group",))
    found = [(r["filename"], r["label"], r["group"]) for r in rows if r.get("split", "") == split]
    return found, {row["label"] for row in rows}


def _of_folders(
    names: Iterable[str], split: str, classes: set[str], report: collections.Counter[str] | None
) -> Iterable[Labelled]:
    """The files of a split that are in the folder of a class; others are counted, if asked."""
    for name in names:
        parts = name.split("/")
        above = parts[: 1 if split else 0]
        parts = parts[len(above) :]
        if above == ([split] if split else []) and len(parts) > 1 and parts[0] in classes:
            yield name, parts[0], "/".join(parts[:-1]) if len(parts) > 2 else ""
        elif report is not None and above == ([split] if split else []):
            report["malformed_line"] += 1


def _ending(name: str) -> str:
    return posixpath.splitext(name)[1].lower()
