"""What the README shows works."""

import importlib
import os
import re
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm import components
from fgmm.experiment import build as experiments
from tests.data.flickr8k_fixture import write_flickr8k
from tests.data.video_fixture import write_narrated_videos

# What a test changes of a command that trains: it takes a few steps.
FEW = ("--config.steps=30", "--config.batch_size=8", "--config.data.height=32")
FEW += ("--config.data.width=32", "--config.data.frames=2", "--config.model.video.widths=(8,)")
FEW += ("--config.model.video.temporal_strides=(1,)", "--config.model.audio.widths=(8,8,8)")


@pytest.fixture
def readme(repository):
    return (repository / "README.md").read_text()


def test_the_loss_example_runs(readme):
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (example,) = [block for block in blocks if "losses" in block]
    assert len(example.splitlines()) <= 20
    names = {}
    exec(example, names)
    key_x, key_y = jax.random.split(jax.random.key(0))
    cells, phrases = jax.random.normal(key_x, (4, 9, 8)), jax.random.normal(key_y, (4, 3, 8))
    mask = jnp.ones((4, 3), bool).at[0, 2].set(False)
    gradient = names["gradient"](cells, phrases, mask, 0.07)
    assert gradient.shape == cells.shape
    assert np.abs(gradient).max() > 0
    candidates = jnp.array([[b, (b + 1) % 4] for b in range(4)])
    of_two = names["gradient"](cells, phrases, mask, 0.07, candidates)
    assert np.all(np.abs(of_two).max((1, 2)) > 0)
    assert np.abs(of_two - gradient).max() > 0


def test_paths_and_links_exist(readme, repository):
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (repository / link).exists(), link
    for path in re.findall(r"--config=(configs/[\w/]+\.py)", readme):
        assert (repository / path).exists(), path


def test_commands_are_there(readme, repository):
    for command in re.findall(r"bash (launch/[\w.]+)", readme):
        assert (repository / command).exists(), command
    assert "launch/test.sh" in (repository / ".ci" / "run").read_text()


def test_each_protocol_fits_the_run_that_was_trained_before(readme):
    def config_of(name):
        module, _, argument = name.partition(":")
        return importlib.import_module(module.replace("/", ".")).get_config(argument)

    trained = re.findall(r"--config=(configs/\S+) --workdir=runs/(\w+)", readme)
    runs = {run: config.replace(".py", "") for config, run in trained}
    commands = re.findall(
        r"python -m fgmm\.eval\.(\w+) --workdir=runs/(\w+) +--config=(\S+)", readme
    )
    assert {name for name, _, _ in commands} >= {"retrieval", "linear_probe", "gates"}
    built = {}
    for name, run, protocol in commands:
        if run not in built:
            built[run] = experiments.build(config_of(runs[run]))
        entry = config_of(f"configs/{protocol}")
        assert entry.name == name
        components.build("eval", entry, key=name).bind(built[run])


@pytest.fixture
def corpora(repository, tmp_path):
    """Six videos and eight pictures of one's own, in a folder from which configs are found."""
    write_narrated_videos(tmp_path / "my_videos", 6)
    write_flickr8k(tmp_path / "my_images", 8, 0)
    (tmp_path / "configs").symlink_to(repository / "configs")
    return tmp_path


@pytest.mark.parametrize(
    ("title", "workdir"),
    [
        ("On your own videos", "my_videos"),
        pytest.param("On several corpora at once", "both", marks=pytest.mark.long),
    ],
)
def test_a_section_runs_on_six_small_videos_as_it_stands(
    title, workdir, readme, corpora, repository
):
    section = re.search(rf"### {title}\n(.*?)\n##", readme, re.DOTALL)[1]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1].replace("\\\n", " ")
    for command in block.splitlines():
        python, *words = shlex.split(command)
        assert python == "python"
        ran = subprocess.run(
            [sys.executable, *words, *(FEW if "fgmm.main" in words else ())],
            env=os.environ | {"PYTHONPATH": str(repository), "XLA_FLAGS": ""},
            cwd=corpora,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
    assert (corpora / "runs" / workdir / "checkpoints" / "30").is_dir()
