import pytest

from tests.faults.harness import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """One for all, so that uninterrupted runs are made once."""
    return Bench(tmp_path_factory.mktemp("faults"))
