"""Results by the point of the grid at which arms are compared.

A *point* is the values that compared cells have in common: those on all axes except the arm, the
seed, the seed of the corpus, the axes that were tuned, and the rate and the temperature where each
arm has one of its own.
"""

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fgmm.config import ConfigError
from fgmm.study.grid import Coordinates, Value
from fgmm.study.headline import reached
from fgmm.study.intervals import Measurement
from fgmm.study.outcome import RECALL, Result
from fgmm.study.tuning import DIRECTIONS

Point = tuple[tuple[str, Value], ...]
# The runs of one arm at one point, which differ in their seed.
Runs = list[Result]

# The numbers that are compared: R@10 in each direction and its mean over both, by the score of the
# arm; that mean by the coarse score; that mean of the pairs that were retrieved as well; and the
# accuracy of the motion probe.
BOTH, COARSE_SCORE, PROBE = "both directions", "coarse score", "motion probe"
OTHER_PAIRS = "other pairs"
JUDGED = (*DIRECTIONS, PROBE)
# Axes that do not count in a point; ``examples`` is replaced by the examples seen.
_HIDDEN = ("arm", "seed", "corpus", "examples")
# Axes that do not count either where an arm has a single value of its own.
_OF_AN_ARM = ("rate", "temperature_times", "coarse_times")


def points(results: Iterable[Result]) -> dict[Point, dict[str, Runs]]:
    """The runs of each arm at each point.

    A point also has ``examples``, the number seen in training, and ``updates``. On an axis that a
    result lacks it has the default; see ``defaults``.

    Raises:
      ConfigError: as ``defaults``.
    """
    results = list(results)
    # Tuned axes do not count, so they stay as they are.
    tuned = {axis for result in results for axis in result["chosen"]}
    filled = {axis: value for axis, value in defaults(results).items() if axis not in tuned}
    results = [run | {"coordinates": filled | run["coordinates"]} for run in results]
    settled = _settled(results)
    found: dict[Point, dict[str, Runs]] = collections.defaultdict(dict)
    for result in results:
        at = found[_point(result, settled)]
        at.setdefault(result["coordinates"]["arm"], []).append(result)
    axes = sorted({axis for point in found for axis, _ in point} - {"pairs", "noise", "batch"})
    return dict(sorted(found.items(), key=lambda item: _order(item[0], axes)))


def defaults(results: Sequence[Result]) -> Coordinates:
    """The defaults of the axes that some results lack, from the results that say them.

    These axes were added to the study later, and a result without one is that of its default; see
    ``outcome.is_done``. Results of earlier versions say no defaults.

    Raises:
      ConfigError: results say different defaults of such an axis.
    """
    found: Coordinates = {}
    for axis in sorted({axis for result in results for axis in result.get("defaults", {})}):
        lacking = [one for one in results if axis not in one["coordinates"]]
        saying = [one for one in results if isinstance(one.get("defaults", {}).get(axis), Value)]
        for one in saying if lacking else []:
            value = one["defaults"][axis]
            if found.setdefault(axis, value) != value:
                raise ConfigError(
                    f"{lacking[0]['name']} has no value on the axis {axis!r}, whose default is "
                    f"{found[axis]!r} in {saying[0]['name']} and {value!r} in {one['name']}; "
                    "remove the result without a value and run the study again"
                )
    return found


def _point(result: Result, settled: Collection[str]) -> Point:
    hidden = {*_HIDDEN, *settled, *result["chosen"]}
    shown = {axis: v for axis, v in result["coordinates"].items() if axis not in hidden}
    shown |= {"updates": result["updates"], "examples": result["examples"]}
    return tuple(sorted(shown.items()))


def _settled(results: Sequence[Result]) -> set[str]:
    """The axes that do not count: those of an arm, and those that were added later.

    An axis counts nevertheless if two runs of an arm and a seed would share a point without it.
    """
    axes = {*_OF_AN_ARM, *_added(results)}
    alike = collections.defaultdict(list)
    for result in results:
        at = result["coordinates"]
        alike[_point(result, axes), at["arm"], at["seed"]].append(at)
    return {
        axis
        for axis in axes
        if all(len({at.get(axis) for at in found}) == 1 for found in alike.values())
    }


def _added(results: Sequence[Result]) -> list[str]:
    """The axes that some results lack and that have one value in all others.

    They were added to the study later, and no result says their default. Results without them are
    taken for those of that value.
    """
    found = [result["coordinates"] for result in results]
    axes = sorted({axis for coordinates in found for axis in coordinates})
    values = {axis: {c[axis] for c in found if axis in c} for axis in axes}
    return [axis for axis in axes if len(values[axis]) == 1 and any(axis not in c for c in found)]


def _order(point: Point, axes: Sequence[str]) -> list[tuple]:
    """Sorts by pairs, noise and batch, and then by the other axes."""
    at = dict(point)
    first = [at.get("pairs", ""), at.get("noise", 0), at.get("batch", 0)]
    others = [(axis in at, *_sortable(at.get(axis, 0))) for axis in axes]
    return [*map(_sortable, first), *others]


def _sortable(value: Value) -> tuple[bool, Value]:
    """Numbers come before text."""
    return (True, str(value)) if not is_number(value) else (False, value)


def is_number(value: object) -> bool:
    """Whether the value on an axis is a number."""
    return isinstance(value, int | float)


def without(point: Point, *axes: str) -> Point:
    """The point with some axes left out."""
    return tuple((axis, value) for axis, value in point if axis not in axes)


def measured(runs: Runs, number: str) -> Measurement | None:
    """One of the numbers above for one arm at one point; None if a run lacks it.

    Args:
      runs: of the arm at the point.
      number: one of ``JUDGED``, ``BOTH``, ``COARSE_SCORE`` or ``OTHER_PAIRS``.

    Raises:
      ConfigError: two runs have one seed.
    """
    of_seed: dict[int, Result] = {}
    for run in runs:
        other = of_seed.setdefault(int(run["coordinates"]["seed"]), run)
        if other is not run:
            raise ConfigError(
                f"the cells {other['name']} and {run['name']} are runs of one arm and seed at one "
                "point of the grid; remove the result of one"
            )
    values, queries = {}, {}
    for seed, run in of_seed.items():
        names = _metrics(run, number)
        if not names or any(name not in run["metrics"] for name in names):
            return None
        values[seed] = float(np.mean([run["metrics"][name] for name in names]))
        outcomes = [_outcomes(run, name) for name in names]
        if all(o is not None for o in outcomes) and len({len(o) for o in outcomes}) == 1:
            # Outcome i belongs to clip i in both directions, so their mean is taken by clip.
            queries[seed] = np.mean(outcomes, axis=0)
    return Measurement(values, queries)


def _metrics(run: Result, number: str) -> list[str]:
    """The names of the metrics whose mean is the number; empty if the run has none."""
    if number in (BOTH, COARSE_SCORE):
        names = [run["judged"][way] for way in DIRECTIONS]
        if number == COARSE_SCORE:
            names = [name.replace(f"/{run['arm']['score']}/", "/coarse/") for name in names]
        return names
    if number == OTHER_PAIRS:
        return [name for names in other_pairs(run).values() for name in names]
    return [run["judged"][number]] if number in run["judged"] else []


def other_pairs(run: Result) -> dict[str, list[str]]:
    """The recalls by the arm's score of the pairs that are not judged, by the pair."""
    judged, _, _ = run["judged"][DIRECTIONS[0]].partition("/")
    found = collections.defaultdict(list)
    for name in run["metrics"]:
        recall = RECALL.fullmatch(name)
        if recall and recall["score"] == run["arm"]["score"] and recall["label"] != judged:
            found[recall["label"].removeprefix("retrieval_")].append(name)
    return dict(found)


def _outcomes(run: Result, metric: str) -> np.ndarray | None:
    """The outcome of each query in a metric, 1 for a hit; None if outcomes were not kept.

    The outcomes of the captions of a clip, which are alike, are replaced by their mean.
    """
    at, _, name = metric.rpartition("/")
    if name == "accuracy":
        outcomes = run["by_query"].get(f"{at}/correct")
        return None if outcomes is None else np.array(outcomes, np.float64)
    ranks = run["by_query"].get(f"{at}/rank")
    if ranks is None:
        return None
    hits = (np.array(ranks) <= 10).astype(np.float64)
    label, _, direction = at.split("/")
    group = run["by_query"].get(f"{label}/{direction}/group")
    return hits if group is None else np.bincount(group, hits) / np.bincount(group)


def family(runs: Runs) -> str:
    """The family of the arm: "coarse" or "fine"."""
    return runs[0]["arm"]["family"]


def best_coarse(arms: Mapping[str, Runs], number: str = BOTH) -> str | None:
    """The name of the coarse arm with the best mean over seeds; None if there is none."""
    means = {
        name: found.mean
        for name, runs in arms.items()
        if family(runs) == "coarse" and (found := measured(runs, number))
    }
    return max(means, key=means.get) if means else None


def curve(runs: Runs) -> dict[str, list[int | float]]:
    """The learning curve of an arm at a point, averaged over its seeds.

    Returns:
      ``step``, ``examples``, ``flops``, ``seconds`` and ``value``, the mean of R@10 over both
      directions by the arm's score, at each evaluation at which all seeds have it. All are empty if
      the runs have no such evaluation inside training.
    """
    by_step = [_by_step(run) for run in runs]
    steps = sorted(set.intersection(*map(set, by_step)))

    def mean(column: int) -> list[float]:
        return [float(np.mean([found[step][column] for found in by_step])) for step in steps]

    one: Any = runs[0]
    return {
        "step": steps,
        "examples": [step * one["examples"] / one["updates"] for step in steps],
        "flops": [step * one["flops"] / one["updates"] for step in steps],
        "seconds": mean(0),
        "value": mean(1),
    }


def _by_step(run: Result) -> dict[int, tuple[float, float]]:
    """Seconds and the mean of R@10 over both directions at each step that has both."""
    curve = run["curve"]
    of_ways = [curve.get(run["judged"][way], []) for way in DIRECTIONS]
    if any(len(values) != len(curve["step"]) for values in of_ways):
        # Which steps the values are of is not known.
        return {}
    values = np.mean(of_ways, axis=0)
    points = zip(curve["step"], curve["seconds"], values, strict=True)
    return {step: (seconds, value) for step, seconds, value in points if not np.isnan(value)}


def least_cost(arms: Mapping[str, Runs], unit: str) -> int | float:
    """What the cheapest arm with a learning curve cost by its end, a mean over seeds.

    Args:
      arms: the runs of each arm.
      unit: "flops" or "seconds".

    Returns:
      Infinity if no arm has a curve.
    """
    ends = [max(found) for runs in arms.values() if (found := curve(runs)[unit])]
    return min(ends, default=np.inf)


def at_cost(runs: Runs, unit: str, cost: int | float) -> Measurement | None:
    """The mean of R@10 over both directions at a cost of training, by seed.

    It is on the learning curve of the seed, which is straight between evaluations, and level after
    the last. None if a seed has no curve, or no evaluation at that cost or below.
    """
    values = {}
    for run in runs:
        found = curve([run])
        if not found[unit] or found[unit][0] > cost:
            return None
        values[int(run["coordinates"]["seed"])] = float(
            np.interp(cost, found[unit], found["value"])
        )
    return Measurement(values)


def savings(runs: Runs, best: Runs) -> dict[str, int | float | None]:
    """How many times fewer examples, FLOPs and seconds one arm needs than another.

    Both are counted up to the highest point of the other arm's learning curve.

    Args:
      runs: of the one arm.
      best: of the other arm, whose curve is to be reached.

    Returns:
      The factor for ``examples``, ``flops`` and ``seconds``; None if the arm does not reach the
      point, the other arm has no curve, or the unit was not counted.
    """
    own, other = curve(runs), curve(best)
    target = max(other["value"], default=float("inf"))
    found = {}
    for unit in ("examples", "flops", "seconds"):
        mine = reached(own[unit], own["value"], target)
        theirs = reached(other[unit], other["value"], target)
        found[unit] = theirs / mine if mine and theirs else None
    return found


def varying(of: Sequence[Point]) -> list[str]:
    """The axes on which points differ."""
    axes = sorted({axis for point in of for axis, _ in point})
    return [axis for axis in axes if len({dict(point).get(axis) for point in of}) > 1]
