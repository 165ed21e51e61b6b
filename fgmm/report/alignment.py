"""A page that shows what a checkpoint aligns: where each phrase attends in the frames and the sound
of its clip.

::

    python -m fgmm.report.alignment --workdir=DIR [--config=eval/NAME:corpus=CORPUS] [--clips=6]

It is one ``index.html`` that holds all its pictures. Without a config, clips come from the corpus
of the run's first evaluation. The first captions of a clip are embedded, each on its own; together
they have up to eight phrases. Weights of phrases are relative to these phrases.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float

from fgmm import command_line, xla_flags
from fgmm.config import ConfigError, as_dict
from fgmm.data import grounding, pipeline
from fgmm.data.augmentation.spectrogram import LOWEST, mel
from fgmm.data.schema import Clip
from fgmm.data.text import phrases
from fgmm.eval import attention
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses import PhraseWeights
from fgmm.report import pages, strips
from fgmm.report.gallery import spectrograms, spread

_WITH_TEXT = {"video_text": "In the picture", "audio_text": "In the sound"}
_HEADINGS = {**_WITH_TEXT, "video_audio": "Sound in the picture"}
_PHRASES = 8  # of all captions of a clip
_FRAMES = 8  # shown of a clip
_BATCH = 8
_TICKS_HZ = (250, 1000, 2000, 4000, 8000)
_LEGEND = "Colour: the strip's share of attention, from none (grey) to its peak (yellow, +)."
_LEGEND_OF_BOXES = (
    " Box: what the phrase refers to, dashed in frames of which the phrase is not true. The + is"
    " green where the peak lies in the box while that is true, red where it does not."
)


class Alignment:
    """Draws clips of a corpus.

    Args:
      experiment, state: of a checkpoint.
      source: the corpus, as in ``config.data.source``.

    Raises:
      ConfigError: the model compares text with neither video nor audio.
    """

    def __init__(self, experiment: Experiment, state: TrainState, source: Mapping):
        self.experiment, self.state = experiment, state
        compared = {entry.pair for entry in experiment.objective.compared.values()}
        if not compared & set(_WITH_TEXT):
            raise ConfigError(
                "alignment: the checkpoint was trained to compare text with neither video nor "
                f"audio, only {', '.join(sorted(compared)) or 'to tell classes'}; there are no "
                "phrases to draw"
            )
        self.compared = [pair for pair in (*_WITH_TEXT, "video_audio") if pair in compared]
        # A pair is shown by its first fine term that defines its attention, otherwise by its first
        # coarse term, otherwise by none.
        of_pairs = {pair: attention.terms(experiment, pair) for pair in self.compared}
        self.terms = {pair: next(iter(terms.values())) for pair, terms in of_pairs.items() if terms}
        self._maps = attention.maps(experiment, tuple(self.terms.values()))
        self.corpus = name_of(source)
        self.assembler = dataclasses.replace(
            experiment.assembler(experiment.source(source, "source"), captions=_PHRASES),
            join_captions=False,
        )
        self.segmenter = phrases.find(self.assembler.segmenter)
        self.problems: collections.Counter[str] = collections.Counter()

    def sheets(self, clips: int) -> Iterator[tuple[Clip, strips.Sheet]]:
        """Yields the drawings of at most ``clips`` clips, evenly spaced in the corpus.

        Their problems are counted in ``problems``. A clip without a phrase, or without frames or
        sound to compare it with, is left out.
        """
        source = self.assembler.source
        chosen = [source[place] for place in spread(len(source), clips)]
        assembler = dataclasses.replace(self.assembler, source=chosen)
        for batch, valid in pipeline.evaluation_batches(assembler, min(_BATCH, len(chosen))):
            self.problems += pipeline.count_problems(batch["problems"][:valid])
            maps = jax.device_get(self._maps(self.state, batch))
            if "audio" in batch:
                batch["log_mel"] = spectrograms(self.experiment, batch["audio"])
            for row in range(valid):
                clip = chosen[int(batch["record"][row])]
                example = {name: x[row] for name, x in batch.items()}
                there = [
                    pair
                    for pair in self.compared
                    if all(_has(example, modality) for modality in pair.split("_"))
                ]
                of_row = {
                    pair: jax.tree.map(lambda x, row=row: x[row : row + 1], maps[self.terms[pair]])
                    for pair in there
                    if pair in self.terms
                }
                if set(there) & set(_WITH_TEXT):
                    yield clip, self._sheet(clip, example, there, of_row)

    @property
    def gated(self) -> list[str]:
        """The pairs with text whose fine term learns the weights of phrases."""
        return [
            pair
            for pair in _WITH_TEXT
            if self._is_attention(pair)
            and "y" in self.experiment.objective.terms[self.terms[pair]].term.gated_sides
        ]

    @property
    def why_nothing(self) -> str:
        """Why no clip was drawn, in a line."""
        reasons = ", ".join(f"{reason} {n}" for reason, n in self.problems.items())
        return (
            f"alignment: no clip of {self.corpus} has a phrase and something to compare it with "
            f"({reasons or 'no problems noted'})"
        )

    def _sheet(
        self,
        clip: Clip,
        example: Mapping,
        compared: Sequence[str],
        maps: Mapping[str, attention.Maps],
    ) -> strips.Sheet:
        """The drawing of a clip, from its row of a batch and its maps (with B = 1) by pair."""
        texts = [caption.text for caption in clip.captions if caption.text.strip()]
        places = _first_captions(example["phrase_ids"])
        has_video, has_sound = _has(example, "video"), _has(example, "audio")
        video = _pictures(example["video"]) if has_video else np.zeros((1, 1, 1, 3), np.uint8)
        shown = np.array(spread(len(video), _FRAMES))
        references = self._references(clip) if has_video else []
        weights = self._weights(maps, places)
        with_text = [pair for pair in _WITH_TEXT if pair in maps]
        blocks = [strips.Block("the clip", has_frames=has_video, has_sound=has_sound)]
        gates = {pair: maps[pair].cell_gates for pair in with_text}
        gates = {pair: weights[0] for pair, weights in gates.items() if weights is not None}
        if gates:
            blocks.append(_block_of_gates(gates, len(video), shown))
        for number, place in enumerate(places):
            times = maps["video_text"].weights.shape[3] if "video_text" in maps else 1
            block = _block_of_phrase(
                self._phrase(texts[place[0]], place[1]),
                {pair: _Map.of(maps[pair], *place) for pair in with_text},
                {pair: float(found.weights[number]) for pair, found in weights.items()},
                [r for r in references if (r.caption, r.phrase) == place],
                grounding.cell_of_frame(len(video), times)[shown],
                shown,
            )
            blocks.append(block)
        if "video_audio" in maps and self._is_attention("video_audio"):
            blocks.append(_block_of_sound(maps["video_audio"], len(video), shown))
        spoken = dict.fromkeys(texts[caption] for caption, _ in places)
        how = [
            f"{_HEADINGS[pair]}: {self._described(pair, weights)}"
            for pair in compared
            if pair in _WITH_TEXT or self._is_attention(pair) or pair not in self.terms
        ]
        return strips.Sheet(
            heading=[
                f"{clip.clip_id}  ({self.corpus}, step {int(self.state.step)})",
                *(f"“{text}”" for text in spoken),
                *how,
                _LEGEND + (_LEGEND_OF_BOXES if references else ""),
            ],
            frames=video[shown],
            frame_labels=[f"frame {f + 1}" for f in shown.tolist() if len(video) > 1],
            spectrogram=example["log_mel"] if has_sound else None,
            sound_seconds=self.experiment.config.data.seconds,
            mel_ticks=self._mel_ticks() if has_sound else [],
            blocks=blocks,
        )

    def _weights(self, maps, places) -> dict[str, PhraseWeights]:
        """The weights of phrases by pair with text, for fine terms that tell them."""
        weights = {}
        for pair in (pair for pair in _WITH_TEXT if pair in maps and self._is_attention(pair)):
            term = self.experiment.objective.terms[self.terms[pair]].term
            parameters = self.state.params["objective"][self.terms[pair]]
            scores = jnp.stack([maps[pair].score[0, *place] for place in places])
            gates = maps[pair].phrase_gates
            if gates is not None:
                gates = jnp.stack([gates[0, *place] for place in places])
            found = term.phrase_weights(parameters, scores, step=int(self.state.step), gate=gates)
            if found is not None:
                weights[pair] = found
        return weights

    def _described(self, pair: str, weights: Mapping[str, PhraseWeights]) -> str:
        """The kind of map that is shown for a pair, in words."""
        if self._is_attention(pair):
            name = self.terms[pair]
            term = self.experiment.objective.terms[name].term
            described = str(term.attention(self.state.params["objective"][name]))
            line = f"attention of {name} ({self._loss(name)}, {described})"
            if pair not in _WITH_TEXT:
                return line
            said = weights[pair].description if pair in weights else "the term does not say"
            return f"{line}; weights of phrases: {said}"
        silent = [
            f"{name} ({self._loss(name)}) does not say how its phrases attend"
            for name in attention.terms_without_map(self.experiment, pair)
        ]
        if pair not in self.terms:
            return "; ".join(["no map", *silent])
        name = self.terms[pair]
        why = silent or ["no fine term was trained"]
        return "; ".join([f"class activation map of {name} ({self._loss(name)})", *why])

    def _loss(self, term: str) -> str:
        return self.experiment.config.objective.terms[term].name

    def _is_attention(self, pair: str) -> bool:
        """Whether the map shown for a pair is the attention of a fine term."""
        name = self.terms.get(pair)
        return name is not None and self.experiment.objective.terms[name].level == "fine"

    def _phrase(self, text: str, phrase: int) -> str:
        room = self.assembler.shape.phrases
        start, end = phrases.fitting(text, self.segmenter(text), room)[phrase]
        return text[start:end]

    def _references(self, clip: Clip) -> list[grounding.Reference]:
        if not clip.grounding or not callable(clip.video):
            return []
        size = clip.video().shape[1:3]
        return grounding.references(clip, size, self.assembler.shape, self.segmenter)

    def _mel_ticks(self) -> list[tuple[float, str]]:
        transforms = self.experiment.transforms
        top = transforms.sample_rate / 2
        low, high = mel(LOWEST[transforms.mel_filterbank]), mel(top)
        share = (mel(np.array(_TICKS_HZ)) - low) / (high - low)
        # The middle of band k is the point k + 1 of the filters' ends, the first of which is 0.
        bands = share * (transforms.mel_bands + 1) - 1
        return [
            (band, f"{hz / 1000:g} kHz")
            for hz, band in zip(_TICKS_HZ, bands.tolist(), strict=True)
            if hz <= 0.9 * top
        ]


def _has(example: Mapping, modality: str) -> bool:
    return bool(np.any(example.get(f"{modality}_mask", False)))


def _pictures(video: np.ndarray) -> np.ndarray:
    """The frames of a clip; for stored features grey frames, on which attention is drawn."""
    return video if video.dtype == np.uint8 else np.full((*video.shape[:3], 3), 128, np.uint8)


def _first_captions(phrase_ids: np.ndarray) -> list[tuple[int, int]]:
    """(caption, phrase), from 0, of the first captions with up to ``_PHRASES`` phrases in all.

    The first caption is always whole.
    """
    places: list[tuple[int, int]] = []
    for caption, ids in enumerate(phrase_ids):
        there = [(caption, int(phrase) - 1) for phrase in np.unique(ids[ids > 0])]
        if places and len(places) + len(there) > _PHRASES:
            break
        places += there
    return places


class _Map(NamedTuple):
    """The map of one phrase over one clip; see ``attention.Maps``."""

    similarity: Float[np.ndarray, "*grid"]
    weights: Float[np.ndarray, "*grid"]
    score: float

    @classmethod
    def of(cls, maps: attention.Maps, caption: int, phrase: int) -> "_Map":
        place = 0, caption, phrase
        return cls(maps.similarity[place], maps.weights[place], float(maps.score[place]))


def _block_of_phrase(
    phrase: str,
    maps: Mapping[str, _Map],
    weights: Mapping[str, float],
    references: Sequence[grounding.Reference],
    frames: np.ndarray,
    shown: np.ndarray,
) -> strips.Block:
    """The strip of one phrase.

    Args:
      phrase: its text.
      maps: of this phrase, by pair.
      weights: of this phrase, by pair.
      references: what the phrase is known to refer to.
      frames: for each frame shown, the time step of the feature map that it belongs to.
      shown: numbers of the frames shown.
    """
    details, heat = [], {}
    for pair, of_phrase in maps.items():
        peak = of_phrase.weights.max()
        heat[pair] = of_phrase.weights / max(peak, 1e-12)
        details.append(
            f"{_WITH_TEXT[pair].lower()}: similarity {of_phrase.score:.2f}, "
            f"peak {peak:.1%} (uniform {1 / of_phrase.weights.size:.1%})"
            + (f", weight {weights[pair]:.2f}" if pair in weights else "")
        )
    peak = None
    if "video_text" in maps:
        peak = _peak(maps["video_text"].similarity, references, frames)
        heat["video_text"] = heat["video_text"][frames]
    return strips.Block(
        phrase,
        "; ".join(details),
        map=heat.get("video_text"),
        sound_map=heat.get("audio_text"),
        boxes=[
            strips.Box(i, *reference.boxes[frame].tolist(), bool(reference.active[frame]))
            for reference in references
            for i, frame in enumerate(shown.tolist())
        ],
        period=references[0].period if references else (1.0, 1.0),
        peak=peak,
        has_frames="video_text" in maps,
        has_sound="audio_text" in maps,
        weights=weights,
    )


def _peak(
    similarity: np.ndarray, references: Sequence[grounding.Reference], frames: np.ndarray
) -> strips.Peak:
    times, rows, columns = similarity.shape
    time, row, column = np.unravel_index(similarity.argmax(), similarity.shape)
    hits = [
        grounding.over_time(
            grounding.inside(reference, rows, columns) & reference.active[:, None, None], times
        )[time, row, column]
        for reference in references
    ]
    return strips.Peak(
        frames=tuple(np.flatnonzero(frames == time).tolist()),
        row=float(row + 0.5) / rows,
        column=float(column + 0.5) / columns,
        hit=bool(any(hits)) if hits else None,
    )


def _block_of_gates(
    weights: Mapping[str, Float[np.ndarray, "*grid"]], count: int, shown: np.ndarray
) -> strips.Block:
    """The strip of learned weights of cells, by pair with text, for a clip of ``count`` frames."""
    heat = {pair: of_pair / max(of_pair.max(), 1e-12) for pair, of_pair in weights.items()}
    if "video_text" in heat:
        times = len(heat["video_text"])
        heat["video_text"] = heat["video_text"][grounding.cell_of_frame(count, times)[shown]]
    peaks = (
        f"{_WITH_TEXT[pair].lower()}: peak {of_pair.max():.1%} (uniform {1 / of_pair.size:.1%})"
        for pair, of_pair in weights.items()
    )
    return strips.Block(
        "learned weights of cells",
        "; ".join(peaks),
        map=heat.get("video_text"),
        sound_map=heat.get("audio_text"),
        has_frames="video_text" in heat,
        has_sound="audio_text" in heat,
    )


def _block_of_sound(maps: attention.Maps, count: int, shown: np.ndarray) -> strips.Block:
    """The strip of ``video_audio``: in each frame shown, the attention of the sound of its time."""
    segments = int(maps.mask[0, 0].sum())
    cells = maps.weights.shape[3]
    heard = grounding.cell_of_frame(count, segments)[shown]
    seen = grounding.cell_of_frame(count, cells)[shown]
    heat = maps.weights[0, 0, heard, seen]
    return strips.Block(
        "the sound of the moment",
        f"in the picture: attention of {segments} stretches of sound, each shown where it is heard",
        map=heat / max(heat.max(), 1e-12),
    )


def write(alignment: Alignment, clips: int, output: pathlib.Path) -> int:
    """Writes ``index.html``, which holds all its pictures, and returns the number of clips shown.

    Args:
      alignment: draws the clips.
      clips: how many clips to draw, at most.
      output: the folder of the page; created if it does not exist.

    Raises:
      ConfigError: no clip has anything to show.
    """
    sheets = [strips.drawn(sheet) for _, sheet in alignment.sheets(clips)]
    if not sheets:
        raise ConfigError(alignment.why_nothing)
    output.mkdir(parents=True, exist_ok=True)
    title = f"{alignment.corpus}: alignment after {int(alignment.state.step)} steps"
    page = pages.render("alignment.html", title=title, sheets=sheets)
    (output / "index.html").write_text(page)
    return len(sheets)


def main(argv: list[str]) -> None:
    """Draws the clips and writes the page."""
    del argv
    workdir = pathlib.Path(command_line.required("workdir"))
    if flags.FLAGS.clips < 1:
        raise ConfigError(f"--clips={flags.FLAGS.clips} must be at least 1")
    xla_flags.configure()
    command_line.use_compilation_cache()
    from fgmm.train import checkpoint

    experiment, state = checkpoint.load(workdir, flags.FLAGS.step)
    output = command_line.folder_to_write(
        flags.FLAGS.output or workdir / f"alignment-{int(state.step)}"
    )
    alignment = Alignment(experiment, state, source_of(experiment))
    shown = write(alignment, flags.FLAGS.clips, output)
    for reason, count in alignment.problems.items():
        print(f"bad input, {reason}: {count} of the clips chosen")
    print(f"{shown} clips of {alignment.corpus}: {output / 'index.html'}")


def name_of(source: Mapping[str, Any]) -> str:
    """A corpus as people read it: its name, with its split if it has one."""
    return "/".join([source["name"], *filter(None, [source.get("split")])])


def source_of(experiment: Experiment) -> Mapping[str, Any]:
    """The corpus of ``--config``; without it that of ``source_of_run``.

    Raises:
      ConfigError: the config names no corpus.
    """
    if flags.FLAGS.config is not None:
        if "source" not in flags.FLAGS.config:
            raise ConfigError(f"--config={command_line.given('config')} names no source")
        return as_dict(flags.FLAGS.config)["source"]
    return source_of_run(experiment)


def source_of_run(experiment: Experiment) -> Mapping[str, Any]:
    """The corpus of the run's first evaluation; without evaluations the training corpus."""
    config = as_dict(experiment.config)
    sources = [entry["source"] for entry in config["evals"].values() if "source" in entry]
    return (sources or [config["data"]["source"]])[0]


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose checkpoint is shown.")
    flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best or a step.")
    flags.DEFINE_string("output", None, "The folder of the page; by default in the workdir.")
    flags.DEFINE_integer("clips", 6, "How many clips are drawn.")
    command_line.define_config(
        "Whose source is shown: a protocol, eval/NAME:corpus=CORPUS[,k=v,...] or PATH.py."
    )
    command_line.run(main)
