"""Environmental sounds in ten classes and five folds, in the layout of ESC-50.

::

    meta/esc50.csv       filename,fold,target,category,esc10,...
    audio/*              the sound files

Piczak: ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

import collections
from typing import ClassVar

from fgmm.data import labelled

_TABLE = "meta/esc50.csv"
_LAYOUT = f"the layout is {_TABLE}, audio/"
_COLUMNS = ("filename", "fold", "category", "esc10")


class Source(labelled.LabelledRecordings):
    """ESC-10, the recordings of ESC-50 that its table marks so. ``Clip.labels["sound"]`` says what
    is heard; ``Clip.group`` is the official fold, ``"1"`` to ``"5"``.

    Attributes:
      classes: names of the classes, by label; in the order of the targets of ESC-50.
      report: recordings left out, and ``malformed_line`` for lines of the table with a category
        that is not among the ten.
    """

    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        "sound": (
            "dog",
            "rooster",
            "rain",
            "sea waves",
            "crackling fire",
            "crying baby",
            "sneezing",
            "clock tick",
            "helicopter",
            "chainsaw",
        )
    }

    def __init__(self, *, root: str, windows: int = 1, seconds: float = 2.0):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, or the same as one tar or zip file.
          windows: of each recording, spread from its start to its end; a single one is in its
            middle.
          seconds: of a window.

        Raises:
          ConfigError: a missing or unreadable root or table, no readable recording, or an option
            that makes no sense.
        """
        labelled.demand_positive(windows=windows, seconds=seconds)
        corpus = labelled.open_root(root, _LAYOUT)
        report: collections.Counter[str] = collections.Counter()
        entries = []
        for row in labelled.read_table(corpus, _TABLE, _COLUMNS, report):
            category = row["category"].replace("_", " ")
            if row["esc10"].lower() != "true":
                continue
            if category in self.classes["sound"]:
                label = self.classes["sound"].index(category)
                name = f"audio/{row['filename']}"
                entries.append(labelled.Entry(name, {"sound": label}, row["fold"]))
            else:
                report["malformed_line"] += 1
        super().__init__(corpus, entries, report, windows=windows, seconds=seconds)
