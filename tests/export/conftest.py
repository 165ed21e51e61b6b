"""Runs to export, made once for all tests of the room."""

import json

import pytest

import fgmm
from tests.export.small import PICTURES, WRITERS, write_converted, write_run


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    """A run of three modalities with a moving average of its parameters."""
    return write_run(tmp_path_factory.mktemp("runs") / "a", ema=0.5)


@pytest.fixture(scope="session")
def model(workdir):
    return fgmm.load(workdir, batch_size=4)


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """By family: the arrays of a published folder, and the run that became of it."""
    found = {}
    for family, write in WRITERS.items():
        root = tmp_path_factory.mktemp(family)
        arrays = write(root / "in")
        (root / "in" / "preprocessor_config.json").write_text(json.dumps(PICTURES))
        found[family] = (arrays, write_converted(root / "in", root / "run"))
    return found
