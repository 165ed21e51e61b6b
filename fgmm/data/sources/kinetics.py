"""Kinetics-400, -600 and -700: clips of ten seconds of human actions, from YouTube.

::

    train.csv            label,youtube_id,time_start,time_end,split
    validate.csv         (also val.csv)
    test.csv
    train/abseiling/0347ZoDXyP0_000095_000105.mp4      in folders of any names, or in none

A file is named after its video and the seconds it was cut from, with six digits each.

Kay et al.: The Kinetics Human Action Video Dataset, 2017, arXiv 1705.06950.
"""

import dataclasses

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, labelled

_TABLES = {
    "train": ("train.csv", "kinetics_train.csv"),
    "validation": ("validate.csv", "val.csv", "kinetics_val.csv"),
    "test": ("test.csv", "kinetics_test.csv"),
}
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_LAYOUT = f"the layout is {', '.join(names[0] for names in _TABLES.values())}, <folders>/*.mp4"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(labelled.LabelledRecordings):
    """One split. ``Clip.labels["action"]`` says what is done, ``Clip.group`` which video a clip was
    cut from, within the split: the official splits are taken as they are.

    Many of the videos are gone from YouTube. Missing ones are counted, and an accuracy on the
    others is not that of the whole list.

    Attributes:
      classes: names of the classes, by label, in alphabetic order; of all tables in the corpus, so
        that splits agree.
      report: recordings left out, ``malformed_line`` for lines of the table without a label, a
        video or a time, and ``duplicate_id`` also for further files of one name.
    """

    split: str = option("train", choices=tuple(_TABLES))
    table: str = option(
        "", help="Of the split, where it has another name than those above: its path below root."
    )

    @classmethod
    def splits(cls, root: str) -> tuple[str, ...]:
        """Those whose tables the corpus has."""
        corpus = labelled.open_root(root, _LAYOUT)
        return tuple(name for name, tables in _TABLES.items() if files.find(corpus, tables))

    def listed(self) -> labelled.Listing:
        """Reads the tables."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        found = {name: files.find(corpus, names) for name, names in _TABLES.items()}
        table = self.table or next(iter(found[self.split]), "")
        if not table:
            raise ConfigError(f"root={self.root!r} has no {_TABLES[self.split][0]}; {_LAYOUT}")
        rows = labelled.read_table(corpus, table, _COLUMNS, report)
        labels: set[str] = set()
        for path in {path for places in found.values() for path in places[:1]} | {table}:
            # A row without times names a class, too, so that splits agree. What is wrong in tables
            # of other splits is counted when those are opened.
            uncounted = files.Report()
            others = labelled.read_table(corpus, path, _COLUMNS[1:2], uncounted, _COLUMNS[:1])
            labels |= {files.words(row["label"]) for row in others} - {""}
        classes = {"action": tuple(sorted(labels))}
        label = {name: {"action": i} for i, name in enumerate(classes["action"])}
        paths = files.stems(corpus, files.VIDEO_ENDINGS, report)
        entries = []
        for row in rows:
            try:
                start, end = (round(float(row[key])) for key in ("time_start", "time_end"))
            except (ValueError, OverflowError):
                report["malformed_line"] += 1
                continue
            stem = f"{row['youtube_id']}_{start:06d}_{end:06d}"
            group = f"{self.split}/{row['youtube_id']}"
            path = paths.get(stem, f"{stem}.mp4")
            entries.append(labelled.Entry(path, label[files.words(row["label"])], group))
        return labelled.Listing(corpus, entries, classes, report)
