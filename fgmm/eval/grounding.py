"""Temporal grounding: in which part of its window is a phrase, or a caption, true?

Protocol: every caption is embedded on its own, beside its window, without augmentation. The
similarity of a phrase and the cells of the window is a map (``attention`` or ``cam``, see
``fgmm.eval.attention``). Its maximum over rows and columns (or frequencies) is a curve over time.
The curve of a caption is the mean over its phrases. The predicted span is the peak of the curve and
the contiguous cells around it that are not below a threshold. The threshold is a share of the
height between the lowest cell and the peak. Of several ``thresholds``, the one with the highest
mean IoU on ``tuning_source`` is taken, for each map and network. It is never chosen on the clips
that are measured. A window longer than the clips of training is cut into equal pieces of about that
length; they are embedded one by one, and their curves are joined.

Queries of kind *phrase* are the phrases that a corpus with grounding knows to be true in a part of
the window only. Queries of kind *caption* are the captions with such phrases, from the start of the
first to the end of the last; in a corpus without grounding, the captions that have times within the
window. With ``join``, that many consecutive clips of a corpus with grounding are one window, and
the phrases and captions of each clip are searched in it. If the same words are true in another clip
of the window too, a span there counts as wrong, since this is not known. The figures are Recall@1
at IoU 0.3, 0.5 and 0.7, which is the share of queries whose predicted span has at least this
intersection over union with the true span, and the mean IoU (Gao et al., TALL, ICCV 2017, arXiv
1705.02101; evaluate.py of github.com/minghangz/TFVTG at commit 2f8cae5). If a query has several
true spans, the best match counts.

Baselines, on the same queries: ``chance``, the exact mean over all spans of cells; ``whole
window``; ``best span``, the single span that does best on these queries, chosen with hindsight; and
``untrained``, the same maps of the network before its first step. ``ceiling`` is the best span of
cells for each query.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from fgmm.config import Config, ConfigError
from fgmm.config.option import check_options, option
from fgmm.data import grounding, pipeline
from fgmm.data.media import av_files
from fgmm.data.media.stretch import Stretch, share_start
from fgmm.data.schema import BadInput, Clip
from fgmm.data.text import phrases
from fgmm.eval import attention, metrics, passes, result_text
from fgmm.eval.time_spans import all_spans, found_span, outcomes, overlap
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState

KINDS = ("phrase", "caption")
MEASURES = tuple(outcomes(np.zeros(1)))
_OTHER = {"video_text": {"samples": 0}, "audio_text": {"frames": 0}}
# Equal parts of a window that the best single span is made of.
_GRID = 20


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: a corpus with grounding or with timed captions, as in ``config.data.source``.
      tuning_source: a corpus to choose the threshold on, which must share no clip with ``source``;
        may be empty if there is one threshold.
      thresholds: to choose from.
      pair: ``"video_text"`` or ``"audio_text"``.
      term: name of the term whose map is used; empty for the first fine term on the pair that
        defines its attention, and the first coarse term.
      captions: the most captions of a window; the first ones are taken. With ``join``, of a clip.
      join: consecutive clips that form one window; clips left over at the end are not used.
      batch_size: pieces embedded at a time.
    """

    source: Mapping
    tuning_source: Mapping = dataclasses.field(default_factory=dict)
    thresholds: tuple[float, ...] = option((0.5,), low=0, high=1)
    pair: str = option("video_text", choices=tuple(_OTHER))
    term: str = ""
    captions: int = option(5, low=1)
    join: int = option(1, low=1)
    batch_size: int = option(32, low=1)

    def __post_init__(self):
        check_options(self)
        if len(self.thresholds) > 1 and not self.tuning_source:
            raise ConfigError(
                f"grounding: thresholds={self.thresholds!r}: one of them is chosen on "
                "tuning_source, which is empty; name a corpus of other clips, or give one threshold"
            )
        if self.tuning_source and dict(self.tuning_source) == dict(self.source):
            raise ConfigError(
                "grounding: tuning_source equals source: the threshold would be chosen on the "
                "clips that are measured; name other clips"
            )

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpora and finds the terms.

        Raises:
          ConfigError: an option names something that is not there, the model does not compare the
            pair, or nothing in a corpus has a time.
        """
        return _Grounding(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text, with its baselines."""

        def title(kind: str, measure: str) -> str:
            known = kind in KINDS and measure in MEASURES
            return f"{kind} {measure.replace('_', ' ')}" if known else ""

        counts = [f"{result['windows']:.0f} windows of {self.source['name']}"]
        counts += [
            f"{result[f'queries/{kind}']:.0f} {kind}s"
            for kind in KINDS
            if f"queries/{kind}" in result
        ]
        lines = [result_text.table_of_ways(result, title), ", ".join(counts)]
        return "\n".join(filter(None, [*lines, result_text.problems(result)]))


class _Query(NamedTuple):
    """A phrase or a caption of a window.

    Attributes:
      kind: one of ``KINDS``.
      name: shown to people.
      window: number of the window.
      truths: the true spans, in fractions of the window.
      curves: similarity over time, by *way*: the network and the kind of map, such as
        ``"untrained_attention"``.
    """

    kind: str
    name: str
    window: int
    truths: tuple[tuple[float, float], ...]
    curves: dict[str, Float[np.ndarray, "T"]]


class _Grounding:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.options, self.experiment = options, experiment
        try:
            self.terms = attention.terms(experiment, options.pair, options.term)
        except ConfigError as error:
            raise ConfigError(f"grounding: {error}") from error
        if not self.terms:
            raise ConfigError(
                f"grounding: no term on {options.pair} says how its phrases attend; define its "
                "attention(), or train a coarse term beside it"
            )
        self._windows = _Windows(experiment, options.source, options, "grounding.source")
        self._tuning = None
        if len(options.thresholds) > 1:
            key = "grounding.tuning_source"
            self._tuning = _Windows(experiment, options.tuning_source, options, key)
        self._maps = attention.maps_by_way(experiment, self.terms)
        self.protocol = dataclasses.asdict(options) | {
            "maps": self.terms,
            "captions_embedded": "each on its own",
            "curve": "highest similarity of each moment; of a caption the mean over its phrases",
            "span": "cells in a row around the peak, not below the threshold's share of the height",
            "threshold_chosen_by": "mean IoU on tuning_source" if self._tuning else "nothing",
            "pieces_of_windows": sorted(set(self._windows.pieces_of_record)),
            "seconds_of_pieces": experiment.config.data.seconds,
            "augmentation": "none",
            "untrained_seed": experiment.config.seed,
        }
        self.by_query: dict[str, list[float]] = {}
        self.queries: dict[str, dict[str, list]] = {}

    def __call__(self, state: TrainState) -> dict[str, float]:
        states = attention.beside_untrained(self.experiment, state)
        queries, problems = self._asked(self._windows, states)
        if not queries:
            raise ConfigError("grounding.source: nothing that has a time can be read")
        thresholds = self._thresholds(states, queries)
        result: dict[str, float] = {"windows": float(len({query.window for query in queries}))}
        result |= {f"threshold/{way}": value for way, value in thresholds.items()}
        for kind in KINDS:
            of_kind = [query for query in queries if query.kind == kind]
            if of_kind:
                result |= self._measured(kind, of_kind, thresholds)
        return result | result_text.counts(problems, self._windows.report)

    def _thresholds(
        self, states: Mapping[str, TrainState], queries: list[_Query]
    ) -> dict[str, float]:
        """The threshold of each way (network and kind of map)."""
        ways = list(queries[0].curves)
        if self._tuning is None:
            return dict.fromkeys(ways, self.options.thresholds[0])
        tuning, _ = self._asked(self._tuning, states)
        if not tuning:
            raise ConfigError("grounding.tuning_source: nothing that has a time can be read")

        def quality(way: str, threshold: float) -> float:
            return float(np.mean([_iou(query, way, threshold) for query in tuning]))

        # Of equally good thresholds the first.
        return {
            way: max(self.options.thresholds, key=lambda value, way=way: quality(way, value))
            for way in ways
        }

    def _measured(
        self, kind: str, queries: list[_Query], thresholds: Mapping[str, float]
    ) -> dict[str, float]:
        group = np.array([query.window for query in queries])
        self.queries[kind] = {"name": [query.name for query in queries], "group": group.tolist()}
        found = {
            way: outcomes(np.array([_iou(query, way, threshold) for query in queries]))
            for way, threshold in thresholds.items()
        }
        found |= _baselines(queries)
        result = {f"queries/{kind}": float(len(queries))}
        for way, of_queries in found.items():
            self.by_query[f"{way}/{kind}/iou"] = of_queries["mean_iou"].tolist()
            numbers = metrics.with_intervals(of_queries, group)
            result |= {f"{way}/{kind}/{name}": value for name, value in numbers.items()}
        # Chance is an expectation and has no outcomes of queries.
        del self.by_query[f"chance/{kind}/iou"]
        return result

    def _asked(
        self, windows: "_Windows", states: Mapping[str, TrainState]
    ) -> tuple[list[_Query], collections.Counter[str]]:
        """The queries of a corpus with their curves, and the counts of its problems."""
        queries: list[_Query] = []
        problems: collections.Counter[str] = collections.Counter()
        for record, curves, mask in self._read(windows, states, problems):
            clip = windows.source[record]
            for kind, times in windows.times(record):
                place = times.caption, *([] if kind == "caption" else [times.phrase])
                there = mask[place]
                if not np.all(there if kind == "phrase" else there.any(axis=0)):
                    problems["cut_off_phrase"] += 1
                    continue
                of_query = {
                    way: curve[place] if kind == "phrase" else curve[place][there].mean(axis=0)
                    for way, curve in curves.items()
                }
                spoken = [c.text for c in clip.captions if c.text.strip()][times.caption]
                part = f", phrase {times.phrase}" if kind == "phrase" else ""
                name = f"{clip.clip_id}: {spoken}{part}"
                window = windows.window(record)
                queries.append(_Query(kind, name, window, times.spans, of_query))
        return queries, problems

    def _read(
        self,
        windows: "_Windows",
        states: Mapping[str, TrainState],
        problems: collections.Counter[str],
    ) -> Iterator[tuple[int, dict[str, np.ndarray], np.ndarray]]:
        """Yields each record that has a phrase valid in all its pieces.

        Yields:
          The record, curves [K,P,T] by way, and which phrases are valid in all pieces, [K,P].
        """
        parts: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        masks: list[np.ndarray] = []
        modality = self.options.pair.partition("_")[0]
        for batch, maps, count in passes.batches(
            windows.assembler, self.options.batch_size, states, self._maps
        ):
            problems += pipeline.count_problems(batch["problems"][:count])
            curves = {way: _curves(of_way) for way, of_way in maps.items()}
            mask = next(iter(maps.values())).mask
            for row in range(count):
                record, piece = windows.places[int(batch["record"][row])]
                for way, of_batch in curves.items():
                    parts[way].append(of_batch[row])
                masks.append(mask[row] & bool(batch[f"{modality}_mask"][row]))
                if piece + 1 == windows.pieces_of_record[record]:
                    joined = {way: np.concatenate(of, axis=2) for way, of in parts.items()}
                    there = np.all(masks, axis=0)
                    if there.any():
                        yield record, joined, there
                    parts.clear()
                    masks.clear()


def _curves(maps: attention.Maps) -> Float[np.ndarray, "B K P T"]:
    """The highest similarity of each moment."""
    similarity = np.asarray(maps.similarity, np.float64)
    return similarity.reshape(*similarity.shape[:4], -1).max(axis=4)


def _iou(query: _Query, way: str, threshold: float) -> float:
    span = found_span(query.curves[way], threshold)
    return float(overlap(np.array([span]), query.truths)[0])


def _baselines(queries: list[_Query]) -> dict[str, dict[str, np.ndarray]]:
    """Outcomes of predictions that ignore the window, and of the ceiling, which knows the truth."""
    lengths = [len(next(iter(query.curves.values()))) for query in queries]
    of_spans = [
        overlap(all_spans(cells), query.truths)
        for cells, query in zip(lengths, queries, strict=True)
    ]
    expected = [outcomes(iou) for iou in of_spans]
    chance = {name: np.array([one[name].mean() for one in expected]) for name in MEASURES}
    on_grid = np.stack([overlap(all_spans(_GRID), query.truths) for query in queries])
    whole = np.array([overlap(np.array([[0.0, 1.0]]), query.truths)[0] for query in queries])
    return {
        "chance": chance,
        "whole_window": outcomes(whole),
        "best_span": outcomes(on_grid[:, on_grid.mean(axis=0).argmax()]),
        "ceiling": outcomes(np.array([iou.max() for iou in of_spans])),
    }


class _Windows:
    """The windows of a corpus, cut into pieces about as long as the clips of training. It is the
    source of these pieces.

    Attributes:
      source: the corpus.
      assembler: of the pieces.
      places: the record of each piece, and its number within the record.
      pieces_of_record: how many pieces each record has.
    """

    def __init__(self, experiment: Experiment, entry: Config, options: Evaluation, key: str):
        self.source = experiment.source(entry, key)
        self._captions, self._clip_seconds = options.captions, experiment.config.data.seconds
        self._join = options.join
        records = range(len(self.source) // self._join * self._join)
        self.pieces_of_record = [self._pieces(n) for n in records]
        counts = enumerate(self.pieces_of_record)
        self.places = [(n, i) for n, count in counts for i in range(count)]
        assembler = experiment.assembler(self, captions=options.captions, **_OTHER[options.pair])
        self.assembler = dataclasses.replace(assembler, join_captions=False)
        self._segmenter = phrases.find(self.assembler.segmenter)
        if not any(any(self.times(n)) for n in records):
            raise ConfigError(
                f"{key}: no phrase or caption of {entry['name']!r} is known to be true of a part "
                "of its window; windows must be longer than captions, or several clips (join)"
            )

    @property
    def report(self) -> collections.Counter[str]:
        return self.source.report

    def __len__(self) -> int:
        return len(self.places)

    def window(self, record: int) -> int:
        """The number of the window that the record is, or, with ``join``, belongs to."""
        return record // self._join

    def times(self, record: int) -> Iterator[tuple[str, grounding.TimeSpans]]:
        """The phrases and captions of a record that are true in a part of its window only.

        Yields:
          One of ``KINDS``, and when it is true, in fractions of the window.
        """
        clip, found = self.source[record], []
        if clip.grounding:
            told = grounding.times_of_phrases(clip, self.assembler.shape, self._segmenter)
            found = [("phrase", times) for times in told]
            found += [("caption", times) for times in grounding.times_of_told(told)]
        elif (seconds := _seconds(_stretch(clip))) and self._join == 1:
            told = grounding.times_of_captions(clip, seconds, self._captions)
            found = [("caption", times) for times in told]
        place = record % self._join
        for kind, times in found:
            spans = tuple(
                ((place + start) / self._join, (place + end) / self._join)
                for start, end in times.spans
            )
            if spans != ((0.0, 1.0),):
                yield kind, times._replace(spans=spans)

    def _pieces(self, record: int) -> int:
        if self._join > 1:
            return self._join
        seconds = _seconds(_stretch(self.source[record]))
        return max(1, round(seconds / self._clip_seconds)) if self._clip_seconds else 1

    def __getitem__(self, number: int) -> Clip:
        """The clip of a piece, with all captions of its record."""
        record, place = self.places[number]
        clip, count = self.source[record], self.pieces_of_record[record]
        if self._join > 1:
            shown = self.source[record - record % self._join + place]
            return dataclasses.replace(clip, video=shown.video, audio=shown.audio)
        if count == 1:
            return clip
        whole = _stretch(clip)
        seconds = _seconds(whole)
        start = whole.start
        if start is None:
            start = share_start(_duration(whole), seconds, whole.share)
        length = seconds / count
        part = dataclasses.replace(whole, start=start + place * length, seconds=length)
        return dataclasses.replace(
            clip,
            video=part if clip.video is not None else None,
            audio=part.sound if clip.audio is not None else None,
        )


def _stretch(clip: Clip) -> Stretch | None:
    """The stretch of a recording that a clip reads; None if it reads anything else."""
    reader: Any = clip.video if clip.video is not None else getattr(clip.audio, "__self__", None)
    return reader if isinstance(reader, Stretch) else None


def _seconds(stretch: Stretch | None) -> float:
    """The length of a stretch in seconds; 0 for None, or if its recording cannot be read."""
    if stretch is None:
        return 0.0
    return stretch.seconds or _duration(stretch)


def _duration(stretch: Stretch) -> float:
    """The length of the recording in seconds; 0 if it cannot be read.

    Reading the frames later counts the problem.
    """
    try:
        known = isinstance(stretch.recording, bytes)
        media = stretch.recording if known else stretch.recording.media("unreadable_video")
        return av_files.read_header(media).duration
    except BadInput:
        return 0.0


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("grounding")
