"""Spans of time and how much of each other they cover; times are fractions of a window.

A window has T equal cells of time, and a predicted span is made of whole cells. One more axis here:
S spans.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

RECALL_AT = (0.3, 0.5, 0.7)


def overlap(
    spans: Float[np.ndarray, "S 2"], truths: Sequence[tuple[float, float]]
) -> Float[np.ndarray, "S"]:
    """Intersection over union of each span with the truth that it covers best.

    Of several true spans the best counts (``compute_mr_r1`` in standalone_eval/eval.py of
    github.com/jayleicn/moment_detr at commit 2fa9e32).

    Args:
      spans: start and end of each.
      truths: likewise; at least one.
    """
    start, end = spans[:, :1], spans[:, 1:]
    true_start, true_end = np.asarray(truths, np.float64).T
    shared = np.minimum(end, true_end[None]) - np.maximum(start, true_start[None])
    shared = np.maximum(shared, 0)
    union = (end - start) + (true_end - true_start)[None] - shared
    return (shared / union).max(axis=1)


def all_spans(cells: int) -> Float[np.ndarray, "S 2"]:
    """Every span of cells in a row, of T = ``cells``: S = T(T + 1)/2."""
    first, last = np.triu_indices(cells)
    return np.stack([first, last + 1], axis=1) / cells


def found_span(curve: Float[np.ndarray, "T"], threshold: float) -> tuple[float, float]:
    """The cells in a row around the peak of a curve that are not below a share of its height.

    The height is from the lowest to the highest cell. A flat curve has the whole window.

    Args:
      curve: of similarity over time.
      threshold: the share, from 0 to 1.
    """
    low, high = curve.min(), curve.max()
    inside = curve >= low + threshold * (high - low)
    first = last = int(curve.argmax())
    while first > 0 and inside[first - 1]:
        first -= 1
    while last + 1 < len(curve) and inside[last + 1]:
        last += 1
    return first / len(curve), (last + 1) / len(curve)


def outcomes(iou: Float[np.ndarray, "S"]) -> dict[str, Float[np.ndarray, "S"]]:
    """What is averaged over queries: Recall@1 at each IoU, and the IoU itself."""
    recall = {f"r@1_iou_{at}": (iou >= at).astype(np.float64) for at in RECALL_AT}
    return recall | {"mean_iou": iou}
