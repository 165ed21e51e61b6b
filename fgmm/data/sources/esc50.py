"""Environmental sounds in fifty classes and five folds, in the layout of ESC-50.

::

    meta/esc50.csv       filename,fold,target,category,esc10,...
    audio/*              the sound files

Piczak: ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

import dataclasses
from typing import ClassVar

from fgmm.data.corpora import files, labelled

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(labelled.LabelledRecordings):
    """The whole corpus. ``Clip.labels["sound"]`` says what is heard; ``Clip.group`` is the official
    fold, ``"1"`` to ``"5"``. ``root`` may also hold the corpus in one folder, as the published
    archive does.

    Attributes:
      classes: names of the classes, by label; in the order of the targets.
      report: recordings left out, and ``malformed_line`` for lines of the table with a category
        that is no class.
    """

    classes: ClassVar[dict[str, tuple[str, ...]]] = {"sound": CLASSES}
    kind: ClassVar[str] = "audio"
    # Whether only the recordings that the table marks as ESC-10 are taken.
    _marked_only: ClassVar[bool] = False

    def listed(self) -> labelled.Listing:
        """Reads the table."""
        corpus = labelled.open_root(self.root, _LAYOUT, _TABLE)
        report = files.Report()
        entries = []
        for row in labelled.read_table(corpus, _TABLE, _COLUMNS, report):
            category = files.words(row["category"].replace("_", " "))
            if self._marked_only and row["esc10"].lower() != "true":
                continue
            if category in self.classes["sound"]:
                label = {"sound": self.classes["sound"].index(category)}
                entries.append(labelled.Entry(f"audio/{row['filename']}", label, row["fold"]))
            else:
                report["malformed_line"] += 1
        return labelled.Listing(corpus, entries, self.classes, report)
