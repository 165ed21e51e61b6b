"""Clips of surveillance cameras, half of them of a fight, with their sound where they have any.

::

    clips.csv            filename,label,group: fight/fi001.mp4,fight,<source video>
    fight/*.mp4
    noFight/*.mp4

Akti, Tataroglu, Ekenel: Vision-based Fight Detection from Surveillance Cameras, IPTA 2019.
"""

import dataclasses
from typing import ClassVar

from fgmm.data.corpora import files, labelled

_TABLE = "clips.csv"
_LAYOUT = f"the layout is {_TABLE}, fight/, noFight/"
CLASSES = {"action": ("noFight", "fight")}
# The authors list some clips under two source videos, which are then one group.
_SAME_GROUP = {"IZjLv7alWTk": "g0x9-0pOuhw", "Synopsis": "CamNet"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(labelled.LabelledRecordings):
    """The whole corpus. ``Clip.labels["action"]`` says what happens, ``Clip.group`` which video
    the clip was cut from. A label is tied to its scene, so a split must keep groups together.

    Attributes:
      classes: names of the classes, by label.
      report: clips left out, and ``malformed_line`` for lines of the table without a known label.
    """

    classes: ClassVar[dict[str, tuple[str, ...]]] = CLASSES

    def listed(self) -> labelled.Listing:
        """Reads the table."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        entries = []
        for row in labelled.read_table(corpus, _TABLE, ("filename", "label", "group"), report):
            if row["label"] in CLASSES["action"]:
                label = CLASSES["action"].index(row["label"])
                group = _SAME_GROUP.get(row["group"], row["group"])
                entries.append(labelled.Entry(row["filename"], {"action": label}, group))
            else:
                report["malformed_line"] += 1
        return labelled.Listing(corpus, entries, CLASSES, report)
