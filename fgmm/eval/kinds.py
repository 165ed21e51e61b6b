"""Kinds of phrases and of cells, on a corpus that knows what its phrases refer to.

A phrase is of one of three kinds. *refer*: it refers to an object of the clip. *rest*: another
phrase of its caption does. *wrong*: no phrase of its caption does. A cell is *on* an object that is
spoken of, in a frame that the cell covers, or *off*.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from fgmm.data import grounding
from fgmm.eval import metrics

PHRASES = ("refer", "rest", "wrong")
CELLS = ("on", "off")


def of_phrases(
    references: Sequence[grounding.Reference], mask: Bool[np.ndarray, "K P"]
) -> dict[str, Bool[np.ndarray, "K P"]]:
    """The phrases of each kind.

    Args:
      references: of the clip, from ``grounding.of_clip``.
      mask: the valid phrases.
    """
    refer = np.zeros_like(mask)
    for reference in references:
        refer[reference.caption, reference.phrase] = True
    true = np.broadcast_to(refer.any(axis=1, keepdims=True), mask.shape)
    found = {"refer": refer, "rest": true & ~refer, "wrong": ~true}
    return {kind: chosen & mask for kind, chosen in found.items()}


def of_cells(
    references: Sequence[grounding.Reference], grid: Sequence[int]
) -> dict[str, Bool[np.ndarray, "T H W"]]:
    """The cells of each kind.

    Args:
      references: of the clip, at least one.
      grid: the extent of the feature map, (T, H, W).
    """
    times, *space = grid
    frames = np.any([grounding.inside(reference, *space) for reference in references], axis=0)
    on = grounding.over_time(frames, times)
    return dict(zip(CELLS, (on, ~on), strict=True))


def averaged(shares: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The means over clips of shares, with their 95% intervals.

    Args:
      shares: one number for each clip, by name. A name that ends in ``/uniform`` is a share of the
        entries, which needs no interval.
    """
    result = {}
    for name, of_clips in shares.items():
        found = metrics.with_intervals({name: np.array(of_clips)})
        result |= {name: found[name]} if name.endswith("/uniform") else found
    return result
