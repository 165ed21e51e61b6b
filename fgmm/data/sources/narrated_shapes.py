"""The embedded corpus: shapes that move and sound, and a narrator who is right now and then.

Everything is a function of (seed, split, index), made when it is asked for; there is nothing to
download. Eight clips in a row are a video: its narrator's words at the wrong time come from them.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, SupportsIndex

import numpy as np

from fgmm.config import ConfigError
from fgmm.data.corpora.shapes import picture, sound
from fgmm.data.corpora.shapes.narration import describe, narrate
from fgmm.data.corpora.shapes.scene import MOTIONS, SHAPES, Scene, World, draw_scene, generator
from fgmm.data.schema import Clip

# The numbers name a split's random streams: changing one changes the corpus.
_SPLITS = {"train": 0, "validation": 1, "retrieval": 2, "motion": 3, "sound": 4}
_DEFAULT_CLIPS = {
    "train": 20_000,
    "validation": 1_000,
    "retrieval": 1_000,
    "motion": 1_000,
    "sound": 1_000,
}
_NARRATED = ("train", "validation")
_CLIPS_OF_A_VIDEO = 8
_SCENE, _NARRATION, _PICTURE, _SOUND = range(4)


class Source:
    """Narrated shapes, as described in ``fgmm.data.corpora.shapes``.

    Splits, with independent random streams:

    - ``train`` and ``validation``: a share of the narration is noise. A caption that no entry of
      ``Clip.grounding`` refers to is noise; all others are true.
    - ``retrieval``: every caption is true and speaks of every moving object of its clip.
    - ``motion``: all moving objects of a clip move alike; ``Clip.labels["motion"]`` says how.
    - ``sound``: all moving objects of a clip have one shape, hence one timbre;
      ``Clip.labels["sound"]`` says which.

    In the last two, classes are equally likely and every caption is true.

    Attributes:
      classes: names of the classes, by label.
      report: entries left out; always empty.
    """

    classes: ClassVar[dict[str, tuple[str, ...]]] = {"motion": MOTIONS, "sound": SHAPES}

    def __init__(
        self,
        *,
        split: str = "train",
        seed: int = 0,
        clips: int = 0,
        size: int = 64,
        frames: int = 8,
        fps: float = 4.0,
        sample_rate: int = 8000,
        objects: tuple[int, int] = (2, 3),
        distractors: int = 1,
        captions: tuple[int, int] = (3, 4),
        noise: float = 0.5,
        silent: float = 0.0,
    ):
        """Opens the corpus.

        Args:
          split: which part of the corpus.
          seed: which of the corpora there could be.
          clips: number of clips; 0 for the split's own (20,000 in ``train``, 1,000 elsewhere).
          size: height and width of the picture in pixels.
          frames: T, frames of a clip.
          fps: frames a second: at least 3, or shaking is missed, and at most ``frames``, so that a
            clip lasts a second or more.
          sample_rate: of the sound, in Hz.
          objects: least and most moving objects of a clip.
          distractors: objects of a clip that neither move nor sound, and are not spoken of.
          captions: least and most sentences of a clip.
          noise: share of sentences that are not about their clip, in ``train`` and
            ``validation``; elsewhere there are none.
          silent: share of clips without sound, in ``train`` and ``validation``; elsewhere there
            are none.

        Raises:
          ConfigError: an unknown split, or a value that makes no sense.
        """
        if split not in _SPLITS:
            _refuse("split", split, f"one of {', '.join(_SPLITS)}")
        _demand("seed", seed, seed >= 0, "at least 0")
        _demand("clips", clips, clips >= 0, "at least 1, or 0 for the split's own number")
        _demand("size", size, size >= 32, "at least 32 pixels, so that shapes can be told apart")
        _demand("frames", frames, frames >= 4, "at least 4")
        _demand("fps", fps, 3 <= fps <= frames, "from 3 to the number of frames")
        lowest = sound.MIN_SAMPLE_RATE
        _demand("sample_rate", sample_rate, sample_rate >= lowest, f"at least {lowest} Hz")
        _demand("objects", objects, _is_range(objects, 1, 8), "(least, most) within 1 to 8")
        _demand("distractors", distractors, 0 <= distractors <= 8, "from 0 to 8")
        _demand("captions", captions, _is_range(captions, 1, 64), "(least, most) within 1 to 64")
        _demand("noise", noise, 0 <= noise <= 1, "a share from 0 to 1")
        _demand("silent", silent, 0 <= silent <= 1, "a share from 0 to 1")
        self.report = Counter()
        self.world = World(size, frames, fps, sample_rate)
        self._split = split
        self._stream = (seed, _SPLITS[split])
        self._clips = clips or _DEFAULT_CLIPS[split]
        self._objects = objects
        self._distractors = distractors
        self._captions = captions
        self._noise = noise if split in _NARRATED else 0.0
        self._silent = silent if split in _NARRATED else 0.0

    def __len__(self) -> int:
        return self._clips

    def __getitem__(self, index: SupportsIndex) -> Clip:
        """The clip at ``index``; its media are rendered when their readers are called."""
        index = range(self._clips)[index]
        scene = self.scene(index)
        rng = generator(*self._stream, index, _NARRATION)
        sentences = int(rng.integers(self._captions[0], self._captions[1], endpoint=True))
        has_sound = rng.random() >= self._silent
        if self._split == "retrieval":
            captions, grounding = describe(rng, scene, self.world, sentences)
        else:
            neighbours = functools.partial(self._neighbours, index, rng)
            captions, grounding = narrate(
                rng, scene, self.world, sentences, self._noise, neighbours
            )
        shown = functools.partial(picture.render, scene, self.world)
        heard = functools.partial(sound.render, scene, self.world)
        video, place = divmod(index, _CLIPS_OF_A_VIDEO)
        return Clip(
            clip_id=f"{self._split}/{video:06d}/{place}",
            video=functools.partial(shown, (*self._stream, index, _PICTURE)),
            audio=functools.partial(heard, (*self._stream, index, _SOUND)) if has_sound else None,
            captions=captions,
            labels=self._labels(scene),
            grounding=grounding,
        )

    def scene(self, index: int) -> Scene:
        """The objects of a clip: the whole truth about it."""
        rng = generator(*self._stream, index, _SCENE)
        movers = int(rng.integers(self._objects[0], self._objects[1], endpoint=True))
        return draw_scene(
            rng,
            self.world,
            movers,
            self._distractors,
            motion=int(rng.integers(len(MOTIONS))) if self._split == "motion" else None,
            shape=int(rng.integers(len(SHAPES))) if self._split == "sound" else None,
        )

    def _labels(self, scene: Scene) -> dict[str, int]:
        match self._split:
            case "motion":
                return {"motion": scene.movers[0].motion}
            case "sound":
                return {"sound": scene.movers[0].shape}
        return {}

    def _neighbours(self, index: int, rng: np.random.Generator) -> Iterator[Scene]:
        """The other scenes of a clip's video, in random order."""
        first = index - index % _CLIPS_OF_A_VIDEO
        for place in rng.permutation(_CLIPS_OF_A_VIDEO).tolist():
            if first + place != index:
                yield self.scene(first + place)


def _is_range(bounds: tuple[int, int], least: int, most: int) -> bool:
    whole = len(bounds) == 2 and all(isinstance(bound, int) for bound in bounds)
    return whole and least <= bounds[0] <= bounds[1] <= most


def _demand(key: str, value: object, fine: bool, allowed: str) -> None:
    if not fine:
        _refuse(key, value, allowed)


def _refuse(key: str, value: object, allowed: str) -> None:
    raise ConfigError(f"narrated_shapes: {key}={value!r} is not possible; it must be {allowed}")
