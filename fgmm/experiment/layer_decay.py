"""Layer-wise decay of the learning rate: ``config.optimizer.layer_decay``.

The layers of an encoder are the modules that it is made of, in the order in which it applies them,
so the rule works for any encoder, whatever its names. A module that holds only vectors, such as a
normalisation, belongs to the layer before it. So do arrays of the encoder itself. Arrays before any
layer belong to the first. If an encoder is a single module, the parts of that module are the
layers. Layer i of n, from 0, learns at ``layer_decay ** (n - i)`` times the learning rate; heads
and objective, which come after the last layer, learn at the whole (Clark et al., "ELECTRA", arXiv
2003.10555; Bao et al., "BEiT", arXiv 2106.08254, whose blocks count so).
"""

import re
from collections.abc import Mapping
from typing import Any

_ENCODER = "encoders_"


def layers(params: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """The layers of every encoder, each as the paths below which its arrays lie.

    Args:
      params: of the model as it makes them, arrays or shapes, in the order of application: what
        ``model.init`` returns, before any transformation of JAX sorts it.
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
    """Rules (regex, factor of the learning rate) on the arrays of ``layers``; 1 for all others."""
    return tuple(
        (f"{re.escape(path)}(/.*)?", decay ** (len(found) - number))
        for found in of_encoders.values()
        for number, layer in enumerate(found)
        for path in layer
    )
