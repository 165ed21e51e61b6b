"""Losses on any devices and processes, in short; benchmarks/equality.py is the long form."""

import importlib.util
import pathlib
import sys

import pytest

BENCHMARK = pathlib.Path(__file__).parents[2] / "benchmarks" / "equality.py"
STEPS = 3


@pytest.fixture(scope="module")
def equality():
    spec = importlib.util.spec_from_file_location("equality", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["equality"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alone(equality):
    """What a run's losses are on one device."""
    known = {}

    def losses(run):
        kind = run.kind()
        if kind not in known:
            known[kind] = equality.losses(kind, STEPS)
        return known[kind]

    return losses


@pytest.mark.parametrize(
    "run",
    [
        pytest.param({"dtype": "float64", "devices": 8}, marks=pytest.mark.long),
        pytest.param({"dtype": "float64", "devices": 4, "fsdp": 2}, marks=pytest.mark.long),
        pytest.param(
            {"dtype": "float64", "devices": 4, "fsdp": 2, "accumulate": 2},
            marks=pytest.mark.long,
        ),
        pytest.param(
            {"dtype": "float64", "devices": 2, "grad_cache": 2, "plain": True},
            marks=pytest.mark.long,
        ),
        pytest.param({"dtype": "float32", "devices": 8, "fsdp": 2}, marks=pytest.mark.long),
    ],
    ids=lambda run: " ".join(f"{name}={value}" for name, value in run.items()),
)
def test_devices_change_no_loss(run, equality, alone):
    run = equality.Run(**run)
    apart = equality.difference(equality.losses(run, STEPS), alone(run))
    assert apart.max() <= equality.ALLOWED[run.dtype][0]


def test_two_processes_change_no_loss(equality, alone):
    runs = [equality.Run("float64", 8), equality.Run("float64", 8, fsdp=2)]
    for run, found in zip(runs, equality.in_processes(runs, STEPS, 2, timeout=240), strict=True):
        assert equality.difference(found, alone(run)).max() <= equality.ALLOWED["float64"][0]
