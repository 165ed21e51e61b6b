import re
import time

import jax
import ml_collections
import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.experiment import build as experiments
from fgmm.models import counts
from fgmm.train import speed
from tests.shrunken import shrunken


@pytest.fixture
def clock(monkeypatch):
    """``clock(seconds)`` lets time pass."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    return passes


def test_numbers_of_a_step(clock):
    of_run = speed.Speed(batch_size=32, total=10, flops=lambda: 6e12, peak=10e12)
    clock(60.0)
    of_run.finished(3)
    with of_run.waiting():
        clock(0.5)
    clock(1.5)
    with of_run.paused():
        clock(50.0)
    numbers = of_run.finished(4)
    assert numbers["clips_per_second"] == 16
    assert numbers["flops_per_second"] == 3e12
    assert numbers["flop_utilisation"] == 0.3
    assert numbers["data_wait"] == 0.25
    assert numbers["seconds_left"] == 6 * 2.0
    assert numbers.keys() < set(speed.KEYS)
    assert re.fullmatch(
        r"16 clips/s, 30% of peak FLOP/s, 25% data wait, \d+\.\d GiB host", str(of_run)
    )


def test_the_speed_of_the_last_steps_is_smooth_and_without_the_first(clock):
    of_run = speed.Speed(batch_size=32, total=10, flops=lambda: 6e12, peak=10e12)
    for seconds in (60.0, 2.0, 1.0):
        clock(seconds)
        numbers = of_run.finished(3)
        assert numbers["clips_per_second"] == 32 / seconds
        assert numbers["data_wait"] == 0.0
    assert numbers["seconds_left"] == pytest.approx(7 * 1.9)
    assert str(of_run).startswith("17 clips/s, 32% of peak FLOP/s, 0% data wait, ")


def test_no_share_of_an_unknown_peak(clock):
    of_run = speed.Speed(batch_size=32, total=10, flops=lambda: 6e12, peak=None)
    of_run.finished(1)
    clock(2.0)
    assert "flop_utilisation" not in of_run.finished(1)
    assert "16 clips/s, 3,000.0 GFLOP/s, 0% data wait" in str(of_run)


def test_flops_are_not_counted_before_the_second_step(clock):
    counted = []
    of_run = speed.Speed(32, 10, flops=lambda: counted.append(1) or 6e12, peak=10e12)
    clock(4.0)
    assert not {"flops_per_second", "seconds_left"} & of_run.finished(1).keys()
    assert str(of_run).startswith("4 s with compilation, ")
    assert not counted
    clock(2.0)
    assert of_run.finished(2)["flops_per_second"] == 3e12
    assert counted == [1]


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("cpu", None),
        ("NVIDIA H1000", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
    ],
)
def test_peaks_by_the_name_of_the_device(kind, teraflops):
    assert speed.peak_flops(kind) == (teraflops and pytest.approx(teraflops * 1e12))


def test_memory_of_the_device_where_it_counts_it(monkeypatch):
    (name,) = speed.memory()
    assert name == "host_peak_bytes"
    # An interpreter with jax in it, and not in KiB.
    assert 50e6 < speed.memory()[name] < 100e9

    class Device:
        def memory_stats(self):
            return {"bytes_in_use": 5, "peak_bytes_in_use": 7}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert speed.memory() == {"device_peak_bytes": 7}


def make(**changes):
    config = ml_collections.ConfigDict(configs.plain(shrunken(quickstart.get_config("fine=none"))))
    for name in ("coarse_video_audio", "coarse_audio_text"):
        del config.objective.terms[name]
    config.update(changes)
    return experiments.build(components.complete(config))


def forward(experiment) -> dict[str, float]:
    """FLOPs of a clip by part."""
    inputs = jax.eval_shape(experiment.transforms, experiment.blank_batch(1))
    found = {p.name.partition(",")[0]: p.flops for p in counts.parts(experiment.model, inputs)}
    return found


def test_a_step_is_three_forward_passes_and_the_products_of_its_loss():
    experiment = make()
    of_model = 8 * sum(forward(experiment).values())
    # One vector of 8 numbers a clip and a caption, 8 of each.
    of_loss = 2 * 8 * 8 * 8
    assert speed.step_flops(experiment) == 3 * (of_model + of_loss)
    # Each of two micro-batches has a loss of its own, of a quarter of the pairs.
    assert speed.step_flops(make(accumulate=2)) == 3 * (of_model + of_loss / 2)


def test_what_is_computed_again_or_has_no_backward_pass_does_not_count():
    whole = speed.step_flops(make())
    assert speed.step_flops(make(grad_cache=2)) == whole
    config = ml_collections.ConfigDict(configs.plain(make().config))
    config.optimizer.learning_rate_scale = (("model/encoders_video/.*", "frozen"),)
    frozen = experiments.build(config)
    assert speed.step_flops(frozen) == whole - 2 * 8 * forward(frozen)["video"]
