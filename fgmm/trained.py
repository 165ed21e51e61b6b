"""A trained model in a few lines: ``fgmm.load(workdir)``."""

import dataclasses
import functools
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Bool, Float

from fgmm import inputs
from fgmm.config import ConfigError
from fgmm.data.text import phrases
from fgmm.eval import pairs
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses.objective import PAIRS, SCORES
from fgmm.losses.term import Side
from fgmm.models.embeddings import Embeddings
from fgmm.train import checkpoint

# The most inputs of each side whose fine similarities are computed at a time.
_BLOCK = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Embedded:
    """The result of ``embed_*`` with ``local=True``: the heads' embeddings of B inputs.

    Attributes:
      modality: ``"video"``, ``"audio"`` or ``"text"``.
      space: the space of the model that the vectors are in.
      coarse: one vector for each input.
      local: one vector for each cell of the feature map, or for each phrase.
      mask: which entries of ``local`` are valid.
      grid: the extent of the feature map: ``(T', H', W')`` for video, ``(T', F')`` for audio and
        ``(P,)`` for text; N is its product.
      segments: of audio only: its time segments, which take the place of phrases when it is
        compared with video: local [B,P,D], mask, gates and coarse [B,D].
      gates: logits of the learned weights of ``local``; None in a space without gates.
    """

    modality: str
    space: str
    coarse: Float[np.ndarray, "B D"]
    local: Float[np.ndarray, "B N D"]
    mask: Bool[np.ndarray, "B N"]
    grid: tuple[int, ...]
    segments: Side | None = None
    gates: Float[np.ndarray, "B N"] | None = None

    def __len__(self) -> int:
        return len(self.coarse)


def load(
    workdir: Any, step: str | int = "latest", batch_size: Any = 16, weights: str = ""
) -> "Model":
    """Opens the model that a run trained, or that was converted.

    Args:
      workdir: folder of the run, or a folder that ``fgmm.export`` wrote as safetensors.
      step: which checkpoint: ``"latest"``, ``"best"`` or a step.
      batch_size: the most inputs embedded at a time. A smaller batch is padded to a power of two,
        so that few shapes are compiled.
      weights: ``"ema"``, the moving average of the parameters, or ``"last"``, those of the last
        step; by default the average if the run has one.

    Raises:
      ConfigError: there is no such checkpoint, a file of it is damaged, or it has no such weights;
        or ``batch_size`` is not an integer of at least 1. A ``ConfigError`` is a ``ValueError``.
    """
    if not isinstance(workdir, str | os.PathLike):
        raise ConfigError(f"workdir={workdir!r} is no path; give the folder of a run")
    try:
        batch_size = inputs.whole(batch_size, "batch_size")
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    before = logging.get_verbosity()
    # Orbax logs dozens of lines for each checkpoint.
    logging.set_verbosity(logging.ERROR)
    try:
        folder = pathlib.Path(workdir).expanduser()
        return Model(*checkpoint.load(folder, str(step), weights), batch_size)
    except ConfigError as error:
        # Errors name flags, such as --step; the arguments here have the same names.
        raise ConfigError(re.sub(r"(?<![^\s(])--(?=\w)", "", str(error))) from error
    finally:
        logging.set_verbosity(before)


class Model:
    """Embeds clips, images, sound and text, and compares them.

    Inputs are checked and resized as in evaluations, so a clip has the same embedding here as
    there. Nothing is augmented. Every ``embed_*`` takes any number of inputs and returns numpy
    arrays: coarse embeddings [B,D], of unit length unless the config of the space has
    ``unit_length=False``; or ``Embedded`` with ``local=True``.

    Attributes:
      experiment: everything the checkpoint's config describes.
      state: the train state of the checkpoint.
      batch_size: the most inputs embedded at a time.
    """

    def __init__(self, experiment: Experiment, state: TrainState, batch_size: int = 16):
        self.experiment, self.state, self.batch_size = experiment, state, batch_size
        self._grids: dict[str, tuple[int, ...]] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the model has encoders for."""
        return tuple(self.experiment.model.encoders)

    @property
    def spaces(self) -> dict[str, tuple[str, ...]]:
        """The modalities of each space."""
        return {
            name: tuple(entry["modalities"]) for name, entry in self.experiment.model.spaces.items()
        }

    def __repr__(self) -> str:
        spaces = "; ".join(f"{name}: {', '.join(sides)}" for name, sides in self.spaces.items())
        return f"<fgmm model after {int(self.state.step)} steps; {spaces}>"

    def embed_video(
        self, frames: Any, *, space: str = "", local: bool = False
    ) -> Float[np.ndarray, "B D"] | Embedded:
        """Embeds clips.

        Args:
          frames: uint8, or floats in [0, 1] (rounded to 256 levels), [B,T,H,W,3] in RGB, or a list
            of clips [T,H,W,3] of any sizes. If there are more frames than the model takes, the clip
            is cut into equal stretches and the middle frame of each is used; if fewer, the last
            frame is repeated. Pictures of another size are brought to the model's as
            ``config.data.resize`` says. A clip may also be a list of PIL images, or the path of a
            video, of which ``config.data.seconds`` in the middle are taken. A model on stored
            features takes floats [T,H,W,E] for each clip, of the shape that it was trained on.
          space: the space to embed in; by default the first with the most modalities.
          local: whether to return local embeddings too.

        Raises:
          TypeError, ValueError: pixels of another type or range, NaN among them, a clip of another
            shape or without pixels, a file that cannot be read, an unknown space, or a model
            without video.
        """
        clips = inputs.sequence(frames, "frames", "[B,T,H,W,3], or a list of clips [T,H,W,3]")
        return self._embed("video", clips, self._video, space, local)

    def embed_image(
        self, images: Any, *, space: str = "", local: bool = False
    ) -> Float[np.ndarray, "B D"] | Embedded:
        """Embeds images as static clips, as evaluations do.

        Args:
          images: [B,H,W,3], or a list of images [H,W,3], PIL images or paths; pixels as in
            ``embed_video``.
          space, local: as in ``embed_video``.

        Raises:
          TypeError, ValueError: as in ``embed_video``.
        """
        images = inputs.sequence(images, "images", "[B,H,W,3], or a list of images [H,W,3]")
        return self._embed("video", images, self._image, space, local)

    def embed_audio(
        self, waveform: Any, *, rate: Any = None, space: str = "", local: bool = False
    ) -> Float[np.ndarray, "B D"] | Embedded:
        """Embeds sound.

        Args:
          waveform: floats in [-1, 1], [B,S], or a list of sounds of any lengths, [S], or [S,C] of
            C channels, which are averaged. A longer sound than the model takes is cut at the end; a
            shorter one is padded with silence. A sound may also be the path of a recording, of
            which ``config.data.seconds`` in the middle are taken.
          rate: sample rate of the arrays in Hz; they are resampled to the model's own,
            ``experiment.shape.sample_rate``, which is the default.
          space, local: as in ``embed_video``.

        Raises:
          TypeError, ValueError: samples of another type or range, NaN among them, a sound of
            another shape or without samples, an array that is one sound, a file that cannot be
            read, a rate that is not an integer, an unknown space, or a model without audio.
        """
        sounds = inputs.sounds(waveform, "waveform")
        rate = inputs.whole(self.experiment.shape.sample_rate if rate is None else rate, "rate")
        return self._embed("audio", sounds, functools.partial(self._audio, rate=rate), space, local)

    def embed_text(
        self, texts: Any, *, space: str = "", local: bool = False, strict: bool = False
    ) -> Float[np.ndarray, "B D"] | Embedded:
        """Embeds captions; the local embeddings are those of phrases.

        Args:
          texts: a list of captions; tokens beyond L are cut off, as in training.
          space, local: as in ``embed_video``.
          strict: whether one unusable caption is an error: one that is empty, or in which the
            tokenizer knows no word. Otherwise its embedding is zero, its mask is False, and a
            warning names it; only if all captions are unusable is that an error.

        Raises:
          TypeError, ValueError: not a list of strings, unusable captions (see ``strict``), an
            unknown space, or a model without text.
        """
        texts = inputs.sequence(texts, "texts", "a list of strings")
        self._space("text", space)
        problems = [why for i, text in enumerate(texts) if (why := self._unusable(text, i))]
        for why in problems:
            if strict or len(problems) == len(texts):
                raise ValueError(why)
            warnings.warn(f"{why}; its embedding is zero", stacklevel=2)
        return self._embed("text", texts, self._text, space, local)

    def similarity(
        self, x: Any, y: Any, *, level: str = "coarse", term: str = ""
    ) -> Float[np.ndarray, "X Y"]:
        """The similarity of each of X inputs to each of Y others.

        Args:
          x, y: results of ``embed_*``; ``fine`` and ``sum`` need those with ``local=True``.
          level: ``"coarse"``, the product of coarse embeddings, beside video those of the segments
            of audio, as in training, which need ``local=True``; ``"fine"``, the similarity of local
            and phrase embeddings as a term of the objective computes it; or ``"sum"``, the sum of
            both, each divided by the temperature of its term. Evaluations rank by the level that
            ``experiment.objective.score`` names.
          term: the term that computes the fine similarity; empty for the first on these
            modalities. ``coarse`` has none.

        Raises:
          ValueError: x and y differ in space or width, the level is unknown, the objective has no
            such term, or a term is named for ``coarse``.
          TypeError: x or y lacks local embeddings, which ``fine`` and ``sum`` need.
        """
        both = isinstance(x, Embedded) and isinstance(y, Embedded)
        if both and x.space != y.space:
            raise ValueError(f"x is in space {x.space!r}, y in {y.space!r}; embed both in one")
        if level == "coarse":
            if term:
                raise ValueError(f"term={term!r} belongs to the levels fine and sum; got 'coarse'")
            x, y = _coarse(x, beside=y), _coarse(y, beside=x)
            if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
                raise ValueError(
                    f"x and y have shapes {x.shape} and {y.shape}; expected [X,D] and [Y,D] with "
                    "the same D"
                )
            return x @ y.T
        if level not in SCORES:
            raise ValueError(f"level={level!r} is unknown; allowed: {', '.join(SCORES)}")
        if not both:
            raise TypeError(f"the level {level} needs what embed_* returns with local=True")
        compare = {"fine": self._fine, "sum": self._sum}[level]
        for pair in PAIRS:
            if pair.split("_") == [x.modality, y.modality]:
                return compare(pair, x, y, term)
            if pair.split("_") == [y.modality, x.modality]:
                return compare(pair, y, x, term).T
        raise ValueError(f"{x.modality} and {y.modality} have no fine similarity; {[*PAIRS]} have")

    def _fine(self, pair: str, clips: Embedded, captions: Embedded, term: str) -> np.ndarray:
        found = pairs.fine_term(self.experiment, pair, clips.space, term, name="similarity")
        if not found:
            raise ValueError(f"the objective has no fine term on {pair} in space {clips.space!r}")
        left, right = Side.of(clips), captions.segments or Side.of(captions)
        rows = [
            np.concatenate(
                [self._score(found, part, other)[:n, :m] for other, m in _blocks(right)], axis=1
            )
            for part, n in _blocks(left)
        ]
        return np.concatenate(rows)

    def _sum(self, pair: str, clips: Embedded, captions: Embedded, term: str) -> np.ndarray:
        fine = self._fine(pair, clips, captions, term)
        ranking = pairs.Ranking.of(self.experiment, pair, clips.space, term, name="similarity")
        if not ranking.coarse:
            raise ValueError(f"the objective has no coarse term on {pair}: there is no sum")
        coarse = clips.coarse @ _coarse(captions, beside=clips).T
        parameters = self.state.params["objective"]
        return np.asarray(ranking.scores(parameters, coarse, fine)["sum"])

    def _score(self, term: str, clips: Side, captions: Side) -> np.ndarray:
        parameters = self.state.params["objective"][term]
        return np.asarray(self._scores[term](parameters, clips, captions).values)

    @functools.cached_property
    def _scores(self) -> dict[str, Callable]:
        names = self.experiment.objective.compared
        return {name: jax.jit(pairs.scoring_term(self.experiment, name).score) for name in names}

    @property
    def _seconds(self) -> float:
        return self.experiment.config.data.seconds

    def _video(self, clip: Any, number: int) -> dict[str, np.ndarray]:
        frames = inputs.clip(clip, f"frames[{number}]", self.experiment.shape, self._seconds)
        return {"video": frames}

    def _image(self, image: Any, number: int) -> dict[str, np.ndarray]:
        return {"video": inputs.image(image, f"images[{number}]", self.experiment.shape)}

    def _audio(self, sound: Any, number: int, rate: int) -> dict[str, np.ndarray]:
        shape, name = self.experiment.shape, f"waveform[{number}]"
        return {"audio": inputs.sound(sound, name, rate, shape, self._seconds)}

    def _text(self, text: str, number: int) -> dict[str, np.ndarray]:
        del number
        shape = self.experiment.shape
        segmenter = phrases.find(self.experiment.config.data.segmenter)
        tokens, phrase_ids = self.experiment.tokenizer.encode(
            text, segmenter=segmenter, tokens=shape.tokens, phrases=shape.phrases
        )
        known = ~np.isin(tokens, self.experiment.tokenizer.empty_ids)
        phrase_ids = phrase_ids * (known & (phrase_ids > 0)).any()
        return {"tokens": tokens[None], "phrase_ids": phrase_ids[None]}

    def _unusable(self, text: Any, number: int) -> str:
        """What is wrong with a caption; empty if it is usable."""
        if not isinstance(text, str):
            raise TypeError(f"texts[{number}] is {type(text).__name__}; give a list of strings")
        if not text.strip():
            return f"texts[{number}]={text!r} is empty"
        if self._text(text, number)["phrase_ids"].any():
            return ""
        return f"texts[{number}]={text!r} holds no word that the tokenizer knows"

    def _embed(
        self,
        modality: str,
        inputs: Sequence | np.ndarray,
        prepare: Callable,
        space: str,
        local: bool,
    ) -> np.ndarray | Embedded:
        space = self._space(modality, space)
        # Without inputs, a batch of zeros gives the shapes of the result.
        starts = range(0, max(1, len(inputs)), self.batch_size)
        parts = []
        for start in starts:
            chosen = inputs[start : start + self.batch_size]
            examples = [prepare(x, start + i) for i, x in enumerate(chosen)]
            found = self.experiment.embed(self.state, self._batch(modality, examples))[space]
            found = {name: found[name] for name in found if name.startswith(modality)}
            wanted = found if local else found[modality].coarse
            count = len(examples)
            parts.append(jax.tree.map(lambda a, n=count: a[:n], jax.device_get(wanted)))
        joined = jax.tree.map(lambda *a: np.concatenate(a), *parts)
        return self._embedded(modality, space, joined) if local else _one_caption(joined)

    def _batch(self, modality: str, examples: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        # With powers of two as sizes, few shapes are compiled.
        size = min(self.batch_size, 1 << max(0, len(examples) - 1).bit_length())
        blank = self.experiment.blank_batch(size)
        text = modality == "text"
        names = ("tokens", "phrase_ids") if text else (modality, f"{modality}_mask")
        batch = {name: blank[name].copy() for name in names}
        if text:
            batch = {name: ids[:, :1] for name, ids in batch.items()}
        for name in examples[0] if examples else ():
            batch[name][: len(examples)] = np.stack([example[name] for example in examples])
        return batch

    def _embedded(self, modality: str, space: str, found: Any) -> Embedded:
        own, segments = found[modality], found.get(f"{modality}_segments")
        side = _of_only_caption(own) if modality == "text" else own
        parts = None if segments is None else _of_only_caption(segments)
        return Embedded(
            modality=modality,
            space=space,
            coarse=_one_caption(own.coarse),
            local=side.local,
            mask=side.mask,
            gates=side.gates,
            grid=self._grid(modality),
            segments=None if parts is None else Side.of(parts)._replace(coarse=parts.coarse),
        )

    def _grid(self, modality: str) -> tuple[int, ...]:
        if modality not in self._grids:
            batch = jax.tree.map(jnp.asarray, self._batch(modality, []))
            jax.eval_shape(lambda: self._note_grid(modality, batch))
        return self._grids[modality]

    def _note_grid(self, modality: str, batch: dict[str, Any]) -> jax.Array:
        tokens = self.experiment.encode(self.state, batch)[modality]
        self._grids[modality] = tokens.grid[1:] if modality == "text" else tokens.grid
        return tokens.local

    def _space(self, modality: str, space: str) -> str:
        if modality not in self.modalities:
            raise ValueError(
                f"the model has no encoder of {modality}; it has {', '.join(self.modalities)}"
            )
        allowed = [name for name, sides in self.spaces.items() if modality in sides]
        if not allowed or (space and space not in allowed):
            raise ValueError(
                f"space={space!r} has no {modality}; allowed: {', '.join(allowed) or 'none'}"
            )
        return space or max(allowed, key=lambda name: len(self.spaces[name]))


def _coarse(x: Any, *, beside: Any) -> np.ndarray:
    """The coarse embeddings of one side of a comparison."""
    if not isinstance(x, Embedded):
        return np.asarray(x)
    if x.segments is not None and isinstance(beside, Embedded) and beside.modality == "video":
        return x.segments.coarse
    return x.coarse


def _of_only_caption(embeddings: Embeddings) -> Embeddings:
    """[B,1,...] as [B,...]."""
    return jax.tree.map(lambda a: a[:, 0], embeddings)


def _one_caption(coarse: np.ndarray) -> np.ndarray:
    """[B,D] from [B,D] or, for captions, [B,1,D]."""
    return coarse.reshape(len(coarse), coarse.shape[-1])


def _blocks(side: Side) -> Iterator[tuple[Side, int]]:
    """Parts of a side, padded to a power of two so that few shapes are compiled; each with its
    number of true entries.
    """
    count = len(side.mask)
    size = min(_BLOCK, 1 << max(0, count - 1).bit_length())
    for start in range(0, max(1, count), size):
        n = min(size, count - start)

        def filled(a, start=start, n=n):
            return np.pad(a[start : start + n], [(0, size - n)] + [(0, 0)] * (a.ndim - 1))

        yield jax.tree.map(filled, side), n
