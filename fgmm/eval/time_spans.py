"""Spans of time and their overlap; times are fractions of a window.

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
    """The intersection over union of each span with the true span for which it is highest.

    As ``compute_mr_r1`` in standalone_eval/eval.py of github.com/jayleicn/moment_detr at commit
    2fa9e32.

    Args:
      spans: start and end of each predicted span.
      truths: start and end of each true span; at least one.
    """
    start, end = spans[:, :1], spans[:, 1:]
    true_start, true_end = np.asarray(truths, np.float64).T
    shared = np.minimum(end, true_end[None]) - np.maximum(start, true_start[None])
    shared = np.maximum(shared, 0)
    union = (end - start) + (true_end - true_start)[None] - shared
    return (shared / union).max(axis=1)


def all_spans(cells: int) -> Float[np.ndarray, "S 2"]:
    """All spans of contiguous cells among T = ``cells``: S = T(T + 1)/2."""
    first, last = np.triu_indices(cells)
    return np.stack([first, last + 1], axis=1) / cells


def found_span(curve: Float[np.ndarray, "T"], threshold: float) -> tuple[float, float]:
    """Start and end of the contiguous cells around the peak that reach a share of its height.

    The height is measured from the lowest cell to the highest. A flat curve gives the whole window.

    Args:
      curve: similarity over time.
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
    """The numbers that are averaged over queries: hits at each ``RECALL_AT``, and the IoU."""
    recall = {f"r@1_iou_{at}": (iou >= at).astype(np.float64) for at in RECALL_AT}
    return recall | {"mean_iou": iou}
