"""Numbers of several networks, against loops and scikit-learn."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, recall_score, top_k_accuracy_score

from fgmm.eval.classification import ClassScores
from fgmm.eval.cross_validation import PartResult, counts, outcomes, summary

CLASSES = tuple("abcdefg")


def network(part, seed, size, unseen=(), classes=CLASSES, known=7):
    rng = np.random.default_rng([seed, size])
    scores = rng.random((size, len(classes)))
    scores[:, known:] = -np.inf
    labels = np.random.default_rng(size).integers(len(classes), size=size)
    names = tuple(f"{part}{i}" for i in range(size))
    scored = ClassScores(
        scores, labels, names, classes, known, {"clips": size, "windows": 2 * size}
    )
    return PartResult(part, seed, scored, frozenset(unseen))


def found():
    return [network(part, seed, size) for seed in (0, 1) for part, size in (("x", 40), ("y", 60))]


def test_parts_weigh_alike_and_seeds_are_averaged():
    result = summary(found())
    each = {
        (one.part, one.seed): {
            k: top_k_accuracy_score(one.scored.labels, one.scored.scores, k=k, labels=np.arange(7))
            for k in (1, 5)
        }
        for one in found()
    }
    for k in (1, 5):
        assert result[f"accuracy@{k}"] == pytest.approx(np.mean([v[k] for v in each.values()]))
        assert result[f"chance_accuracy@{k}"] == k / 7
    of_parts = [np.mean([each[part, seed][1] for seed in (0, 1)]) for part in "xy"]
    of_seeds = [np.mean([each[part, seed][1] for part in "xy"]) for seed in (0, 1)]
    assert [result["part/x"], result["part/y"]] == pytest.approx(of_parts)
    assert result["accuracy@1_spread"] == pytest.approx(np.std(of_parts, ddof=1))
    assert result["accuracy@1_seed_spread"] == pytest.approx(np.std(of_seeds, ddof=1))
    assert result["accuracy@1_low"] < result["accuracy@1"] < result["accuracy@1_high"]
    labels = np.concatenate([one.scored.labels for one in found()])
    guesses = np.concatenate([one.scored.scores.argmax(axis=1) for one in found()])
    recall = recall_score(labels, guesses, average=None, labels=np.arange(7))
    assert [result[f"class/{name}"] for name in CLASSES] == pytest.approx(recall.tolist())
    for name in ("part/x", "part/y", *(f"class/{name}" for name in CLASSES), "mean_class_accuracy"):
        assert 0 <= result[f"{name}_low"] <= result[name] <= result[f"{name}_high"] <= 1
    assert result["mean_class_accuracy"] == pytest.approx(recall.mean())
    assert result["majority_accuracy@1"] == np.bincount(labels).max() / len(labels)
    assert counts(found()) == {"clips": 100, "windows": 200}
    ranks, queries = outcomes(found())
    assert np.mean(np.array(ranks["seed_1/class_rank"][:40]) == 1) == each["x", 1][1]
    assert queries[""]["name"][40] == "y: y0"


def test_parts_of_any_size_weigh_alike_in_the_interval():
    networks = [network("x", 0, 10), network("y", 0, 90)]
    for one in networks:
        one.scored.scores[np.arange(len(one.scored.labels)), one.scored.labels] = 2
    result = summary(networks)
    for name in ("accuracy@1", "accuracy@5"):
        assert [result[f"{name}{end}"] for end in ("", "_low", "_high")] == [1, 1, 1]


@pytest.mark.parametrize("several", [False, True])
def test_more_networks_that_agree_are_no_more_recordings(several):
    """Networks of several seeds test the same recordings; an interval is over these."""
    one = network("x", 0, 40)
    if several:
        labels = np.random.default_rng(0).random(one.scored.scores.shape) < 0.3
        one = one._replace(scored=dataclasses.replace(one.scored, labels=labels))
    single, more = summary([one]), summary([one._replace(seed=seed) for seed in range(4)])
    for name in ("mAP", "part/x", "class/a") if several else ("accuracy@1", "part/x"):
        ends = [name, f"{name}_low", f"{name}_high"]
        assert [more[end] for end in ends] == pytest.approx([single[end] for end in ends])


def test_what_training_never_saw_stays_in_the_test_and_is_counted():
    """A class without a training clip, and one that the classifier does not have."""
    part = network("x", 0, 40, {"c", "new"}, (*CLASSES, "new"), 7)
    result = summary([part])
    labels = part.scored.labels
    assert result["classes_unseen"] == 2
    assert result["clips_of_unseen_classes"] == np.isin(labels, (2, 7)).sum() > 3
    assert result["class/new"] == 0
    right = part.scored.scores.argmax(axis=1) == labels
    assert result["accuracy@1"] == pytest.approx(right.mean())
    assert result["accuracy@5"] <= 1 - (labels == 7).mean()


def test_of_several_classes_a_clip_precisions_are_averaged_over_networks():
    networks = []
    for one in found():
        rng = np.random.default_rng(one.seed)
        labels = rng.random(one.scored.scores.shape) < 0.3
        scored = ClassScores(
            one.scored.scores, labels, one.scored.names, CLASSES, 7, one.scored.counts
        )
        networks.append(one._replace(scored=scored, unseen=frozenset({"g"})))
    result = summary(networks)
    each = [average_precision_score(one.scored.labels, one.scored.scores) for one in networks]
    assert result["mAP"] == pytest.approx(np.mean(each))
    assert result["part/x"] == pytest.approx(np.mean([each[0], each[2]]))
    assert result["chance_mAP"] == pytest.approx(
        np.mean([one.scored.labels.mean() for one in networks])
    )
    assert result["mAP_low"] < result["mAP"] < result["mAP_high"]
    unseen = sum(one.scored.labels[:, 6].sum() for one in networks[:2])
    assert result["clips_of_unseen_classes"] == unseen
