"""Environmental sounds in fifty classes and five folds, in the layout of ESC-50.

::

    meta/esc50.csv       filename,fold,target,category,esc10,...
    audio/*              the sound files

Piczak: ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

import collections
from typing import ClassVar

from fgmm.data.corpora import labelled
from fgmm.data.preparation.raw import WHOLE

_TABLE = "meta/esc50.csv"
_LAYOUT = f"the layout is {_TABLE}, audio/"
_COLUMNS = ("filename", "fold", "category", "esc10")
# In the order of the targets: ten animals, then natural, human, indoor and outdoor sounds.
CLASSES = (
    *("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow"),
    *("rain", "sea waves", "crackling fire", "crickets", "chirping birds", "water drops", "wind"),
    *("pouring water", "toilet flush", "thunderstorm"),
    *("crying baby", "sneezing", "clapping", "breathing", "coughing", "footsteps", "laughing"),
    *("brushing teeth", "snoring", "drinking sipping"),
    *("door wood knock", "mouse click", "keyboard typing", "door wood creaks", "can opening"),
    *("washing machine", "vacuum cleaner", "clock alarm", "clock tick", "glass breaking"),
    *("helicopter", "chainsaw", "siren", "car horn", "engine", "train", "church bells"),
    *("airplane", "fireworks", "hand saw"),
)


class Source(labelled.LabelledRecordings):
    """The whole corpus. ``Clip.labels["sound"]`` says what is heard; ``Clip.group`` is the official
    fold, ``"1"`` to ``"5"``.

    Attributes:
      classes: names of the classes, by label; in the order of the targets.
      report: recordings left out, and ``malformed_line`` for lines of the table with a category
        that is no class.
    """

    classes: ClassVar[dict[str, tuple[str, ...]]] = {"sound": CLASSES}
    # Whether the recordings that the table marks as ESC-10 are all there are.
    _marked_only: ClassVar[bool] = False

    def __init__(self, *, root: str, windows: int = 1, seconds: float = 2.0):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, or the same as one tar or zip file; the folder that
            the published archive packs it in may lie above.
          windows: of each recording, spread from its start to its end; a single one is in its
            middle.
          seconds: of a window.

        Raises:
          ConfigError: a missing or unreadable root or table, no readable recording, or an option
            that makes no sense.
        """
        labelled.demand_positive(windows=windows, seconds=seconds)
        listing = listed(root, self.classes, self._marked_only)
        super().__init__(listing, windows=windows, seconds=seconds)


class Raw(labelled.RawRecordings):
    """The files, for ``fgmm.data.prepare``."""

    splits = (WHOLE,)

    def __init__(self, *, root: str):
        """Reads the table of the corpus at ``root``."""
        super().__init__(listed(root, Source.classes, marked_only=False), "audio")


def listed(root: str, classes: dict[str, tuple[str, ...]], marked_only: bool) -> labelled.Listing:
    """The recordings of these classes, or of them those that are marked as ESC-10.

    Raises:
      ConfigError: a missing or unreadable root or table.
    """
    corpus = labelled.open_root(root, _LAYOUT, _TABLE)
    report: collections.Counter[str] = collections.Counter()
    entries = []
    for row in labelled.read_table(corpus, _TABLE, _COLUMNS, report):
        category = row["category"].replace("_", " ")
        if marked_only and row["esc10"].lower() != "true":
            continue
        if category in classes["sound"]:
            label = classes["sound"].index(category)
            entries.append(
                labelled.Entry(f"audio/{row['filename']}", {"sound": label}, row["fold"])
            )
        else:
            report["malformed_line"] += 1
    return labelled.Listing(corpus, entries, classes, report)
