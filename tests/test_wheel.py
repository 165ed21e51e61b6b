"""The wheel, made from the source distribution, trains and opens a run without the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from fgmm import __version__ as VERSION
from tests import compilation
from tests.conftest import REPOSITORY

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""

# One process, for it is the imports that take time.
TRAIN_AND_LOAD = """
import runpy
import sys

sys.argv = ["fgmm.main", *sys.argv[1:]]
try:
    runpy.run_module("fgmm.main", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code

import fgmm

texts = fgmm.load("run").embed_text(["a red ball rolls"])
print(fgmm.__file__, texts.shape)
"""

SMALL = (
    "--config=quickstart:steps=1,fine=none",
    "--workdir=run",
    "--config.batch_size=8",
    "--config.optimizer.schedule.warmup=0",
    "--config.data.workers=0",
    "--config.data.frames=2",
    "--config.data.height=16",
    "--config.data.width=16",
    "--config.model.video.widths=(8,)",
    "--config.model.video.temporal_strides=(1,)",
    "--config.model.audio.widths=(8,)",
    "--config.model.text.depth=1",
    "--config.model.spaces.joint.width=8",
    "--config.evals.retrieval.source.clips=16",
)


def run(*command, cwd, **environment):
    """The last line that a Python process prints."""
    inherited = {**os.environ, "XLA_FLAGS": compilation.FLAGS}
    result = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, built from a copy, for builds leave things behind."""
    folder = tmp_path_factory.mktemp("build")
    sources = folder / "sources"
    sources.mkdir()
    for path in REPOSITORY.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, sources)
    for name in ("fgmm", "configs", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, sources / name, ignore=ignored)
    return folder / run("-c", BUILD, "build_sdist", str(folder), cwd=sources)


@pytest.fixture(scope="module")
def wheel(sdist):
    """Built from the source distribution."""
    folder = sdist.parent
    with tarfile.open(sdist) as packed:
        packed.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    return folder / run("-c", BUILD, "build_wheel", str(folder), cwd=unpacked)


def test_what_is_in_it(wheel, repository):
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        sources = [content.read(name).decode() for name in names if name.endswith(".py")]
    configs = (repository / "configs").rglob("*.py")
    assert {f"fgmm/{path.relative_to(repository)}" for path in configs} <= names
    assert {"fgmm/py.typed", "fgmm/data/text/shipped_tokenizers/narrated_shapes.model"} <= names
    templates = (repository / "fgmm" / "report" / "templates").iterdir()
    assert {f"fgmm/report/templates/{path.name}" for path in templates} <= names
    assert {name.partition("/")[0] for name in names} == {"fgmm", f"fgmm-{VERSION}.dist-info"}
    assert not [text for text in sources if "\nimport configs" in text or "\nfrom configs" in text]


def test_what_goes_with_the_sources(sdist):
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "constraints.txt", "setup.py"} <= names
    assert "configs/eval/retrieval.py" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


@pytest.mark.long
def test_an_index_would_take_both(sdist, wheel):
    last = run("-m", "twine", "check", "--strict", str(sdist), str(wheel), cwd=sdist.parent)
    assert "PASSED" in last


def test_it_trains_and_loads_far_from_the_checkout(wheel, tmp_path):
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    install = ("-m", "pip", "install", *options, "--target", str(installed), str(wheel))
    subprocess.run([sys.executable, *install], check=True, timeout=120)
    # This path comes before the one of an editable install.
    last = run("-c", TRAIN_AND_LOAD, *SMALL, cwd=elsewhere, PYTHONPATH=str(installed))
    assert last == f"{installed / 'fgmm' / '__init__.py'} (1, 8)"
