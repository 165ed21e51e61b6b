"""A small run with every modality, and a small CLIP as a run."""

import pathlib

import jax

from configs import quickstart
from fgmm.convert import converted, published
from fgmm.convert.families import family_of
from fgmm.experiment import build as experiments
from fgmm.train.checkpoint import Checkpoints
from tests.convert import published_folders
from tests.shrunken import shrunken

# Of small published folders, by family, and a preprocessor file that is not the family's.
WRITERS = {"clip": published_folders.write_clip, "siglip": published_folders.write_siglip}
PICTURES = {"size": {"height": 32, "width": 32}, "resample": 2, "image_std": [0.2, 0.25, 0.3]}


def write_run(workdir: pathlib.Path, ema: float = 0.0) -> pathlib.Path:
    """A checkpoint of step 3 that was never trained; its statistics are not those of a start."""
    config = shrunken(quickstart.get_config(), steps=3)
    config.data.frames, config.data.height = 2, 12
    config.optimizer.ema = ema
    experiment = experiments.build(config)
    state = experiment.initial_state()
    state = state.replace(
        step=state.step + 3,
        statistics=jax.tree.map(lambda x: x + 0.25, state.statistics),
        ema=state.ema and jax.tree.map(lambda x: 2 * x, state.ema),
    )
    checkpoints = Checkpoints(workdir, experiment, experiment.config.checkpoint)
    checkpoints.save(3, state, {})
    checkpoints.close()
    return workdir


def write_converted(folder: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
    """A published folder as a run of no steps."""
    found = published.read(folder)
    run = family_of(found).as_run(found)
    converted.write(run, workdir, {"model": "small", "sha256": {"model.safetensors": "0" * 64}})
    return workdir
