"""Video or sound files in a folder for each class, or named by a table.

::

    cooking/a.mp4                      a class, a folder
    cooking/kitchen2/b.mp4             files in one folder below it stay on one side of a split
    test/cooking/c.mp4                 with split="test", classes are in a folder of that name
    train.txt                          listing="train.txt" takes the files that it names, one a line
    clips.csv                          filename,label with, if wanted, split and group:
                                       listing="clips.csv" goes by that instead of folders
                                       with separator=";", a label such as "rain;wind" is several
"""

import dataclasses
import posixpath
from collections.abc import Iterable

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, labelled

_ENDINGS = {"video": files.VIDEO_ENDINGS, "audio": files.SOUND_ENDINGS}
_LAYOUT = "the layout is <class>/<file>, or a listing; see fgmm/data/sources/labelled_folder.py"

# A file's name, its classes, and its group.
LabelledFile = tuple[str, tuple[str, ...], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(labelled.LabelledRecordings):
    """``Clip.labels["label"]`` is the class, or with a ``separator`` a tuple of classes. Labels
    that differ only in white space are the same.

    Attributes:
      classes: names of the classes, by label, in alphabetic order: of all folders, or of the whole
        table, whatever the split.
      report: recordings left out, and ``malformed_line`` for lines of a listing without a file or a
        class.
    """

    split: str = option(
        "", help="The folder that the classes are in, or a value of the table's column; empty: all."
    )
    listing: str = option(
        "", help="Path below root of a text file or a .csv; empty to take all files."
    )
    separator: str = option(
        "",
        help="Of the classes in the column label of a table, where a file may have several; "
        "empty: one class a file.",
    )
    modality: str = option("video", choices=tuple(_ENDINGS), help="Of the files.")

    @property
    def kind(self) -> str:
        return self.modality

    def listed(self) -> labelled.Listing:
        """Reads the names of the files, and the list or table."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        table = _ending(self.listing) == ".csv"
        if self.separator and not table:
            raise ConfigError(
                f"separator={self.separator!r} is of a table's column label; give the table by "
                "listing, or leave it out"
            )
        if table:
            found, names = _of_table(corpus, self.listing, self.split, self.separator, report)
        else:
            depth = 1 if self.split else 0
            endings = _ENDINGS[self.modality]
            present = [n for n in corpus.names() if _ending(n) in endings]
            folders = [n.split("/") for n in present]
            names = {files.words(parts[depth]) for parts in folders if len(parts) > depth + 1}
            lines = present
            if self.listing:
                listed = labelled.read_lines(corpus, self.listing)
                lines = [files.within(corpus, name) for name in listed]
            found = list(_of_folders(lines, self.split, names, report if self.listing else None))
        if not found:
            raise ConfigError(
                f"root={self.root!r} has no {self.modality} of split={self.split!r}; {_LAYOUT}"
            )
        classes = {"label": tuple(sorted(names))}
        numbers = {name: i for i, name in enumerate(classes["label"])}
        entries = []
        for name, own, group in found:
            of_file = tuple(sorted({numbers[label] for label in own}))
            label = of_file if self.separator else of_file[0]
            entries.append(labelled.Entry(name, {"label": label}, group))
        return labelled.Listing(corpus, entries, classes, report)


def _of_table(
    corpus: files.Corpus,
    listing: str,
    split: str,
    separator: str,
    report: files.Report,
) -> tuple[list[LabelledFile], set[str]]:
    """The files of a split, and all classes of the table."""
    columns = ("filename", "label", *(("split",) if split else ()))
    rows = labelled.read_table(corpus, listing, columns, report, ("group",))

    def classes(row: dict[str, str]) -> tuple[str, ...]:
        parts = row["label"].split(separator) if separator else [row["label"]]
        return tuple(filter(None, map(files.words, parts)))

    found = [
        (files.within(corpus, row["filename"]), classes(row), row["group"])
        for row in rows
        if row.get("split", "") == split
    ]
    return found, {name for row in rows for name in classes(row)}


def _of_folders(
    names: Iterable[str], split: str, classes: set[str], report: files.Report | None
) -> Iterable[LabelledFile]:
    """The files of a split that are in the folder of a class; ``report`` counts the others."""
    for name in names:
        above, _, below = name.partition("/") if split else ("", "", name)
        if above == split:
            parts = below.split("/")
            label = files.words(parts[0]) if len(parts) > 1 else ""
            if label in classes:
                yield name, (label,), "/".join(parts[:-1]) if len(parts) > 2 else ""
            elif report is not None:
                report["malformed_line"] += 1


def _ending(name: str) -> str:
    return posixpath.splitext(name)[1].lower()
