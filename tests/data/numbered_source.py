"""Clips that show and sound their number, as many as asked for, without one of both if wanted."""

import collections
import dataclasses
from typing import ClassVar

import numpy as np

from fgmm.data.schema import Caption, Clip, Waveform


@dataclasses.dataclass(frozen=True)
class Frames:
    number: int

    def __call__(self):
        return np.full((2, 16, 16, 3), self.number % 256, np.uint8)


@dataclasses.dataclass(frozen=True)
class Sound:
    number: int

    def __call__(self):
        return Waveform(np.full(4000, self.number / 1000, np.float32), 8000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    clips: int
    video: bool = True
    audio: bool = True
    text: bool = True
    left: int = 0

    classes: ClassVar = {"number": ("even", "odd")}

    @property
    def report(self):
        return collections.Counter({"missing_file": self.left} if self.left else {})

    def __len__(self):
        return self.clips

    def __getitem__(self, index):
        return Clip(
            clip_id=str(index),
            video=Frames(index) if self.video else None,
            audio=Sound(index) if self.audio else None,
            captions=(Caption("a red circle rolls to the left"),),
            labels={"number": index % 2},
            group=f"group{index % 3}",
        )
