"""What the README shows works."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest


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


def test_paths_and_links_exist(readme, repository):
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (repository / link).exists(), link
    for path in re.findall(r"--config=(configs/[\w/]+\.py)", readme):
        assert (repository / path).exists(), path


def test_commands_are_there(readme, repository):
    for command in re.findall(r"bash (launch/[\w.]+)", readme):
        assert (repository / command).exists(), command
    assert "launch/test.sh" in (repository / ".ci" / "run").read_text()
