import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from configs import quickstart
from fgmm.config import ConfigError
from fgmm.data.folds import drawn_folds
from fgmm.eval import linear_probe
from fgmm.eval.recordings import open_labelled
from fgmm.experiment import build as experiments
from tests.shrunken import shrunken

SOURCE = {"name": "tests.eval.labelled_fixture", "recordings": 30, "windows": 2}
SHAPES = {"name": "narrated_shapes", "split": "motion", "clips": 48, "size": 32, "frames": 4}


@pytest.fixture(scope="module")
def experiment():
    return experiments.build(shrunken(quickstart.get_config("fine=none")))


@pytest.fixture(scope="module")
def state(experiment):
    return jax.jit(experiment.init)(7)


def probe(source=SOURCE, label="colour", **options):
    return linear_probe.Evaluation(source=source, label=label, **{"batch_size": 16, **options})


def single_features(experiment, state, bound, pool):
    """The pooled features of each recording, clip by clip, without the pipeline's batches."""

    @jax.jit
    def encode(batch):
        variables = {"params": state.params["model"], **state.statistics}
        inputs = experiment.transforms(batch)
        return experiment.model.apply(variables, inputs, train=False, method="encode")

    assembler = bound.parts[0].assembler
    by_clip = {}
    for record in range(len(assembler.source)):
        batch = {name: x[None] for name, x in assembler(record).items()}
        arrays = {k: jnp.asarray(batch[k]) for k in ("video", "video_mask")}
        local = np.asarray(encode(arrays)["video"].local[0], np.float64)
        feature = np.concatenate([getattr(local, how)(axis=0) for how in pool])
        by_clip.setdefault(assembler.source[record].clip_id, []).append(feature)
    return np.stack([np.mean(features, axis=0) for features in by_clip.values()])


@pytest.mark.parametrize(
    ("pool", "classifier"), [("mean", "logistic_regression"), ("mean_max", "linear_svm")]
)
def test_it_is_what_loops_over_clips_and_folds_give(experiment, state, pool, classifier):
    bound = probe(SHAPES, "motion", pool=pool, classifier=classifier, folds=4).bind(experiment)
    result = bound(state)
    x = single_features(experiment, state, bound, pool.split("_"))
    y = np.array([bound.parts[0].assembler.source[i].labels["motion"] for i in range(48)])
    make = {
        "logistic_regression": lambda c: LogisticRegression(C=c, max_iter=2000),
        "linear_svm": lambda c: LinearSVC(C=c, max_iter=2000, random_state=0),
    }[classifier]

    def accuracy(c, fit, test):
        mean, spread = x[fit].mean(axis=0), x[fit].std(axis=0)
        spread[spread < 1e-12] = 1
        fitted = make(c).fit((x[fit] - mean) / spread, y[fit])
        return np.mean(fitted.predict((x[test] - mean) / spread) == y[test])

    accuracies = []
    for k in range(4):
        test, validation = bound.fold == k, bound.fold == (k + 1) % 4
        training = ~test & ~validation
        validated = {c: accuracy(c, training, validation) for c in (0.001, 0.01, 0.1, 1.0, 10.0)}
        best = max(validated.values())
        strongest = min(c for c, value in validated.items() if value == best)
        assert result[f"inverse_strength_fold_{k + 1}"] == strongest
        accuracies.append(accuracy(strongest, ~test, test))
        assert result[f"accuracy_fold_{k + 1}"] == pytest.approx(accuracies[-1])
    assert result["accuracy"] == pytest.approx(np.mean(accuracies))
    assert result["accuracy_spread"] == pytest.approx(np.std(accuracies, ddof=1))
    assert result["chance_accuracy"] == 1 / 8
    assert result["majority_accuracy"] == np.bincount(y).max() / 48


def test_colours_are_told_apart_and_noise_is_not(experiment, state):
    result = probe().bind(experiment)(state)
    assert result["accuracy"] == result["class_accuracy/lime_green"] == 1
    bound = probe(untrained=False).bind(experiment)
    # Folds of other sizes weigh alike in the interval too.
    bound.fold = np.arange(30) // 3 % 10
    bound.fold[bound.fold > 4] = 4
    result = bound(state)
    assert [result["accuracy_low"], result["accuracy_high"]] == [1, 1]
    assert result["accuracy_spread"] == 0
    assert (result["clips"], result["windows"]) == (30, 60)
    noise = probe({**SOURCE, "recordings": 90}, "noise").bind(experiment)(state)
    assert noise["accuracy"] < 0.7


def test_recordings_of_a_group_are_not_on_both_sides(experiment, state):
    """Pictures tell the group, and so the label, of any recording whose group was seen."""
    source = {**SOURCE, "recordings": 80, "windows": 1, "groups": 8, "by_group": True}
    bound = probe(source, "noise", folds=4, untrained=False).bind(experiment)
    groups = np.array(bound.parts[0].groups)
    for group in set(groups):
        assert len(set(bound.fold[groups == group])) == 1
    together = bound(state)["accuracy"]
    bound.fold = np.random.default_rng(0).permutation(np.arange(80) % 4)
    assert bound(state)["accuracy"] > together + 0.15


def test_a_test_part_decides_nothing(experiment, state):
    """Not the standardisation, not the strength, not the fit."""
    bound = probe(SHAPES, "motion", untrained=False).bind(experiment)
    x, valid = np.random.default_rng(0).normal(size=(48, 5)), np.ones(48, bool)
    fitted, strength = bound._fitted(x, valid, 2)
    x[bound.fold == 2] *= 100
    bound.labels = np.where(bound.fold == 2, 0, bound.labels)
    again, strength_again = bound._fitted(x, valid, 2)
    assert strength == strength_again
    np.testing.assert_array_equal(fitted[0].mean_, again[0].mean_)
    np.testing.assert_array_equal(fitted[1].coef_, again[1].coef_)


def test_a_test_source_is_the_only_test(experiment, state):
    test = {**SOURCE, "recordings": 12, "seed": 1}
    bound = probe(test_source=test, untrained=False).bind(experiment)
    result = bound(state)
    assert bound.fold.tolist()[-12:] == [5] * 12
    assert result["accuracy_fold_6"] == result["accuracy"] == 1
    assert "accuracy_fold_1" not in result
    assert "accuracy_spread" not in result
    assert result["clips"] == 42
    assert "accuracy_spread" not in probe(test_source=test).table(result)
    groups = {**SOURCE, "groups": 7}
    with pytest.raises(ConfigError, match="shares groups with source: 0, 1, 2, 3, 4, 5, 6; name"):
        probe(groups, test_source=groups).bind(experiment)
    again = {**SOURCE, "recordings": 12}
    with pytest.raises(ConfigError, match="shares 12 recordings with source, such as"):
        probe(test_source=again).bind(experiment)


def test_a_test_source_with_other_classes_is_refused(experiment, monkeypatch):
    def opened(*args, key, **options):
        part = open_labelled(*args, key=key, **options)
        other = (*part.classes[:-1], "mauve")
        return dataclasses.replace(part, classes=other) if "test" in key else part

    monkeypatch.setattr(linear_probe, "open_labelled", opened)
    with pytest.raises(ConfigError, match=r"has other classes than source, .*: .*mauve"):
        probe(test_source={**SOURCE, "seed": 1}).bind(experiment)


def test_untrained_is_the_network_before_its_first_step(experiment):
    before = jax.jit(experiment.init)(experiment.config.seed)
    result = probe(SHAPES, "motion").bind(experiment)(before)
    same = {k: v for k, v in result.items() if k.startswith("untrained/")}
    assert len(same) > 10
    for name, value in same.items():
        assert value == pytest.approx(result[name.removeprefix("untrained/")]), name


def test_untrained_is_computed_once_or_left_out(experiment, state, monkeypatch):
    bound = probe().bind(experiment)
    first = bound(state)
    with monkeypatch.context() as patch:
        patch.setattr("fgmm.eval.corpus_embeddings.untrained", None)
        assert bound(state) == first
    left_out = probe(untrained=False).bind(experiment)(state)
    assert left_out.items() <= first.items()
    assert not [name for name in left_out if "untrained" in name]


def test_bad_input_is_left_out_and_counted(experiment, state):
    # One window of recording 0, both of recording 2.
    source = {**SOURCE, "broken": (0, 4, 5)}
    evaluation = probe(source)
    result = evaluation.bind(experiment)(state)
    assert (result["clips"], result["clips_left_out"], result["windows"]) == (29, 1, 57)
    assert result["bad_input/unreadable_video"] == 3
    assert result["left_out/malformed_line"] == 2
    assert result["accuracy"] > 0.9
    assert result["majority_accuracy"] == 10 / 29
    table = evaluation.table(result)
    assert "29 clips in 57 windows" in table
    assert "as nothing of them can be read: 1" in table
    assert "problems in the input: 5" in table


def test_a_corpus_with_nothing_to_see_is_no_crash_of_a_library(experiment, state):
    bound = probe({**SOURCE, "broken": tuple(range(60))}).bind(experiment)
    with pytest.raises(ConfigError, match="linear_probe: with fold 1 for the test"):
        bound(state)


def test_sound(experiment, state):
    result = probe(modality="audio").bind(experiment)(state)
    assert result["accuracy"] == 1
    assert "untrained/accuracy" in result


def test_the_table_and_the_protocol(experiment, state):
    evaluation = probe()
    bound = evaluation.bind(experiment)
    table = evaluation.table(bound(state))
    assert [line.split()[1] for line in table.splitlines()[2:4]] == ["trained", "untrained"]
    for column in ("chance", "majority_accuracy", "accuracy_spread"):
        assert column in table.splitlines()[0]
    assert "trained, by fold: 1 100.0% (100.0% to 100.0%), 2 100.0% (" in table
    assert "lime_green 100.0%" in table
    assert bound.protocol["pool"] == "mean"
    assert bound.protocol["feature"] == "video encoder's output, before the heads"
    assert bound.protocol["corpora"][0]["input"] == {"frames": 2, "height": 16, "width": 16}
    assert bound.protocol["fold_sizes"] == [6] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "text"}, "modality='text' is unknown; allowed: video, audio"),
        ({"label": "sound"}, r"linear_probe\.source: label='sound' is unknown .*: colour, noise"),
        ({"source": {**SHAPES, "split": "train"}, "label": "motion"}, "no clip has a label"),
        ({"pool": "min"}, "pool='min' is unknown; allowed: mean, max, mean_max"),
        ({"classifier": "mlp"}, "classifier='mlp' is unknown; allowed: logistic_regression"),
        ({"folds": 2}, "folds=2 must be at least 3"),
        ({"folds": 11}, r"folds=11 is more than the clips of any class \(10 at most\)"),
        ({"source": {**SOURCE, "groups": 4}}, "folds=5 is more than the 4 groups"),
        ({"inverse_strengths": ()}, r"inverse_strengths=\(\) must hold at least one number"),
        ({"inverse_strengths": (0.0, 1.0)}, "must be above 0"),
        ({"source": {"name": "nope"}}, r"linear_probe\.source\.name='nope' is unknown"),
    ],
)
def test_wrong_options_are_named(experiment, options, message):
    with pytest.raises(ConfigError, match=message):
        probe(**{"source": SOURCE, **options}).bind(experiment)


def test_a_checkpoint_without_the_modality_is_one_clear_error():
    config = shrunken(quickstart.get_config())
    config.model.spaces.joint.modalities = ("video", "text")
    del config.model.audio
    for name in list(config.objective.terms):
        if "audio" in name:
            del config.objective.terms[name]
    deaf = experiments.build(config)
    with pytest.raises(ConfigError, match="no audio encoder; it has: video, text"):
        probe(modality="audio").bind(deaf)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_folds_keep_groups_together(data):
    count = data.draw(st.integers(12, 40))
    groups = data.draw(st.lists(st.sampled_from(["", *"abcdefgh"]), min_size=count, max_size=count))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    folds = data.draw(st.integers(3, 5))
    draw = functools.partial(drawn_folds, labels, tuple(groups), folds, name="linear_probe")
    units = len(set(groups) - {""}) + groups.count("")
    if units < folds or np.bincount(labels).max() < folds:
        with pytest.raises(ConfigError):
            draw(0)
        return
    drawn = draw(0)
    assert set(drawn) <= set(range(folds))
    for group in set(groups) - {""}:
        assert len({fold for fold, other in zip(drawn, groups, strict=True) if other == group}) == 1
    np.testing.assert_array_equal(drawn, draw(0))


def test_folds_are_stratified_where_clips_stand_alone():
    labels = np.repeat([0, 1, 2, 3], [20, 10, 10, 5])
    drawn = drawn_folds(labels, ("",) * 45, 5, 0, name="linear_probe")
    for label, each in enumerate([4, 2, 2, 1]):
        assert np.bincount(drawn[labels == label], minlength=5).tolist() == [each] * 5
    assert (drawn != drawn_folds(labels, ("",) * 45, 5, 1, name="linear_probe")).any()


def test_the_official_folds_of_esc10_are_kept(experiment, shared_data):
    source = {"name": "esc10", "root": str(shared_data("esc10.tar")), "windows": 2}
    bound = probe(source, "sound", modality="audio").bind(experiment)
    (part,) = bound.parts
    official = {}
    for record in range(len(part.assembler.source)):
        clip = part.assembler.source[record]
        # <fold>-<clip>-<take>-<target>.ogg
        official[clip.clip_id] = int(clip.clip_id.rpartition("/")[2].partition("-")[0])
    assert (bound.fold + 1).tolist() == list(official.values())
    assert np.bincount(bound.fold).tolist() == [80] * 5
    assert np.bincount(part.labels).tolist() == [40] * 10
