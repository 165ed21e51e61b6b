"""Settings of the whole suite: types checked, 8 simulated devices, quick compilation."""

import gc
import os
import pathlib
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(REPOSITORY))

from tests import compilation  # noqa: E402

# Of a flag that is given twice the last counts.
os.environ["XLA_FLAGS"] = " ".join(
    [compilation.FLAGS, os.environ.get("XLA_FLAGS", ""), compilation.simulated(devices=8)]
)
# Of the default threads, one a device, those that wait in a collective can keep out the last.
os.environ.setdefault("PJRT_NPROC", "32")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# A hundred programs are started, and without bytecode each would compile the package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Broadcasting of arrays with fewer axes is written out; programs that tests start do so as well.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# Tracing makes objects by the million; to search them for cycles takes up to a tenth of a test.
gc.set_threshold(100_000, 50, 100)

import jaxtyping  # noqa: E402

jaxtyping.install_import_hook("fgmm", "beartype.beartype")

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def shared_data():
    """``shared_data(name)`` is the path of a real corpus, or skips the test where it is absent."""
    folder = pathlib.Path(os.environ.get("FGMM_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> pathlib.Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"{path} is absent; set FGMM_SHARED_DATA to the folder that holds {name}")
        return path

    return find


@pytest.fixture
def unchecked_types():
    """Types are not checked, for a test that calls small functions a million times."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def repository() -> pathlib.Path:
    return REPOSITORY
