"""Results of networks that are each tested on a part of a corpus that they were not trained on.

There is one network for each part and seed. Figures are means over both, and all parts have the
same weight. Ranks and probabilities of different networks are never compared with each other.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fgmm.eval import metrics
from fgmm.eval.average_precision import mean_average_precision, mean_over_classes
from fgmm.eval.classification import ClassScores


class PartResult(NamedTuple):
    """The result of one network on its test part.

    Attributes:
      part: the name of the part.
      seed: of the training.
      scored: the scores of the network for the recordings of the part.
      unseen: classes of the test part that no training clip has.
    """

    part: str
    seed: int
    scored: ClassScores
    unseen: frozenset[str]


def summary(found: Sequence[PartResult]) -> dict[str, float]:
    """Means over parts and seeds, with intervals, spreads and chance; also of each part and class.

    Intervals are a bootstrap over recordings. ``spread`` is one standard deviation over parts, and
    ``seed_spread`` over seeds.
    """
    several = found[0].scored.several
    score = "mAP" if several else "accuracy@1"
    result = _mean_average_precision(found) if several else _accuracies(found)
    each = np.array([_score(one) for one in found])
    of_parts = _means(each, [one.part for one in found])
    of_seeds = _means(each, [one.seed for one in found])
    for name, values in (("spread", of_parts), ("seed_spread", of_seeds)):
        if len(values) > 1:
            result[f"{score}_{name}"] = float(np.std([*values.values()], ddof=1))
    first_seed = _of_first_seed(found)
    return {
        **result,
        **{k: v for name in of_parts for k, v in _of_part(found, name).items()},
        "classes_unseen": float(len(frozenset().union(*(one.unseen for one in first_seed)))),
        "clips_of_unseen_classes": float(sum(map(_clips_of_unseen, first_seed))),
    }


def _of_first_seed(found: Sequence[PartResult]) -> list[PartResult]:
    return [one for one in found if one.seed == found[0].seed]


def _score(one: PartResult) -> float:
    if one.scored.several:
        return mean_over_classes(*_known(one.scored))
    return float((one.scored.ranks() == 1).mean())


def _means(values: np.ndarray, keys: Sequence[Any]) -> dict[Any, float]:
    return {
        key: float(np.mean([v for v, own in zip(values, keys, strict=True) if own == key]))
        for key in dict.fromkeys(keys)
    }


def _known(scored: ClassScores) -> tuple[np.ndarray, np.ndarray]:
    return scored.scores[:, : scored.known], scored.labels[:, : scored.known]


def _mean_average_precision(found: Sequence[PartResult]) -> dict[str, float]:
    known = [_known(one.scored) for one in found]
    # Networks of several seeds test the same recordings.
    tested = [tuple(one.scored.names) for one in found]
    first = [tested.index(names) for names in tested]
    classes = found[0].scored.classes
    return mean_average_precision(known, classes, what="class", samples=first)


def _of_part(found: Sequence[PartResult], part: str) -> dict[str, float]:
    """The score of a part over all seeds, with its interval."""
    found, name = [one for one in found if one.part == part], f"part/{part}"
    if found[0].scored.several:
        result = _mean_average_precision(found)
        return {f"{name}{end}": result[f"mAP{end}"] for end in ("", "_low", "_high")}
    return metrics.with_intervals({name: _ranks(found) == 1}, _groups(found))


def _ranks(found: Sequence[PartResult]) -> np.ndarray:
    return np.concatenate([one.scored.ranks() for one in found])


def _groups(found: Sequence[PartResult]) -> np.ndarray:
    """The group of each rank: its recording, which is a query of every network that tests it."""
    names = np.concatenate([one.scored.names for one in found])
    return np.unique(names, return_inverse=True)[1]


def _accuracies(found: Sequence[PartResult]) -> dict[str, float]:
    """Accuracies of all networks; the queries of one recording are resampled together."""
    ranks, group = _ranks(found), _groups(found)
    # One part for each network: all have the same weight, whatever the size of their test parts.
    network = np.repeat(np.arange(len(found)), [len(one.scored.names) for one in found])
    classes = found[0].scored.known
    result = {}
    for k in (1, 5):
        if k == 1 or classes > k:
            result |= metrics.mean_over_parts(f"accuracy@{k}", ranks <= k, network, group)
            result[f"chance_accuracy@{k}"] = k / classes
    named = np.concatenate([np.take(one.scored.classes, one.scored.labels) for one in found])
    names, labels, counts = np.unique(named, return_inverse=True, return_counts=True)
    return {
        **result,
        "majority_accuracy@1": float(counts.max() / counts.sum()),
        **metrics.mean_class_accuracy(ranks == 1, labels, group),
        "chance_mean_class_accuracy": 1 / classes,
        **metrics.class_accuracies(ranks == 1, labels, names.tolist(), group, what="class"),
    }


def _clips_of_unseen(one: PartResult) -> int:
    unseen = [name in one.unseen for name in one.scored.classes]
    if one.scored.several:
        return int(one.scored.labels[:, unseen].any(axis=1).sum())
    return int(np.isin(one.scored.labels, np.flatnonzero(unseen)).sum())


def counts(found: Sequence[PartResult]) -> dict[str, float]:
    """How much was tested, as ``Recordings.counts``, summed over the parts of the first seed."""
    total: Counter[str] = Counter()
    for one in _of_first_seed(found):
        total.update(one.scored.counts)
    return {name: float(count) for name, count in total.items()}


def outcomes(
    found: Sequence[PartResult],
) -> tuple[dict[str, list[int]], dict[str, dict[str, list]]]:
    """``by_query``, the rank of every recording's class by seed, and ``queries``, the recordings.

    ``fgmm.eval.compare`` reads both.
    """
    by_query: dict[str, list[int]] = {}
    for one in found:
        by_query.setdefault(f"seed_{one.seed}/class_rank", []).extend(one.scored.ranks().tolist())
    first_seed = _of_first_seed(found)
    names = [f"{one.part}: {name}" for one in first_seed for name in one.scored.names]
    plain_names = np.concatenate([one.scored.names for one in first_seed])
    _, group = np.unique(plain_names, return_inverse=True)
    return by_query, {"": {"name": names, "group": group.tolist()}}
