"""A source of coloured clips whose class is their colour, in windows, some of them broken."""

import collections
import dataclasses
from typing import ClassVar

import numpy as np

from fgmm.data.schema import BadInput, Clip, Waveform

COLOURS = {"red": (255, 0, 0), "lime_green": (0, 255, 0), "blue": (0, 0, 255)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Recording r shows colour r % 3; its windows are records r * windows and so on.

    Attributes:
      recordings, windows: how many, and of each.
      groups: of recordings, r % groups; 0 for none.
      broken, unlabelled: records without a readable picture, or without labels.
      seed: of the pixels and of the label ``noise``, which is random.
      by_group: pictures are alike within a group, and ``noise`` says whether its number is odd.
    """

    recordings: int = 30
    windows: int = 2
    groups: int = 0
    broken: tuple[int, ...] = ()
    unlabelled: tuple[int, ...] = ()
    seed: int = 0
    by_group: bool = False

    classes: ClassVar[dict[str, tuple[str, ...]]] = {"colour": tuple(COLOURS), "noise": ("a", "b")}

    @property
    def report(self):
        return collections.Counter({"malformed_line": 2})

    def __len__(self):
        return self.recordings * self.windows

    def __getitem__(self, index):
        recording = int(index) // self.windows
        group = str(recording % self.groups) if self.groups else ""
        rng = np.random.default_rng([self.seed, int(index)])
        same = np.random.default_rng([self.seed, int(group) if self.by_group else recording])
        colour = recording % 3
        level = same.integers(256, size=3)
        noise = int(group) % 2 if self.by_group else int(same.integers(2))

        def video():
            if index in self.broken:
                raise BadInput("unreadable_video")
            base = level if self.by_group else np.array([*COLOURS.values()][colour])
            pixels = base * 0.6 + rng.uniform(0, 80, (2, 16, 16, 3))
            return pixels.astype(np.uint8)

        def audio():
            wave = np.sin(np.arange(4000) * 0.1 * (1 + colour)) * 0.5
            return Waveform(wave.astype(np.float32), 8000)

        labels = {} if index in self.unlabelled else {"colour": colour, "noise": noise}
        return Clip(f"clip{recording}", video=video, audio=audio, labels=labels, group=group)
