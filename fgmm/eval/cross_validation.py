"""What networks say of a corpus, each of them tested on a part of it that it was not trained on.

A network is one for each part and seed. Numbers are means over both, and parts weigh alike; ranks
and probabilities of different networks are never compared with each other.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fgmm.eval import metrics
from fgmm.eval.average_precision import mean_average_precision, mean_over_classes
from fgmm.eval.classification import Scored


class PartResult(NamedTuple):
    """A network on the test part that belongs to it.

    Attributes:
      part: the name of the part.
      seed: of the training.
      scored: what it says of the recordings.
      unseen: classes of these that no training clip has.
    """

    part: str
    seed: int
    scored: Scored
    unseen: frozenset[str]


def summary(found: Sequence[PartResult]) -> dict[str, float]:
    """Means over parts and seeds, with intervals, spreads and chance; one number a part and class.

    Intervals are of a bootstrap over recordings. ``spread`` is one standard deviation over parts,
    and ``seed_spread`` over seeds.
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
    first_seed = [one for one in found if one.seed == found[0].seed]
    return {
        **result,
        **{f"part/{name}": value for name, value in of_parts.items()},
        "classes_unseen": float(len(frozenset().union(*(one.unseen for one in first_seed)))),
        "clips_of_unseen_classes": float(sum(map(_clips_of_unseen, first_seed))),
    }


def _score(one: PartResult) -> float:
    if one.scored.several:
        return mean_over_classes(*_known(one.scored))
    return float((one.scored.ranks() == 1).mean())


def _means(values: np.ndarray, keys: Sequence[Any]) -> dict[Any, float]:
    return {
        key: float(np.mean([v for v, own in zip(values, keys, strict=True) if own == key]))
        for key in dict.fromkeys(keys)
    }


def _known(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    return scored.scores[:, : scored.known], scored.labels[:, : scored.known]


def _mean_average_precision(found: Sequence[PartResult]) -> dict[str, float]:
    result, by_class = mean_average_precision([_known(one.scored) for one in found])
    classes = found[0].scored.classes
    return result | {f"class/{classes[number]}": value for number, value in by_class.items()}


def _accuracies(found: Sequence[PartResult]) -> dict[str, float]:
    """Every network's recordings are queries; those of a recording are resampled together."""
    ranks = np.concatenate([one.scored.ranks() for one in found])
    names = np.concatenate([one.scored.names for one in found])
    _, group = np.unique(names, return_inverse=True)
    # Parts weigh alike, whatever their size.
    sizes = np.array([len(one.scored.names) for one in found])
    weights = np.repeat(sizes.sum() / len(sizes) / sizes, sizes)
    classes = found[0].scored.known
    at = [k for k in (1, 5) if k == 1 or classes > k]
    result = metrics.with_intervals({f"accuracy@{k}": (ranks <= k) * weights for k in at}, group)
    result |= {f"chance_accuracy@{k}": k / classes for k in at}
    named = np.concatenate([np.take(one.scored.classes, one.scored.labels) for one in found])
    by_class = {name: float(np.mean(ranks[named == name] == 1)) for name in np.unique(named)}
    _, counts = np.unique(named, return_counts=True)
    return {
        **result,
        "majority_accuracy@1": float(counts.max() / counts.sum()),
        "mean_class_accuracy": float(np.mean([*by_class.values()])),
        "chance_mean_class_accuracy": 1 / classes,
        **{f"class/{name}": share for name, share in by_class.items()},
    }


def _clips_of_unseen(one: PartResult) -> int:
    unseen = [name in one.unseen for name in one.scored.classes]
    if one.scored.several:
        return int(one.scored.labels[:, unseen].any(axis=1).sum())
    return int(np.isin(one.scored.labels, np.flatnonzero(unseen)).sum())


def counts(found: Sequence[PartResult]) -> dict[str, float]:
    """How much was tested by the networks of one seed."""
    total: dict[str, float] = {}
    for one in found:
        if one.seed == found[0].seed:
            for name, count in one.scored.counts.items():
                total[name] = total.get(name, 0.0) + count
    return total


def outcomes(
    found: Sequence[PartResult],
) -> tuple[dict[str, list[int]], dict[str, dict[str, list]]]:
    """The rank of the class of every recording, by seed, and the recordings; see ``compare``."""
    by_query: dict[str, list[int]] = {}
    for one in found:
        by_query.setdefault(f"seed_{one.seed}/class_rank", []).extend(one.scored.ranks().tolist())
    first_seed = [one for one in found if one.seed == found[0].seed]
    names = [f"{one.part}: {name}" for one in first_seed for name in one.scored.names]
    plain_names = np.concatenate([one.scored.names for one in first_seed])
    _, group = np.unique(plain_names, return_inverse=True)
    return by_query, {"": {"name": names, "group": group.tolist()}}
