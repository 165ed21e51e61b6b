"""UCF101: clips of 101 human actions, with three splits into training and test.

::

    UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
    ucfTrainTestlist/classInd.txt        1 ApplyEyeMakeup
    ucfTrainTestlist/trainlist01.txt     ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
    ucfTrainTestlist/testlist01.txt      ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

Soomro, Zamir, Shah: UCF101: A Dataset of 101 Human Action Classes From Videos in The Wild, 2012,
arXiv 1212.0402.
"""

import collections
import posixpath
import re

from fgmm.data.corpora import files, labelled

SPLITS, FOLDS = ("train", "test"), (1, 2, 3)
_CLASSES = "classInd.txt"
_LAYOUT = f"the layout is UCF-101/, ucfTrainTestlist/{_CLASSES}, trainlist01.txt, testlist01.txt"
_NUMBERED, _WORD = re.compile(r"(\d+)\s+(\S+)"), re.compile(r"[A-Z][a-z]*")


class Source(labelled.LabelledRecordings):
    """One side of one split. ``Clip.labels["action"]`` says what is done, ``Clip.group`` which
    video a clip was cut from.

    Folders above the lists and the classes may have any names, and videos any ending, so that they
    may be encoded anew. Names of files are compared without regard to capitals, since copies differ
    in those of ``HandstandPushups/v_HandStandPushups_g01_c01.avi``.

    Attributes:
      classes: names of the classes, by label, in the order of ``classInd.txt``; as words, such as
        ``"apply eye makeup"``.
      report: recordings left out, and ``malformed_line`` for lines of the lists without a known
        class.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str = "train",
        fold: int = 1,
        windows: int = 1,
        seconds: float = 2.0,
        fps: float = 4.0,
        size: int = 112,
    ):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, or the same as one tar or zip file.
          split: ``train`` or ``test``.
          fold: which of the three official splits.
          windows, seconds, fps, size: as in ``labelled.LabelledRecordings``.

        Raises:
          ConfigError: a missing or unreadable root or list, no readable recording, or an option
            that makes no sense.
        """
        listing = _listed(root, split, fold)
        super().__init__(listing, windows=windows, seconds=seconds, fps=fps, size=size)


class Raw(labelled.RawRecordings):
    """The files of one side of one split, for ``fgmm.data.prepare``."""

    splits = SPLITS

    def __init__(self, *, root: str, split: str = "train", fold: int = 1):
        """Reads the lists; the arguments are those of ``Source``."""
        super().__init__(_listed(root, split, fold))


def _listed(root: str, split: str, fold: int) -> labelled.Listing:
    labelled.demand_known(SPLITS, split=split)
    labelled.demand_known(FOLDS, fold=fold)
    corpus = labelled.open_root(root, _LAYOUT)
    report: collections.Counter[str] = collections.Counter()
    numbered = map(_NUMBERED.fullmatch, _lines(corpus, _CLASSES))
    names = [m[2] for m in sorted(filter(None, numbered), key=lambda m: int(m[1]))]
    classes = {"action": tuple(" ".join(_WORD.findall(n)).lower() for n in names)}
    found = files.stems(corpus, files.VIDEO_ENDINGS)
    paths = {stem.lower(): path for stem, path in found.items()}
    entries = []
    for line in _lines(corpus, f"{split}list{fold:02d}.txt"):
        listed = line.split()[0]
        stem = posixpath.splitext(posixpath.basename(listed))[0]
        if (folder := listed.split("/")[0]) in names:
            label = {"action": names.index(folder)}
            group = stem.rpartition("_c")[0]
            entries.append(labelled.Entry(paths.get(stem.lower(), listed), label, group))
        else:
            report["malformed_line"] += 1
    return labelled.Listing(corpus, entries, classes, report)


def _lines(corpus: files.Folder | files.Archive, name: str) -> list[str]:
    return labelled.read_lines(corpus, labelled.find_table(corpus, name, _LAYOUT))
