"""Runs that start with the parameters of another."""

import json
import re

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.data.text import tokenizers
from fgmm.experiment import build as experiments
from fgmm.experiment import init_rules
from fgmm.experiment.freezing import Freezing
from fgmm.train import checkpoint, init_from, loop
from tests.shrunken import shrunken

VIDEO = "model/encoders_video/.*"


def small(**init):
    """Video and text, a coarse term, three steps."""
    config = shrunken(quickstart.get_config("fine=info_nce"), steps=3, pair="video_text")
    config.seed, config.evals = 1, {}
    config.checkpoint.best_metric = ""
    terms = config.objective.terms
    config.objective.terms = {
        "coarse": terms.coarse_video_text,
        "fine": {**terms.fine_video_text, "learn_temperature": False, "temperature": 0.1},
    }
    config.init_from.update(init)
    return components.complete(config)


def trained(config, workdir):
    experiment = experiments.build(config)
    source = experiment.source(experiment.config.data.source, "data.source")
    return loop.train(experiment, source, workdir)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a run of two steps that also has audio, which `small` does not have."""
    config = shrunken(quickstart.get_config("fine=info_nce"), steps=2)
    experiment = experiments.build(components.complete(config))
    state = jax.jit(experiment.init)(0)
    statistics = jax.tree.map(lambda x: x + 0.25, state.statistics)
    workdir = tmp_path_factory.mktemp("pretrained")
    checkpoints = checkpoint.Checkpoints(workdir, experiment, config.checkpoint)
    checkpoints.save(2, state.replace(step=state.step + 2, statistics=statistics), {})
    checkpoints.close()
    return workdir


RULES = (
    ("model/(encoders|heads_joint)_audio/.*", "skip"),
    ("objective/coarse_video_text/(.*)", r"rename objective/coarse/\1"),
    ("objective/.*", "skip"),
    (VIDEO, "load"),
)
FROZEN = ((VIDEO, "frozen"),)


def arrays(state):
    return init_from.leaves(state.params, state.statistics)


@pytest.mark.long
def test_what_is_frozen_stays_and_the_rest_learns(pretrained, tmp_path, capsys):
    _, before = checkpoint.load(pretrained)
    config = small(path=str(pretrained), rules=RULES)
    config.optimizer.learning_rate_scale = FROZEN
    # Weight decay would move what has no gradient.
    config.optimizer.weight_decay = ((".*", 0.5),)
    experiment = experiments.build(config)
    state = trained(config, tmp_path)
    assert int(state.step) == 3

    old, new = arrays(before), arrays(state)
    kinds = set()
    for leaf, array in new.items():
        if leaf.path == "objective/coarse/log_temperature":
            continue
        held = leaf.path.startswith("model/encoders_video/")
        assert np.array_equal(old[leaf], array) == held, leaf
        kinds.add((leaf.collection, held))
    assert kinds == {("params", True), ("batch_stats", True), ("params", False)}
    moments = state.opt_state[0].inner_state.mu["model"]
    assert jax.tree.leaves(moments["encoders_text"])
    assert not jax.tree.leaves(moments["encoders_video"])

    printed = capsys.readouterr().out
    assert f"init_from {pretrained}, step 2" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("model/encoders_video")]
    count = sum(leaf.path.startswith("model/encoders_video/") for leaf in new)
    assert [int(cell) for cell in row.split("|")[1:]] == [count, 0]
    assert re.search(r"^parameters: .*, [\d,]+ frozen$", printed, re.MULTILINE)
    (started,) = map(json.loads, (tmp_path / "provenance.jsonl").open())
    assert started["init_from"] == {"path": str(pretrained), "step": 2}

    # It goes on from its own checkpoint, not from what it was started with.
    config.init_from.path = str(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"init_from\.path: .* -> "):
        trained(config, tmp_path)
    config.init_from.path = str(pretrained)
    again = trained(config, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)
    assert "init_from" not in capsys.readouterr().out
    loaded, _ = checkpoint.load(tmp_path)
    assert loaded.optimizer.frozen == experiment.optimizer.frozen


def test_a_frozen_encoder_gives_in_training_what_it_gives_in_evaluation(pretrained):
    config = small(path=str(pretrained), rules=RULES)
    config.optimizer.learning_rate_scale = FROZEN
    experiment = experiments.build(config)
    state = init_from.read(experiment).fill(jax.jit(experiment.init)(0))
    rng = np.random.default_rng(0)
    batch = experiment.blank_batch(4)
    batch["video"] = rng.integers(0, 256, batch["video"].shape, np.uint8)
    batch = jax.tree.map(jnp.asarray, batch)
    expected = experiment.encode(state, batch)["video"].local

    def training(held):
        variables = {"params": state.params["model"], **state.statistics}
        frozen = experiment.optimizer.frozen if held else Freezing()
        with frozen.normalising():
            tokens, statistics = experiment.model.apply(
                variables,
                experiment.transforms(batch),
                train=True,
                method="encode",
                mutable=["batch_stats"],
            )
        return tokens["video"].local, statistics

    training = jax.jit(training, static_argnums=0)
    local, statistics = training(True)
    np.testing.assert_allclose(local, expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, statistics, state.statistics)
    local, _ = training(False)
    assert np.abs(local - expected).max() > 0.01


def test_everything_loads_by_its_own_name(pretrained):
    experiment, state = checkpoint.load(pretrained)
    config = ml_collections.ConfigDict(configs.plain(experiment.config))
    config.init_from.path = str(pretrained)
    again = experiments.build(config)
    given = init_from.read(again)
    filled = given.fill(jax.jit(again.init)(7))
    jax.tree.map(np.testing.assert_array_equal, filled.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, filled.statistics, state.statistics)
    assert int(filled.step) == 0


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (RULES[1:], "model/encoders_audio/.* is only in the checkpoint; .*and .* more. Rename"),
        ((*RULES[:1], RULES[2]), "objective/coarse/log_temperature is only in the model"),
        ((*RULES, ("nothing", "skip")), r"rules: 'nothing' \(skip\) matches nothing; .* such as"),
        (
            (("model/heads_joint_video/(.*)", r"rename model/heads_joint_text/\1"), *RULES),
            "both become model/heads_joint_text/coarse/kernel",
        ),
        ((("(objective)/.*", r"rename \2"),), "init_from.rules: rename .*invalid group reference"),
    ],
)
def test_what_is_unexplained_stops_it(pretrained, rules, message):
    experiment = experiments.build(small(path=str(pretrained), rules=rules))
    with pytest.raises(ConfigError, match=message):
        init_from.read(experiment)


def test_other_shapes_and_other_words_stop_it(pretrained, tmp_path, capsys):
    config = small(path=str(pretrained), rules=RULES)
    config.model.spaces.joint.width = 4
    with pytest.raises(ConfigError, match=r"coarse/kernel has shape \(8, 8\) in the .*, \(8, 4\)"):
        trained(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "of another shape" in printed.splitlines()[1]
    heads = ("model/heads_joint_(video|text)/.*", "initialise")
    config.init_from.rules = (*RULES, heads)
    report = init_from.read(experiments.build(config)).report
    assert {"initialised", "skipped"} <= {cell.strip() for cell in report.split("\n")[1].split("|")}

    words = ["one two three four five six seven eight nine ten eleven twelve"]
    tokenizers.train(words, tmp_path / "words", 40)
    config = small(path=str(pretrained), rules=(*RULES, ("model/encoders_text/Embed.*", "skip")))
    config.data.tokenizer = str(tmp_path / "words")
    with pytest.raises(ConfigError, match="Embed_0/embedding is only in the model"):
        init_from.read(experiments.build(config))
    embedding = ("model/encoders_text/Embed.*", "initialise")
    config.init_from.rules = (*RULES, embedding)
    assert init_from.read(experiments.build(config)) is not None


def test_embeddings_of_another_tokenizer_of_the_same_size_stop_it(pretrained, monkeypatch):
    config = small(path=str(pretrained), rules=RULES)
    experiment = experiments.build(config)
    saved = checkpoint.read(pretrained)
    saved.config["data"]["tokenizer_fingerprint"] = "another"
    monkeypatch.setattr(checkpoint, "read", lambda path, step, weights: saved)
    with pytest.raises(ConfigError, match="belongs to another tokenizer"):
        init_from.read(experiment)


def test_a_wrong_path_or_step_is_named_by_its_key(pretrained, tmp_path):
    experiment = experiments.build(small(path=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"init_from\.path=.* holds no checkpoints"):
        init_from.read(experiment)
    experiment = experiments.build(small(path=str(pretrained), step="9"))
    with pytest.raises(
        ConfigError, match=r"there is no checkpoint of init_from\.step='9'; allowed: l"
    ):
        init_from.read(experiment)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("a", "forget"),), "allowed actions: skip, initialise, load, rename NEW_NAME"),
        ((("a.*", "freeze"),), r"rule of the optimizer: \(regex, 'frozen'\) in optimizer\.learn"),
        ((("a", "rename"),), "allowed actions"),
        ((("a", "skip b"),), "allowed actions"),
        ((("(", "skip"),), "unterminated"),
        (("a",), r"each entry must be \(regex, action\)"),
        ((("a", 1),), "allowed actions"),
    ],
)
def test_wrong_rules_are_named_when_the_experiment_is_built(rules, message):
    with pytest.raises(ConfigError, match=message):
        experiments.build(small(path="somewhere", rules=rules))
    with pytest.raises(ConfigError, match=r"rules are set but init_from\.path is empty"):
        experiments.build(small(rules=(("a", "skip"),)))


def shapes(**leaves):
    return {init_from.Leaf("params", path): jnp.zeros(shape) for path, shape in leaves.items()}


def planned(rules, saved, model):
    starts = init_rules.from_config({"rules": rules, "path": "x"})
    return init_from.plan(starts, [saved], model)


def test_axes_of_length_one_are_no_difference():
    outcome = planned((), shapes(a=(1, 3, 2), b=(3,)), shapes(a=(3, 2), b=(3, 1)))
    assert outcome.unexplained == []
    assert "reshaped: a (1, 3, 2) -> (3, 2)" in init_from.table(outcome)
    (line,) = planned((), shapes(a=(2, 3)), shapes(a=(3, 2))).unexplained
    assert line == "a has shape (2, 3) in the checkpoint, (3, 2) in the model"


def test_of_each_kind_the_first_rule_holds():
    rules = (("a", "skip"), ("(.)", r"rename \1\1"), ("bb", "initialise"), (".*", "load"))
    outcome = planned(rules, shapes(a=(), b=(), c=()), shapes(bb=(), cc=()))
    assert sorted(outcome.outcomes) == [
        ("initialised", "bb"),
        ("loaded", "cc"),
        ("skipped", "a"),
        ("skipped", "bb"),
    ]


def test_several_runs_give_parts_of_a_model(pretrained):
    video = ((r"(?!model/encoders_video/).*", "skip"),)
    text = {
        "path": str(pretrained),
        "rules": (
            (r"(?!model/encoders_text/).*", "skip"),
            ("(model/heads|objective)[_/].*", "initialise"),
        ),
    }
    config = small(path=str(pretrained), rules=video)
    config.init_from.also = {"text": text}
    config.transforms.pixel_mean = (1.0, 2.0, 3.0)
    experiment = experiments.build(config)
    given = init_from.read(experiment)
    filled = given.fill(jax.jit(experiment.init)(7))
    before = arrays(checkpoint.load(pretrained)[1])
    for leaf, array in arrays(filled).items():
        taken = leaf.path.startswith(("model/encoders_video", "model/encoders_text"))
        assert not taken or np.array_equal(array, before[leaf]), leaf
    assert given.origin["also"] == [{"path": str(pretrained), "step": 2}]
    assert "transforms.pixel_mean=(1.0, 2.0, 3.0), and the video encoder of" in given.report

    both = {"text": {"path": str(pretrained), "rules": RULES}}
    config.init_from.also = both
    twice = experiments.build(config)
    with pytest.raises(ConfigError, match=r"also.text.rules: an earlier run gives model/enc"):
        init_from.read(twice)


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ({"text": {"rules": ()}}, r"init_from.also.text.path is empty; name the folder"),
        ({"text": "runs/a"}, r"init_from.also.text='runs/a' must be a dict of path, step"),
        ({"text": {"path": "a", "folder": "b"}}, r"also.text.folder='b' is unknown; allowed: pa"),
        ({"text": {"path": "a", "rules": (("a", "forget"),)}}, r"also.text.rules.*allowed act"),
    ],
)
def test_wrong_entries_of_further_runs_are_named(also, message):
    with pytest.raises(ConfigError, match=message):
        init_rules.from_config({"path": "", "rules": (), "also": also})
