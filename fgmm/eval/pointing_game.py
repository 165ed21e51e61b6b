"""The pointing game: does a phrase look at the object that it names? (Zhang et al., ECCV 2016,
arXiv 1608.00507.)

Protocol: the corpus knows what its phrases refer to. Every caption is embedded on its own, beside
its clip, without augmentation. The peak of a phrase's map (``attention`` or ``cam``, see
``fgmm.eval.attention``) is its highest cell over rows, columns and time. If several cells share the
peak, they count in equal parts. The phrase is *active* in the frames in which it is true.

- *hit*: the centre of the peak's cell lies in the box of the object, in an active frame that the
  cell covers.
- *other*: the peak is no hit, but lies in the box of another object that the captions speak of.
- *frame hit*: the share of active frames in which the peak over rows and columns alone lies in the
  box.

All are averaged over phrases of two kinds: *object* phrases name their object; *action* phrases
only say what it does, which may be true of other objects too. Captions about anything else have no
boxes and do not count.

Baselines, on the same phrases: ``chance``, the exact mean over all cells; ``centre``, always the
middle of the picture; ``best cell``, the single cell that does best on these phrases, chosen with
hindsight; and ``untrained``, the same maps of the network before its first step.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data import grounding, pipeline
from fgmm.data.text import phrases
from fgmm.eval import attention, metrics, passes, result_text
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState

KINDS = ("object", "action")
MEASURES = ("hit", "other", "frame_hit")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: a corpus with grounding, as in ``config.data.source``.
      term: name of the term whose map is measured; empty for the first fine term on video and text
        that defines its attention, and the first coarse term (its class activation map).
      captions: the most captions of a clip; the first ones are taken.
      batch_size: clips embedded at a time.
    """

    source: Mapping
    term: str = ""
    captions: int = option(5, low=1)
    batch_size: int = option(32, low=1)

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus and finds the terms.

        Raises:
          ConfigError: an option names something that is not there, the model does not compare video
            with text, no fine term defines its attention, or the corpus does not know what its
            phrases refer to.
        """
        return _PointingGame(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text, with its baselines."""

        def title(kind: str, measure: str) -> str:
            known = f"{kind} {measure.replace('other', 'hits another')}".replace("_", " ")
            return known if measure in MEASURES else ""

        counts = [f"{result['clips']:.0f} clips of {self.source['name']}"]
        counts += [
            f"{result[f'phrases/{kind}']:.0f} {kind} phrases"
            for kind in KINDS
            if f"phrases/{kind}" in result
        ]
        lines = [result_text.table_of_ways(result, title), ", ".join(counts)]
        return "\n".join(filter(None, [*lines, result_text.problems(result)]))


class _PointingGame:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.experiment, self.batch_size = experiment, options.batch_size
        try:
            self.terms = attention.terms(experiment, "video_text", options.term)
            silent = attention.terms_without_map(experiment, "video_text", options.term)
        except ConfigError as error:
            raise ConfigError(f"pointing_game: {error}") from error
        if silent and "attention" not in self.terms:
            remedy = "define its attention()"
            if "cam" in self.terms:
                remedy += f", or measure a coarse term with term={self.terms['cam']!r}"
            raise ConfigError(
                f"pointing_game: term {silent[0]!r} does not say how its phrases attend; {remedy}"
            )
        self.protocol = dataclasses.asdict(options) | {
            "maps": self.terms,
            "captions_embedded": "each on its own",
            "peak": "over rows, columns and time; a cell's centre in the box, in any of its frames",
            "augmentation": "none",
            "untrained_seed": experiment.config.seed,
        }
        self.assembler = attention.grounded(
            experiment, options.source, captions=options.captions, key="pointing_game.source"
        )
        self.segmenter = phrases.find(self.assembler.segmenter)
        self._maps = attention.maps_by_way(experiment, self.terms)
        self.by_query: dict[str, list[float]] = {}
        self.queries: dict[str, dict[str, list]] = {}

    def __call__(self, state: TrainState) -> dict[str, float]:
        targets: list[_Targets] = []
        names = []
        maps: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        problems: collections.Counter[str] = collections.Counter()
        states = attention.beside_untrained(self.experiment, state)
        for batch, ways, count in passes.batches(
            self.assembler, self.batch_size, states, self._maps
        ):
            problems += pipeline.count_problems(batch["problems"][:count])
            mask = next(iter(ways.values())).mask
            for row in np.flatnonzero(batch["video_mask"][:count]).tolist():
                record = int(batch["record"][row])
                clip = self.assembler.source[record]
                references = grounding.of_clip(clip, self.assembler.shape, self.segmenter)
                for reference in references:
                    place = row, reference.caption, reference.phrase
                    if not mask[place]:
                        problems["cut_off_phrase"] += 1
                        continue
                    for way, of_batch in ways.items():
                        maps[way].append(of_batch.similarity[place])
                    grid = maps[way][-1].shape
                    targets.append(_target(record, reference, references, grid))
                    names.append(
                        f"{clip.clip_id}, caption {reference.caption}, phrase {reference.phrase}"
                    )
        if not targets:
            raise ConfigError("pointing_game.source: no phrase that refers to anything is left")
        stacked = _Targets(*map(np.stack, zip(*targets, strict=True)))
        points = _points_by_kind(stacked, {way: np.stack(of) for way, of in maps.items()})
        self._remember(points, stacked, names)
        found = result_text.counts(problems, self.assembler.source.report)
        return _summary(points, stacked) | found

    def _remember(self, points: "_PointsByKind", targets: "_Targets", names: list[str]) -> None:
        for kind, ways in points.items():
            chosen = targets.of_kind(kind)
            self.queries[kind] = {
                "name": [names[i] for i in np.flatnonzero(chosen)],
                "group": targets.clip[chosen].tolist(),
            }
            for way, found in ways.items():
                self.by_query[f"{way}/{kind}/hit"] = found["hit"].tolist()


class _Targets(NamedTuple):
    """G phrases, each with one object it refers to; T frames, and t of the feature map.

    Attributes:
      clip: number of the clip.
      names_object: see ``grounding.Reference``.
      hit: the cells on the object, in a frame in which the phrase is true.
      other: the cells on another object that are no hit.
      frames: the cells on the object in every frame, whether the phrase is true or not.
      active: the frames in which the phrase is true.
    """

    clip: Int[np.ndarray, "*G"]
    names_object: Bool[np.ndarray, "*G"]
    hit: Bool[np.ndarray, "*G t H W"]
    other: Bool[np.ndarray, "*G t H W"]
    frames: Bool[np.ndarray, "*G T H W"]
    active: Bool[np.ndarray, "*G T"]

    def of_kind(self, kind: str) -> Bool[np.ndarray, "G"]:
        """Which phrases are of one of ``KINDS``."""
        return self.names_object if kind == KINDS[0] else ~self.names_object


# ``MEASURES`` of each phrase, by kind of phrase and by way of pointing.
_PointsByKind = dict[str, dict[str, dict[str, Float[np.ndarray, "G"]]]]


def _target(
    record: int,
    reference: grounding.Reference,
    references: list[grounding.Reference],
    grid: tuple[int, ...],
) -> _Targets:
    times, *space = grid
    frames = grounding.inside(reference, *space)
    active = reference.active
    hit = grounding.over_time(frames & active[:, None, None], times)
    elsewhere = [
        grounding.inside(other, *space)
        for other in references
        if not np.array_equal(other.boxes, reference.boxes)
    ]
    other = np.any([np.zeros_like(frames), *elsewhere], axis=0)
    return _Targets(
        clip=np.array(record),
        names_object=np.array(reference.names_object),
        hit=hit,
        other=grounding.over_time(other, times) & ~hit,
        frames=frames,
        active=active,
    )


def _points_by_kind(targets: _Targets, maps: Mapping[str, np.ndarray]) -> _PointsByKind:
    found = {}
    for kind in KINDS:
        if (chosen := targets.of_kind(kind)).any():
            of_kind = _Targets(*(x[chosen] for x in targets))
            ways = {way: of_way[chosen] for way, of_way in maps.items()} | _baselines(of_kind)
            found[kind] = {way: _points(of_way, of_kind) for way, of_way in ways.items()}
    return found


def _summary(points: _PointsByKind, targets: _Targets) -> dict[str, float]:
    result = {"clips": float(len(np.unique(targets.clip)))}
    for kind, ways in points.items():
        clip = targets.clip[targets.of_kind(kind)]
        result[f"phrases/{kind}"] = float(len(clip))
        for way, found in ways.items():
            numbers = metrics.with_intervals(found, clip)
            result |= {f"{way}/{kind}/{name}": value for name, value in numbers.items()}
    return result


def _points(
    maps: Float[np.ndarray, "G t H W"], targets: _Targets
) -> dict[str, Float[np.ndarray, "G"]]:
    """Each phrase's ``MEASURES``."""
    peak = maps == maps.max(axis=(1, 2, 3), keepdims=True)
    of_frames = maps[:, grounding.cell_of_frame(targets.active.shape[1], maps.shape[1])]
    frame_peak = of_frames == of_frames.max(axis=(2, 3), keepdims=True)
    frame_hit = (frame_peak & targets.frames).sum(axis=(2, 3)) / frame_peak.sum(axis=(2, 3))
    # A phrase without an active frame has frame hit 0.
    frames = np.maximum(targets.active.sum(axis=1), 1)
    return {
        "hit": (peak & targets.hit).sum(axis=(1, 2, 3)) / peak.sum(axis=(1, 2, 3)),
        "other": (peak & targets.other).sum(axis=(1, 2, 3)) / peak.sum(axis=(1, 2, 3)),
        "frame_hit": (frame_hit * targets.active).sum(axis=1) / frames,
    }


def _baselines(targets: _Targets) -> dict[str, Float[np.ndarray, "G t H W"]]:
    """Maps that ignore the clip. The map of chance is constant, so all cells share its peak."""
    shape = targets.hit.shape
    centre, best = np.zeros(shape), np.zeros(shape)
    rows, columns = (slice((cells - 1) // 2, cells // 2 + 1) for cells in shape[2:])
    centre[:, :, rows, columns] = 1
    time, row, column = np.unravel_index(targets.hit.mean(axis=0).argmax(), shape[1:])
    best[:, :, row, column] = 1
    best[:, time, row, column] = 2
    return {"chance": np.zeros(shape), "centre": centre, "best_cell": best}


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("pointing_game")
