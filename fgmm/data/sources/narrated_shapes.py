"""The built-in corpus: shapes that move and sound, and a narrator who is often wrong.

Everything is a function of (seed, split, index), made when it is asked for; there is nothing to
download. Eight clips in a row are a video. Some wrong sentences are about its other clips.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, SupportsIndex

import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data.corpora.shapes import picture, sound
from fgmm.data.corpora.shapes.narration import describe, narrate
from fgmm.data.corpora.shapes.scene import MOTIONS, SHAPES, Scene, World, draw_scene, generator
from fgmm.data.fingerprint import Fingerprint
from fgmm.data.schema import Clip

# The numbers name a split's random streams: changing one changes the corpus.
_SPLITS = {"train": 0, "validation": 1, "retrieval": 2, "motion": 3, "sound": 4, "shapes": 5}
_NARRATED = ("train", "validation")
_CLIPS_OF_A_VIDEO = 8
_SCENE, _NARRATION, _PICTURE, _SOUND = range(4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Narrated shapes, as described in ``fgmm.data.corpora.shapes``.

    Splits, with independent random streams:

    - ``train`` and ``validation``: a share of the narration is noise. A caption that no entry of
      ``Clip.grounding`` refers to is noise; all others are true.
    - ``retrieval``: every caption is true and speaks of every moving object of its clip.
    - ``motion``: all moving objects of a clip move alike; ``Clip.labels["motion"]`` says how.
    - ``sound``: all moving objects of a clip have one shape, hence one timbre;
      ``Clip.labels["sound"]`` says which.
    - ``shapes``: ``Clip.labels["shapes"]`` says which shapes the moving objects of a clip have, one
      or several.

    In the last three every caption is true, and in ``motion`` and ``sound`` classes are equally
    likely. ``noise`` and ``silent`` apply to the first two only.

    Attributes:
      classes: names of the classes, by label.
      report: entries left out; always empty.
    """

    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        "motion": MOTIONS,
        "sound": SHAPES,
        "shapes": SHAPES,
    }

    split: str = option("train", choices=tuple(_SPLITS))
    seed: int = option(0, low=0, help="Which of the corpora there could be.")
    clips: int = option(0, low=0, help="Number of clips; 0 for the split's own, 20,000 or 1,000.")
    size: int = option(64, low=32, help="Height and width of the picture in pixels.")
    frames: int = option(8, low=4, help="T, frames of a clip.")
    fps: float = option(
        4.0, low=3, help="Frames a second; at most frames, so that a clip lasts a second or more."
    )
    sample_rate: int = option(8000, low=sound.MIN_SAMPLE_RATE, help="Of the sound, in Hz.")
    objects: tuple[int, int] = option((2, 3), help="Least and most moving objects of a clip.")
    distractors: int = option(
        1, low=0, high=8, help="Objects that neither move nor sound, and are not spoken of."
    )
    captions: tuple[int, int] = option((3, 4), help="Least and most sentences of a clip.")
    noise: float = option(
        0.5, low=0, high=1, help="Share of sentences of a clip that are not about it."
    )
    silent: float = option(0.0, low=0, high=1, help="Share of clips without sound.")

    def __post_init__(self):
        """Raises ConfigError for an option that makes no sense."""
        check_options(self)
        if self.fps > self.frames:
            raise ConfigError(f"fps={self.fps!r} must be at most frames={self.frames}")
        for key, bounds, most in (("objects", self.objects, 8), ("captions", self.captions, 64)):
            whole = len(bounds) == 2 and all(isinstance(bound, int) for bound in bounds)
            if not (whole and 1 <= bounds[0] <= bounds[1] <= most):
                raise ConfigError(f"{key}={bounds!r} must be (least, most) within 1 to {most}")

    @property
    def report(self) -> Counter[str]:
        return Counter()

    @property
    def world(self) -> World:
        """What scenes are rendered in."""
        return World(self.size, self.frames, self.fps, self.sample_rate)

    @property
    def _stream(self) -> tuple[int, int]:
        """The start of the path that names each random stream of the split; see ``generator``."""
        return self.seed, _SPLITS[self.split]

    def _if_narrated(self, share: float) -> float:
        """A share of noise or silence; 0 in splits for evaluation."""
        return share if self.split in _NARRATED else 0.0

    def fingerprint(self) -> Fingerprint:
        """The number of clips. All else follows from the options."""
        return {"clips": len(self)}

    def __len__(self) -> int:
        return self.clips or (20_000 if self.split == "train" else 1_000)

    def __getitem__(self, index: SupportsIndex) -> Clip:
        """The clip at ``index``; its media are rendered when their readers are called."""
        index = range(len(self))[index]
        scene = self.scene(index)
        rng = generator(*self._stream, index, _NARRATION)
        sentences = int(rng.integers(*self.captions, endpoint=True))
        has_sound = rng.random() >= self._if_narrated(self.silent)
        if self.split == "retrieval":
            captions, grounding = describe(rng, scene, self.world, sentences)
        else:
            neighbours = functools.partial(self._neighbours, index, rng)
            captions, grounding = narrate(
                rng, scene, self.world, sentences, self._if_narrated(self.noise), neighbours
            )
        shown = functools.partial(picture.render, scene, self.world)
        heard = functools.partial(sound.render, scene, self.world)
        video, place = divmod(index, _CLIPS_OF_A_VIDEO)
        return Clip(
            clip_id=f"{self.split}/{video:06d}/{place}",
            video=functools.partial(shown, (*self._stream, index, _PICTURE)),
            audio=functools.partial(heard, (*self._stream, index, _SOUND)) if has_sound else None,
            captions=captions,
            labels=self._labels(scene),
            grounding=grounding,
        )

    def scene(self, index: int) -> Scene:
        """The objects of a clip: the whole truth about it."""
        rng = generator(*self._stream, index, _SCENE)
        movers = int(rng.integers(*self.objects, endpoint=True))
        return draw_scene(
            rng,
            self.world,
            movers,
            self.distractors,
            motion=int(rng.integers(len(MOTIONS))) if self.split == "motion" else None,
            shape=int(rng.integers(len(SHAPES))) if self.split == "sound" else None,
        )

    def _labels(self, scene: Scene) -> dict[str, int | tuple[int, ...]]:
        match self.split:
            case "motion":
                return {"motion": scene.movers[0].motion}
            case "sound":
                return {"sound": scene.movers[0].shape}
            case "shapes":
                return {"shapes": tuple(sorted({item.shape for item in scene.movers}))}
        return {}

    def _neighbours(self, index: int, rng: np.random.Generator) -> Iterator[Scene]:
        """The other scenes of a clip's video, in random order."""
        first = index - index % _CLIPS_OF_A_VIDEO
        for place in rng.permutation(_CLIPS_OF_A_VIDEO).tolist():
            if first + place != index:
                yield self.scene(first + place)
