"""Layer-wise decay of the learning rate: ``config.optimizer.layer_decay``.

The layers of an encoder are its direct submodules, in the order in which it applies them, so the
rule works for any encoder, whatever the names. A module that holds only vectors, such as a
normalisation, belongs to the layer before it. So do arrays of the encoder itself. Arrays before the
first layer belong to the first layer. If an encoder has a single submodule, the parts of that
module are the layers. Layer i of n, from 0, has ``layer_decay ** (n - i)`` times the learning rate.
Heads and objective come after the last layer and have the full learning rate (Clark et al.,
"ELECTRA", arXiv 2003.10555; Bao et al., "BEiT", arXiv 2106.08254, which counts blocks in this way).
"""

import re
from collections.abc import Mapping
from typing import Any

_ENCODER = "encoders_"


def layers(params: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """The layers of every encoder. A layer is a list of paths; its arrays lie at or below these.

    Args:
      params: parameters of the model, arrays or shapes, in the order of application: the result of
        ``model.init`` before a transformation of JAX sorts it.
    """
    return {
        name: _in_order(parts, f"model/{name}")
        for name, parts in params.items()
        if name.startswith(_ENCODER)
    }


def _in_order(parts: Mapping[str, Any], path: str) -> list[list[str]]:
    while len(parts) == 1:
        ((name, inner),) = parts.items()
        if not isinstance(inner, Mapping):
            break
        parts, path = inner, f"{path}/{name}"
    found, early = [], []
    for name, part in parts.items():
        here = f"{path}/{name}"
        if _has_matrices(part) and isinstance(part, Mapping):
            found.append([*early, here])
            early = []
        elif found:
            found[-1].append(here)
        else:
            early.append(here)
    return found or [early]


def _has_matrices(part: Any) -> bool:
    if isinstance(part, Mapping):
        return any(map(_has_matrices, part.values()))
    return part.ndim > 1


def scale_rules(
    of_encoders: Mapping[str, list[list[str]]], decay: float
) -> tuple[tuple[str, float], ...]:
    """Rules (regex, factor of the learning rate) for the layers of encoders.

    Args:
      of_encoders: as from ``layers``.
      decay: the factor from a layer to the one before it.
    """
    return tuple(
        (f"{re.escape(path)}(/.*)?", decay ** (len(found) - number))
        for found in of_encoders.values()
        for number, layer in enumerate(found)
        for path in layer
    )
