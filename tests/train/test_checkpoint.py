import math
import os

import jax
import ml_collections
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.train import checkpoint, recovery
from tests.shrunken import shrunken


@pytest.fixture(scope="module")
def experiment():
    config = shrunken(quickstart.get_config(), steps=10)
    config.checkpoint.update(
        keep_last=2, keep_best=1, best_metric="retrieval/score", best_mode="max"
    )
    config.model = {
        "text": {"name": "phrase_transformer", "width": 8, "depth": 1, "heads": 2},
        "video": {"name": "resnet2plus1d", "widths": (4,), "temporal_strides": (1,)},
        "spaces": {"joint": {"modalities": ("video", "text"), "width": 4}},
    }
    config.objective.terms = {
        "coarse": {"name": "info_nce", "pair": "video_text", "level": "coarse", "space": "joint"}
    }
    return experiments.build(components.complete(config))


@pytest.fixture(scope="module")
def state(experiment):
    return jax.jit(experiment.init)(0)


def saved(workdir, experiment, state, scores):
    checkpoints = checkpoint.Checkpoints(workdir, experiment, experiment.config.checkpoint)
    for step, score in scores.items():
        checkpoints.save(step, state.replace(step=state.step + step), {"next_step": step})
        if score is not None:
            checkpoints.amend({"next_step": step}, {"retrieval/score": score})
            checkpoints.remove_surplus()
    checkpoints.close()


def steps(workdir) -> set[int]:
    return {int(folder.name) for folder in (workdir / "checkpoints").iterdir()}


def test_the_last_and_the_best_are_kept(tmp_path, experiment, state):
    saved(tmp_path, experiment, state, {1: 0.1, 2: 0.9, 3: 0.3, 4: None, 5: 0.2})
    assert steps(tmp_path) == {2, 4, 5}
    for name, expected in (("latest", 5), ("best", 2), ("4", 4)):
        loaded_experiment, loaded = checkpoint.load(tmp_path, name)
        assert int(loaded.step) == expected
        jax.tree.map(np.testing.assert_array_equal, loaded.params, state.params)
        assert loaded_experiment.config.to_dict() == experiment.config.to_dict()


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path, experiment, state):
    saved(tmp_path, experiment, state, {1: math.nan, 2: 0.5})
    _, loaded = checkpoint.load(tmp_path, "best")
    assert int(loaded.step) == 2


def test_small_arrays_on_many_devices_are_written_without_a_program_for_each(
    tmp_path, experiment, state
):
    replicated = jax.sharding.NamedSharding(
        jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,)), jax.P()
    )
    state = jax.device_put(jax.device_get(state), replicated)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )
    checkpoints = checkpoint.Checkpoints(tmp_path, experiment, experiment.config.checkpoint)
    checkpoints.save(1, state, {"next_step": 1})
    checkpoints.close()
    assert not compiled
    restored, position = checkpoints.restore(jax.tree.map(lambda _: replicated, state))
    assert position == {"next_step": 1}
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_checkpoint_opens_where_it_was_moved_without_the_tokenizer_it_named(
    tmp_path, experiment, state
):
    config = ml_collections.ConfigDict(configs.plain(experiment.config))
    own = tmp_path / "own.model"
    own.write_bytes(experiment.tokenizer.model)
    config.data.tokenizer = str(own)
    saved(tmp_path / "run", experiments.build(config), state, {1: None})
    own.unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    loaded, _ = checkpoint.load(tmp_path / "moved")
    assert loaded.tokenizer.fingerprint == experiment.tokenizer.fingerprint


def test_another_tokenizer_is_refused(tmp_path, experiment, state):
    saved(tmp_path, experiment, state, {1: None})
    from fgmm.data.text import tokenizers

    tokenizers.train(["some quite other words", "of another corpus"], tmp_path / "other", 40)
    (tmp_path / "tokenizer.model").write_bytes((tmp_path / "other").read_bytes())
    with pytest.raises(
        ConfigError, match="give the tokenizer that the checkpoint was trained with"
    ):
        checkpoint.load(tmp_path)


def test_a_folder_without_checkpoints_is_named(tmp_path, experiment, state):
    with pytest.raises(ConfigError, match=r"--workdir=.* holds no checkpoints"):
        checkpoint.load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="holds no finished checkpoint"):
        checkpoint.load(tmp_path)
    saved(tmp_path, experiment, state, {3: None})
    for step in ("7", "²"):
        wrong = f"there is no checkpoint of --step='{step}'; allowed: latest, best, 3$"
        with pytest.raises(ConfigError, match=wrong):
            checkpoint.load(tmp_path, step)
    with pytest.raises(
        ConfigError, match=r"no checkpoint has checkpoint\.best_metric='retrieval/score'"
    ):
        checkpoint.load(tmp_path, "best")


def test_a_run_of_another_config_is_refused_and_left_alone(tmp_path, experiment, state):
    saved(tmp_path, experiment, state, {1: None})
    config = ml_collections.ConfigDict(configs.plain(experiment.config))
    config.optimizer.learning_rate = 0.5
    other = experiments.build(config)
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate: 0\.004 -> 0\.5"):
        checkpoint.Checkpoints(tmp_path, other, config.checkpoint)
    assert steps(tmp_path) == {1}


def test_a_save_is_due_by_steps_and_by_minutes(tmp_path, experiment, monkeypatch):
    options = {**experiment.config.checkpoint, "every_steps": 5, "every_minutes": 2.0}
    checkpoints = checkpoint.Checkpoints(tmp_path, experiment, options)
    assert [step for step in range(1, 11) if checkpoints.due(step)] == [5, 10]
    later = checkpoint.time.monotonic() + 121
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: later)
    assert checkpoints.due(1)
    checkpoints.close()


def test_a_run_does_not_start_on_exported_weights(tmp_path):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).touch()
    with pytest.raises(
        ConfigError, match=r"holds exported weights; .* and --config.init_from.path="
    ):
        checkpoint.WorkdirLock(tmp_path)
    # What a run exported into its own folder stops nothing.
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    with checkpoint.WorkdirLock(tmp_path):
        pass


def test_the_lock_goes_with_its_process(tmp_path):
    holder = rf"is in use by a live process \(.+, pid {os.getpid()}\): stop it"
    with checkpoint.WorkdirLock(tmp_path), pytest.raises(ConfigError, match=holder):
        checkpoint.WorkdirLock(tmp_path)
    with checkpoint.WorkdirLock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "is_file", "kind"),
    [
        ("events", True, "folder"),
        ("checkpoints", True, "folder"),
        ("profile", True, "folder"),
        ("metrics.jsonl", False, "file"),
        ("tokenizer.model", False, "file"),
    ],
)
def test_what_stands_in_the_way_of_a_run_is_named(name, is_file, kind, tmp_path):
    path = tmp_path / name
    if is_file:
        path.touch()
    else:
        path.mkdir()
    with pytest.raises(ConfigError, match=f"{name} is no {kind}, as a run has it; move it away"):
        checkpoint.WorkdirLock(tmp_path)
    path.rename(tmp_path / "away")
    with checkpoint.WorkdirLock(tmp_path):
        pass


@pytest.mark.parametrize("error", [MemoryError("no room"), jax.errors.JaxRuntimeError("lost")])
def test_a_device_that_fails_is_not_blamed_on_the_files(error, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise error

    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    monkeypatch.setattr(checkpoint, "_opened", fails)
    with pytest.raises(type(error)):
        checkpoint.load(tmp_path)
    with pytest.raises(type(error)):
        recovery.newest_whole(tmp_path / "checkpoints", fails, fails)
