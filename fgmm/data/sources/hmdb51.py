"""HMDB51: clips of 51 human motions, with three splits into training and test.

::

    brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi
    testTrainMulti_7030_splits/brush_hair_test_split1.txt    <file>.avi 1

A mark of 1 is training, 2 is test, and 0 neither.

Kuehne, Jhuang, Garrote, Poggio, Serre: HMDB: A Large Video Database for Human Motion Recognition,
ICCV 2011.
"""

import dataclasses
import os
import posixpath
import re

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, labelled

_MARKS = {"train": "1", "test": "2"}
_LAYOUT = "the layout is <class>/*.avi, testTrainMulti_7030_splits/<class>_test_split1.txt"
_LIST = re.compile(r"(.+)_test_split(\d)\.txt")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(labelled.LabelledRecordings):
    """One side of one split. ``Clip.labels["action"]`` says what is done. ``Clip.group`` is the
    video that a clip was cut from, by its file name, within class and split: the official splits
    are taken as they are.

    Folders above the lists and the classes may have any names, and videos any ending, so that they
    may be encoded again.

    Attributes:
      classes: names of the classes, by label, in alphabetic order; as words.
      report: recordings left out, ``malformed_line`` for lines of the lists without a mark, and
        ``duplicate_id`` also for further files of one name.
    """

    split: str = option("train", choices=tuple(_MARKS))
    fold: int = option(1, choices=(1, 2, 3), help="Which of the three official splits.")

    def listed(self) -> labelled.Listing:
        """Reads the lists of the fold."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        lists = {}
        for path in corpus.names():
            match = _LIST.fullmatch(posixpath.basename(path))
            if match and int(match[2]) == self.fold:
                lists[match[1]] = path
        if not lists:
            raise ConfigError(f"root={self.root!r} has no lists of fold {self.fold}; {_LAYOUT}")
        classes = {"action": tuple(name.replace("_", " ") for name in sorted(lists))}
        paths = files.stems(corpus, files.VIDEO_ENDINGS, report)
        entries = []
        for label, name in enumerate(sorted(lists)):
            for line in labelled.read_lines(corpus, lists[name]):
                listed, _, mark = line.rpartition(" ")
                stem = os.path.splitext(listed.strip())[0]
                if not stem or mark not in ("0", "1", "2"):
                    report["malformed_line"] += 1
                elif mark == _MARKS[self.split]:
                    path = paths.get(stem, f"{name}/{listed.strip()}")
                    group = f"{self.split}/{name}/{stem.partition(f'_{name}_')[0]}"
                    entries.append(labelled.Entry(path, {"action": label}, group))
        return labelled.Listing(corpus, entries, classes, report)
