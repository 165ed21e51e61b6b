"""UCF101: clips of 101 human actions, with three splits into training and test.

::

    UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
    ucfTrainTestlist/classInd.txt        1 ApplyEyeMakeup
    ucfTrainTestlist/trainlist01.txt     ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
    ucfTrainTestlist/testlist01.txt      ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

Soomro, Zamir, Shah: UCF101: A Dataset of 101 Human Action Classes From Videos in The Wild, 2012,
arXiv 1212.0402.
"""

import dataclasses
import posixpath
import re

from fgmm.config.option import option
from fgmm.data.corpora import files, labelled

_CLASSES = "classInd.txt"
_LAYOUT = f"the layout is UCF-101/, ucfTrainTestlist/{_CLASSES}, trainlist01.txt, testlist01.txt"
_NUMBERED, _WORD = re.compile(r"(\d+)\s+(\S+)"), re.compile(r"[A-Z][a-z]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(labelled.LabelledRecordings):
    """One side of one split. ``Clip.labels["action"]`` says what is done, ``Clip.group`` which
    video a clip was cut from.

    Folders above the lists and the classes may have any names, and videos any ending, so that they
    may be encoded again. File names are compared in lower case, because copies of the corpus differ
    in the capitals of ``HandstandPushups/v_HandStandPushups_g01_c01.avi``.

    Attributes:
      classes: names of the classes, by label, in the order of ``classInd.txt``; as words, such as
        ``"apply eye makeup"``.
      report: recordings left out, ``malformed_line`` for lines of the lists without a known class,
        and ``duplicate_id`` also for further files of one name.
    """

    split: str = option("train", choices=("train", "test"))
    fold: int = option(1, choices=(1, 2, 3), help="Which of the three official splits.")

    def listed(self) -> labelled.Listing:
        """Reads the lists of the fold."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        numbered = map(_NUMBERED.fullmatch, _lines(corpus, _CLASSES))
        names = [m[2] for m in sorted(filter(None, numbered), key=lambda m: int(m[1]))]
        classes = {"action": tuple(" ".join(_WORD.findall(n)).lower() for n in names)}
        found = files.stems(corpus, files.VIDEO_ENDINGS, report)
        paths = {stem.lower(): path for stem, path in found.items()}
        entries = []
        for line in _lines(corpus, f"{self.split}list{self.fold:02d}.txt"):
            listed = line.split()[0]
            stem = posixpath.splitext(posixpath.basename(listed))[0]
            if (folder := listed.split("/")[0]) in names:
                label = {"action": names.index(folder)}
                group = stem.rpartition("_c")[0]
                entries.append(labelled.Entry(paths.get(stem.lower(), listed), label, group))
            else:
                report["malformed_line"] += 1
        return labelled.Listing(corpus, entries, classes, report)


def _lines(corpus: files.Corpus, name: str) -> list[str]:
    return labelled.read_lines(corpus, labelled.find_table(corpus, name, _LAYOUT))
