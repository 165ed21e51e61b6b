"""Kinetics-400, -600 and -700: ten seconds each of human actions on YouTube.

::

    train.csv            label,youtube_id,time_start,time_end,split
    validate.csv         (also val.csv)
    test.csv
    train/abseiling/0347ZoDXyP0_000095_000105.mp4      in folders of any names, or in none

A file is named after its video and the seconds it was cut from, with six digits each.

Kay et al.: The Kinetics Human Action Video Dataset, 2017, arXiv 1705.06950.
"""

import collections

from fgmm.config import ConfigError
from fgmm.data.corpora import files, labelled

_TABLES = {
    "train": ("train.csv", "kinetics_train.csv"),
    "validation": ("validate.csv", "val.csv", "kinetics_val.csv"),
    "test": ("test.csv", "kinetics_test.csv"),
}
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_LAYOUT = f"the layout is {', '.join(names[0] for names in _TABLES.values())}, <folders>/*.mp4"


class Source(labelled.LabelledRecordings):
    """One split. ``Clip.labels["action"]`` says what is done, ``Clip.group`` which video a clip was
    cut from, within the split: the official splits are taken as they are.

    Many of the videos are gone from YouTube: those that are not there are counted, and an accuracy
    on the others is not that of the whole list.

    Attributes:
      classes: names of the classes, by label, in alphabetic order; of all tables in the corpus, so
        that splits agree.
      report: recordings left out, and ``malformed_line`` for lines of the table without a label, a
        video or a time.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str = "train",
        table: str = "",
        windows: int = 1,
        seconds: float = 2.0,
        fps: float = 4.0,
        size: int = 112,
    ):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, or the same as one tar or zip file.
          split: ``train``, ``validation`` or ``test``.
          table: of the split, where it has another name than those above: its path below ``root``.
          windows, seconds, fps, size: as in ``labelled.LabelledRecordings``.

        Raises:
          ConfigError: a missing or unreadable root or table, no readable recording, or an option
            that makes no sense.
        """
        listing = _listed(root, split, table)
        super().__init__(listing, windows=windows, seconds=seconds, fps=fps, size=size)


class Raw(labelled.RawRecordings):
    """The files of one split, for ``fgmm.data.prepare``."""

    def __init__(self, *, root: str, split: str = "train", table: str = ""):
        """Reads the tables; the arguments are those of ``Source``."""
        super().__init__(_listed(root, split, table))

    @staticmethod
    def splits(root: str) -> tuple[str, ...]:
        """Those whose tables the corpus has."""
        corpus = labelled.open_root(root, _LAYOUT)
        return tuple(name for name, tables in _TABLES.items() if files.find(corpus, tables))


def _listed(root: str, split: str, table: str) -> labelled.Listing:
    labelled.demand_known(tuple(_TABLES), split=split)
    corpus = labelled.open_root(root, _LAYOUT)
    report: collections.Counter[str] = collections.Counter()
    found = {name: files.find(corpus, names) for name, names in _TABLES.items()}
    found[split] = [table] if table else found[split]
    if not found[split]:
        raise ConfigError(f"root={root!r} has no {_TABLES[split][0]}; {_LAYOUT}")
    rows = labelled.read_table(corpus, found[split][0], _COLUMNS, report)
    labels = {row["label"] for row in rows}
    for path in {path for places in found.values() for path in places[:1]} - {found[split][0]}:
        # What is wrong with the tables of other splits is theirs to count.
        uncounted: collections.Counter[str] = collections.Counter()
        others = labelled.read_table(corpus, path, _COLUMNS[1:2], uncounted, _COLUMNS[:1])
        labels |= {row["label"] for row in others} - {""}
    classes = {"action": tuple(sorted(labels))}
    label = {name: {"action": i} for i, name in enumerate(classes["action"])}
    paths = files.stems(corpus, files.VIDEO_ENDINGS)
    entries = []
    for row in rows:
        try:
            start, end = (round(float(row[key])) for key in ("time_start", "time_end"))
        except (ValueError, OverflowError):
            report["malformed_line"] += 1
            continue
        stem = f"{row['youtube_id']}_{start:06d}_{end:06d}"
        group = f"{split}/{row['youtube_id']}"
        path = paths.get(stem, f"{stem}.mp4")
        entries.append(labelled.Entry(path, label[row["label"]], group))
    return labelled.Listing(corpus, entries, classes, report)
