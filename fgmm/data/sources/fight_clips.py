"""Clips of surveillance cameras, half of them of a fight, with their sound where they have any.

::

    clips.csv            filename,label,group: fight/fi001.mp4,fight,<source video>
    fight/*.mp4
    noFight/*.mp4

Akti, Tataroglu, Ekenel: Vision-based Fight Detection from Surveillance Cameras, IPTA 2019.
"""

import collections
from typing import ClassVar

from fgmm.data.corpora import labelled
from fgmm.data.preparation.raw import WHOLE

_TABLE = "clips.csv"
_LAYOUT = f"the layout is {_TABLE}, fight/, noFight/"
CLASSES = {"action": ("noFight", "fight")}
# Clips that the authors list under two source videos each tie these together.
_SAME_GROUP = {"IZjLv7alWTk": "g0x9-0pOuhw", "Synopsis": "CamNet"}


class Source(labelled.LabelledRecordings):
    """The whole corpus. ``Clip.labels["action"]`` says what happens, ``Clip.group`` which video
    the clip was cut from: labels go with the scene, so a split must keep groups together.

    Attributes:
      classes: names of the classes, by label.
      report: clips left out, and ``malformed_line`` for lines of the table without a known label.
    """

    classes: ClassVar[dict[str, tuple[str, ...]]] = CLASSES

    def __init__(
        self,
        *,
        root: str,
        windows: int = 1,
        seconds: float = 2.0,
        fps: float = 4.0,
        size: int = 112,
    ):
        """Opens the corpus.

        Args:
          root: a folder with the layout above, or the same as one tar or zip file.
          windows: of each clip, spread from its start to its end; a single one is in its middle.
          seconds: of a window.
          fps: pictures a second.
          size: pictures are shrunk to this many pixels on the shorter side while decoding.

        Raises:
          ConfigError: a missing or unreadable root or table, no readable clip, or an option that
            makes no sense.
        """
        labelled.demand_positive(windows=windows, seconds=seconds, fps=fps, size=size)
        listing = _listed(root)
        super().__init__(listing, windows=windows, seconds=seconds, fps=fps, size=size)


class Raw(labelled.RawRecordings):
    """The files, for ``fgmm.data.prepare``."""

    splits = (WHOLE,)

    def __init__(self, *, root: str):
        """Reads the table of the corpus at ``root``."""
        super().__init__(_listed(root))


def _listed(root: str) -> labelled.Listing:
    corpus = labelled.open_root(root, _LAYOUT)
    report: collections.Counter[str] = collections.Counter()
    entries = []
    for row in labelled.read_table(corpus, _TABLE, ("filename", "label", "group"), report):
        if row["label"] in CLASSES["action"]:
            label = CLASSES["action"].index(row["label"])
            group = _SAME_GROUP.get(row["group"], row["group"])
            entries.append(labelled.Entry(row["filename"], {"action": label}, group))
        else:
            report["malformed_line"] += 1
    return labelled.Listing(corpus, entries, CLASSES, report)
