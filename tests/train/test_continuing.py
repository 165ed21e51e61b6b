import ml_collections
import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.train import loop
from fgmm.train.continuing import check_config
from tests.shrunken import shrunken


def config(steps: int, **schedule) -> dict:
    """The defaults with other steps and another schedule."""
    found = configs.defaults()
    found.steps = steps
    found.optimizer.schedule.update(schedule)
    return configs.as_dict(found)


@pytest.mark.parametrize(
    ("before", "now", "step"),
    [
        (config(10, name="constant", warmup=2.0), config(20, name="constant", warmup=2.0), 10),
        (config(10, name="constant", warmup=0.2), config(20, name="constant", warmup=2.0), 10),
        (config(10, name="rsqrt", warmup=2.0), config(8, name="rsqrt", warmup=2.0), 8),
        (
            config(10, name="constant", warmup=2.0),
            config(20, name="constant", warmup=2.0, cooldown=5.0),
            10,
        ),
        # Nothing but the warmup is done.
        (config(10, warmup=4.0), config(20, warmup=4.0), 4),
    ],
)
def test_a_schedule_that_leaves_finished_steps_as_they_were_allows_it(before, now, step, tmp_path):
    check_config(tmp_path, before, now, step)


def test_an_option_that_is_new_since_has_its_default(tmp_path):
    now = configs.as_dict(components.complete(quickstart.get_config()))
    before = configs.as_dict(components.complete(quickstart.get_config()))
    del before["model"]["video"]["stem_stride"], before["data"]["source"]["distractors"]
    check_config(tmp_path, before, now, 1)
    # An evaluation may go.
    check_config(tmp_path, {**now, "evals": {"gone": {"name": "gone"}}}, now, 1)
    now["model"]["video"]["stem_stride"] += 1
    with pytest.raises(ConfigError, match=r"of another config \(model\.video\.stem_stride: "):
        check_config(tmp_path, before, now, 1)


@pytest.mark.parametrize(
    ("before", "now", "step", "message"),
    [
        (config(10), config(20), 10, r"steps: 10 -> 20 \(step 2: 0.001 -> 0.0005\): start another"),
        (config(10, name="constant"), config(20, name="constant"), 10, r"\(step 2: 0.001 -> 0.000"),
        (
            config(10, name="constant", warmup=2.0),
            config(8, name="constant", warmup=2.0),
            10,
            "10 finished steps, more than steps=8",
        ),
        (
            config(10, name="constant", warmup=2.0, cooldown=5.0),
            config(20, name="constant", warmup=2.0, cooldown=5.0),
            10,
            r"\(step 7: ",
        ),
        (config(10), {**config(20), "seed": 1}, 10, "of another config"),
    ],
)
def test_otherwise_one_line_says_why_and_how(before, now, step, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        check_config(tmp_path, before, now, step)
    assert "\n" not in str(error.value)


def small(steps: int) -> ml_collections.ConfigDict:
    found = shrunken(quickstart.get_config("fine=none"), steps=steps, pair="audio_text")
    found.evals, found.checkpoint.best_metric = {}, ""
    found.optimizer.schedule.update(name="constant", warmup=1.0)
    return components.complete(found)


def trained(steps, workdir):
    experiment = experiments.build(small(steps))
    return loop.train(experiment, experiment.training_source(), workdir)


@pytest.mark.long
def test_a_finished_run_goes_on_as_if_it_had_been_longer_from_the_start(tmp_path):
    trained(2, tmp_path / "extended")
    trained(4, tmp_path / "extended")
    trained(4, tmp_path / "whole")
    losses = [
        [line.partition('"clips_per_second"')[0] for line in (run / "metrics.jsonl").open()]
        for run in (tmp_path / "extended", tmp_path / "whole")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
