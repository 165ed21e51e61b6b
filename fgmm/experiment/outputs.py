"""The outputs of a model for a batch of one modality, from which evaluations are computed."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ScalarLike, Shaped

from fgmm.models.heads import pooled

# How the features of cells are pooled for ``features/...``.
WAYS = ("mean", "max")
# The key under which a model returns the logits of its classifiers.
_CLASSIFIERS = "classifiers"


def of_batch(
    experiment: Any,
    params: Mapping[str, Any],
    statistics: Mapping[str, Any],
    batch: Mapping[str, Any],
    local: bool,
) -> dict[str, Shaped[Array, "B ..."]]:
    """The outputs for a batch, by name. Nothing is augmented. Arrays are float32, with embeddings
    rounded to the dtype of their space; masks are bool.

    Args:
      experiment: an ``Experiment``.
      params, statistics: parameters and statistics of its model.
      batch: a batch of one modality.
      local: whether to return local embeddings too.

    Returns:
      For video and audio, ``features/mean`` and ``features/max`` [B,E]: the output of the encoder
      before any head, pooled over valid cells. For each space ``SPACE/coarse`` and ``SPACE/mask``,
      and with ``local`` also ``SPACE/local`` and ``SPACE/gates`` (if it has gates), as in
      ``Embeddings``. For segments of audio the same under ``SPACE/segments/``. For each classifier
      its logits ``classifiers/NAME`` [B,classes].
    """

    def within_model(model, inputs):
        tokens = model.encode(inputs)
        return tokens, model.embeddings(tokens)

    variables, inputs = {"params": params, **statistics}, experiment.transforms(batch)
    tokens, embeddings = experiment.apply(variables, inputs, method=within_model)
    logits = embeddings.pop(_CLASSIFIERS, {})
    found = {f"{_CLASSIFIERS}/{name}": values for name, values in logits.items()}
    for modality, encoded in tokens.items():
        for way in WAYS if modality != "text" else ():
            found[f"features/{way}"] = pooled(encoded.local, encoded.mask, way)
    for space, members in embeddings.items():
        for modality, vectors in members.items():
            name = f"{space}/segments" if modality == "audio_segments" else space
            found |= {f"{name}/coarse": vectors.coarse, f"{name}/mask": vectors.mask}
            if local:
                found[f"{name}/local"] = vectors.local
                if vectors.gates is not None:
                    found[f"{name}/gates"] = vectors.gates
    return {name: x if x.dtype == bool else jnp.float32(x) for name, x in found.items()}


def of_untrained(
    experiment: Any, seed: ScalarLike, batch: Mapping[str, Any]
) -> dict[str, Shaped[Array, "B ..."]]:
    """The outputs of the state before the first step, without local embeddings.

    The batch normalisation of the untrained network has its initial statistics, so it changes
    nothing. With statistics estimated from the clips, untrained features were worse on sounds, so
    this baseline is harder to beat.
    """
    state = experiment.init(seed)
    return of_batch(experiment, state.params["model"], state.statistics, batch, False)
