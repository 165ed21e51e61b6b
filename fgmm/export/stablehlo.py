"""The embedding functions of a run as StableHLO, which needs no code of this package.

Each modality is one function of the weights and of any number of inputs, serialized by
``jax.export`` for CPU, CUDA and TPU. It includes the preprocessing on the device: video comes as
uint8 pixels, audio as a waveform. Captions come as tokens.
"""

import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export as jax_export

from fgmm.config import ConfigError
from fgmm.experiment.build import Experiment
from fgmm.export.folder import Run
from fgmm.train import exported
from fgmm.train.checkpoint import TOKENIZER

PLATFORMS = ("cpu", "cuda", "tpu")
SIGNATURES = "signatures.json"
OPENS = """Its functions run with jax alone, on any number of inputs; `signatures.json` has their
shapes:

```python
import pathlib

import jax
from jax import export
from safetensors.numpy import load_file

folder = pathlib.Path("THIS_FOLDER")
weights = jax.device_put(load_file(folder / "model.safetensors"))
function = export.deserialize((folder / "MODALITY.stablehlo").read_bytes())
embeddings = jax.jit(function.call)(weights, inputs)
```"""
# Inputs of a function by their names in a batch.
_INPUTS = {"video": ("video",), "audio": ("audio",), "text": ("tokens", "phrase_ids")}


def check(run: Run) -> None:
    """Checks that the package that ``jax.export`` serializes with is installed.

    Raises:
      ConfigError: it is missing.
    """
    del run
    if importlib.util.find_spec("flatbuffers") is None:
        raise ConfigError(
            "--format=stablehlo needs flatbuffers, with which jax.export writes; pip install "
            "flatbuffers"
        )


def write(run: Run, folder: pathlib.Path) -> list[str]:
    """Writes ``NAME.stablehlo`` for each modality, the weights, the shapes of inputs and outputs,
    and the tokenizer.

    Returns:
      No lines to print.

    Raises:
      ConfigError: a part of the model works only for a fixed number of inputs.
    """
    signatures = {}
    for modality in run.experiment.model.encoders:
        function = exported_function(run, modality)
        (folder / f"{modality}.stablehlo").write_bytes(function.serialize())
        (_, inputs), _ = jax.tree.unflatten(function.in_tree, function.in_avals)
        outputs = jax.tree.unflatten(function.out_tree, function.out_avals)
        signatures[modality] = {"inputs": _described(inputs), "outputs": _described(outputs)}
    weights = exported.named(run.state.params["model"], run.state.statistics)
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    (folder / SIGNATURES).write_text(json.dumps(signatures, indent=2) + "\n", "utf-8")
    if run.experiment.tokenizer is not None:
        (folder / TOKENIZER).write_bytes(run.experiment.tokenizer.model)
    return []


def embedding_function(experiment: Experiment, modality: str) -> Callable[..., dict[str, Any]]:
    """``f(weights, inputs) -> outputs`` of B inputs of one modality.

    ``weights`` are arrays by their paths, as ``exported.named`` has them. ``inputs`` are
    ``{"video": [B,T,H,W,3]}``, ``{"audio": [B,S]}`` or ``{"tokens": [B,L], "phrase_ids": [B,L]}``.
    ``outputs`` are by the name of each space: ``coarse`` [B,D] and ``local`` [B,N,D] in float32,
    and ``mask`` [B,N]; with text, P takes the place of N.
    """

    def embed(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        batch = dict(inputs)
        if modality == "text":
            batch = {name: ids[:, None] for name, ids in inputs.items()}
        else:
            batch[f"{modality}_mask"] = jnp.ones(inputs[modality].shape[:1], bool)
        variables = unflatten_dict(dict(weights), sep="/")
        spaces = experiment.apply(variables, experiment.transforms(batch), train=False)
        return {
            name: _plain(members[modality], modality)
            for name, members in spaces.items()
            if modality in members
        }

    return embed


def _plain(embeddings: Any, modality: str) -> dict[str, Any]:
    found = {name: getattr(embeddings, name) for name in ("coarse", "local", "mask")}
    # There is one caption, so its axis is dropped.
    found = {name: array[:, 0] if modality == "text" else array for name, array in found.items()}
    return found | {name: jnp.float32(found[name]) for name in ("coarse", "local")}


def exported_function(run: Run, modality: str) -> jax_export.Exported:
    """``embedding_function`` of a run, lowered for all platforms; compiles nothing.

    Raises:
      ConfigError: a part of the model works only for a fixed number of inputs.
    """
    (batch,) = jax_export.symbolic_shape("B", constraints=("B >= 1",))
    blank = run.experiment.blank_batch(1)
    # Batches have [B,K,L]; here there is one caption.
    first = 2 if modality == "text" else 1
    inputs = {
        name: jax.ShapeDtypeStruct((batch, *blank[name].shape[first:]), blank[name].dtype)
        for name in _INPUTS[modality]
    }
    variables = {"params": run.state.params["model"], **run.state.statistics}
    weights = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), flatten_dict(variables, sep="/")
    )
    function = jax.jit(embedding_function(run.experiment, modality))
    try:
        return jax_export.export(function, platforms=PLATFORMS)(weights, inputs)
    except (TypeError, ValueError, NotImplementedError) as error:
        name, why = run.experiment.config.model[modality].name, str(error).partition("\n")[0]
        raise ConfigError(
            f"model.{modality}.name={name!r} cannot be exported with an open batch dimension: {why}"
        ) from error


def _described(tree: Any) -> Any:
    """Dtypes and shapes as text, such as ``"uint8 [B, 8, 112, 112, 3]"``."""
    return jax.tree.map(lambda x: f"{x.dtype} [{', '.join(map(str, x.shape))}]", tree)
