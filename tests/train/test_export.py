"""The train step of every shipped config, at full size, as a program for TPU.

It is traced and lowered to StableHLO for the platform: no array is made, nothing compiled, no
corpus opened. What XLA's compiler for TPU makes of it is not seen here.
"""

import importlib
import pathlib
import re

import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm.experiment import build as experiments
from fgmm.train import mesh as meshes
from fgmm.train.step import make_train_step

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"

# (config, variant, devices, how many of them share the parameters); {words} is a tokenizer. What
# changes the program is here, losses, modalities and sizes, and not a corpus or a rate.
CASES = [
    ("quickstart", "", 1, 1),
    ("quickstart", "", 8, 2),
    ("quickstart", "fine=annealed", 8, 2),
    ("quickstart", "fine=mil_nce", 8, 2),
    ("quickstart", "fine=none", 8, 2),
    ("narrated_shapes", "arm=coarse_max", 8, 2),
    ("narrated_shapes", "arm=softmax_coarse,pairs=all,batch=256", 8, 2),
    ("narrated_shapes", "arm=symmetric,pairs=audio_text", 8, 2),
    ("prepared", "tokenizer={words}", 8, 2),
    ("corpus", "tokenizer={words}", 8, 2),
    ("flickr8k", "tokenizer={words}", 8, 2),
    ("flickr8k", "tokenizer={words},objective=coarse", 1, 1),
    ("flickr8k_features", "tokenizer={words}", 8, 2),
    ("storybook_features", "tokenizer={words}", 8, 2),
    ("video_folder", "tokenizer={words}", 1, 1),
    ("video_folder", "tokenizer={words},fine=mil_nce", 8, 2),
    ("howto100m_s3d", "tokenizer={words}", 8, 2),
    ("howto100m_s3d", "tokenizer={words},recipe=small,fine=none", 1, 1),
    ("howto100m_tsm50", "tokenizer={words}", 8, 2),
    ("howto100m_tsm50", "tokenizer={words},fine=none", 1, 1),
]

SHORT = (("quickstart", ""), ("flickr8k", "tokenizer={words}"))

# They start from published weights or a run, which are not here; a step of each is in
# tests/test_configs.py.
STARTED = {"finetune", "flickr8k_pretrained", "flickr_clip", "msr_vtt_clip"}

# What may be called in a program for TPU beside its own operations. Libraries of a CPU or a GPU,
# LAPACK, cuDNN or callbacks to Python, are not in it.
ON_TPU = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "tpu_custom_call"}
# Types of a train state: parameters, statistics and moments are float32 whatever computes them.
KEPT = ("float32", "int32", "uint32")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """As many words as the tokenizer of HowTo100M has pieces."""
    path = tmp_path_factory.mktemp("tokenizer") / "words.npy"
    np.save(path, np.array([f"w{i}" for i in range(1, 32_000)]))
    return path


def test_every_config_is_here():
    shipped = {path.stem for path in CONFIGS.glob("*.py")} - {"__init__"} - STARTED
    assert {name for name, *_ in CASES} == shipped
    assert {name for name, _, devices, _ in CASES if devices == 8} == shipped


def sizes(arrays):
    return [(array.shape, array.dtype) for array in arrays]


def lowered(config, devices, fsdp) -> str:
    """The program's text, once it is what it has to be."""
    config.mesh.fsdp = fsdp
    experiment = experiments.build(config)
    state = jax.eval_shape(experiment.init, config.seed)
    batch = {
        key: jax.ShapeDtypeStruct((config.batch_size, *array.shape[1:]), array.dtype)
        for key, array in experiment.blank_batch(1).items()
    }
    mesh = meshes.make_mesh(jax.devices()[:devices], fsdp=fsdp)
    parts = {key: config[key] for key in ("accumulate", "grad_cache")}
    meshes.check_batch_size(config.batch_size, mesh, **parts)
    exported = jax.export.export(make_train_step(experiment, mesh), platforms=["tpu"])(state, batch)

    assert exported.platforms == ("tpu",)
    assert exported.nr_devices == devices
    before, given = (sizes(jax.tree.leaves(tree)) for tree in (state, (state, batch)))
    assert sizes(exported.in_avals) == given
    assert sizes(exported.out_avals[: len(before)]) == before
    assert {dtype for _, dtype in before} <= {np.dtype(name) for name in KEPT}
    text = exported.mlir_module()
    assert set(re.findall(r"custom_call @([\w.]+)", text)) <= ON_TPU
    # The state is given away: its memory is that of the new one.
    given_away = text.count("tf.aliasing_output") + text.count("jax.buffer_donor")
    assert given_away == len(before)
    return text


def marked(cases):
    """Two configs on 8 devices, three modalities and two; the others are long forms."""
    for case in cases:
        short = case[2] == 8 and case[:2] in SHORT
        yield pytest.param(*case, marks=() if short else pytest.mark.long)


@pytest.mark.parametrize(("name", "variant", "devices", "fsdp"), list(marked(CASES)))
def test_the_step_lowers_for_tpu(name, variant, devices, fsdp, words):
    get_config = importlib.import_module(f"configs.{name}").get_config
    text = lowered(get_config(variant.format(words=words)), devices, fsdp)
    assert "bf16" not in text
    assert "optimization_barrier" not in text


@pytest.mark.long
def test_with_every_key_that_saves_memory():
    config = quickstart.get_config()
    config.update(accumulate=2, grad_cache=2, exchange="ring")
    for modality in ("video", "audio", "text"):
        config.model[modality].update(dtype="bfloat16", remat=((".*", "nothing_saveable"),))
    text = lowered(config, 8, 2)
    assert "bf16" in text
    # Around what is computed again, so that it is not merged with what was computed before.
    assert "optimization_barrier" in text
    assert "collective_permute" in text
