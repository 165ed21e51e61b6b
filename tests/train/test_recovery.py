"""Any file of a checkpoint may be damaged: what is restored is whole, or an older one."""

import shutil

import jax
import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.train import checkpoint, recovery
from tests.faults import small

# TensorStore's other reads are still under way when one fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SCORE = "retrieval/coarse/text_to_audio/r@1"


@pytest.fixture(scope="module")
def experiment():
    return experiments.build(small.get_config())


@pytest.fixture(scope="module")
def states(experiment):
    first = jax.jit(experiment.init)(0)
    return {step: first.replace(step=first.step + step) for step in (1, 2, 3)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, experiment, states):
    """A workdir with two checkpoints."""
    workdir = tmp_path_factory.mktemp("whole")
    checkpoints = checkpoint.Checkpoints(workdir, experiment, experiment.config.checkpoint)
    for step in (1, 2):
        position = {"next_step": step, "problems": {}}
        checkpoints.save(step, states[step], position)
        checkpoints.amend(position, {SCORE: step / 10})
    checkpoints.close()
    return workdir


def opened(workdir, experiment):
    return checkpoint.Checkpoints(workdir, experiment, experiment.config.checkpoint)


def restored(checkpoints, states):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return checkpoints.restore(jax.tree.map(lambda _: sharding, states[1]))


def damage(path, how):
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("how", [pytest.param("gone", marks=pytest.mark.long), "half"])
def test_whichever_file_is_damaged(whole, experiment, states, tmp_path, how, capsys):
    folder = whole / "checkpoints" / "2"
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = [name for name in names if name.name != "commit_success.txt"]
    found = {}
    for number, name in enumerate(sorted(names)):
        workdir = tmp_path / str(number)
        shutil.copytree(whole, workdir)
        damage(workdir / "checkpoints" / "2" / name, how)
        checkpoints = opened(workdir, experiment)
        state, position = restored(checkpoints, states)
        step = found[str(name)] = position["next_step"]
        jax.tree.map(np.testing.assert_array_equal, state, states[step])
        said = "the checkpoint of step 2 cannot be read" in capsys.readouterr().out
        assert said == (step == 1) == (workdir / "damaged" / "2").exists()
        assert recovery.steps(workdir / "checkpoints") == ([1] if said else [2, 1])
        # The manager reads scores of all that is left.
        assert checkpoints.latest == step
        checkpoints.close()
    vital = {"config/metadata", "position/metadata", "state/_METADATA", "state/manifest.ocdbt"}
    assert vital <= {name for name, step in found.items() if step == 1}
    assert any(name.startswith("state/d/") for name, step in found.items() if step == 1)


def test_the_step_of_a_damaged_one_is_saved_again(whole, experiment, states, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "damaged" / "2").mkdir(parents=True)  # of an earlier time
    damage(tmp_path / "run" / "checkpoints" / "2" / "state" / "_METADATA", "half")
    checkpoints = opened(tmp_path / "run", experiment)
    restored(checkpoints, states)
    assert f"moved to {tmp_path / 'run' / 'damaged' / '2-1'}" in capsys.readouterr().out
    checkpoints.save(2, states[2], {"next_step": 2, "problems": {}})
    checkpoints.close()
    state, _ = restored(opened(tmp_path / "run", experiment), states)
    assert int(state.step) == 2


def test_an_older_one_whose_score_is_damaged(whole, experiment, states, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "1" / "metrics" / "metrics", "half")
    checkpoints = opened(tmp_path / "run", experiment)
    state, _ = restored(checkpoints, states)
    assert int(state.step) == checkpoints.latest == 2
    assert (tmp_path / "run" / "damaged" / "1").exists()
    checkpoints.close()


def test_none_is_whole(whole, experiment, states, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    for step in "12":
        damage(tmp_path / "run" / "checkpoints" / step / "state" / "manifest.ocdbt", "half")
    with pytest.raises(ConfigError, match=r"none of its checkpoints can be read \(step 2: .*1: "):
        restored(opened(tmp_path / "run", experiment), states)
    assert recovery.steps(tmp_path / "run" / "checkpoints") == [2, 1]
    assert not (tmp_path / "run" / "damaged").exists()


def test_processes_agree_on_one_that_all_can_read(tmp_path, monkeypatch):
    for step in "123":
        (tmp_path / "checkpoints" / step).mkdir(parents=True)
    another = iter(["OSError: not here", "", ""])

    def exchange(why):
        return [why, next(another)]

    def read(step):
        if step == 2:
            raise ValueError("cut short")
        return f"state {step}"

    monkeypatch.setattr(recovery.distributed, "exchange", exchange)
    found = recovery.newest_whole(tmp_path / "checkpoints", read, glance=read)
    assert found.contents == "state 1"
    assert found.damaged == {3: "OSError: not here", 2: "ValueError: cut short"}


def test_without_any(experiment, states, tmp_path):
    assert restored(opened(tmp_path, experiment), states) is None
