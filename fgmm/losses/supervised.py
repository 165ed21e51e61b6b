"""Losses of a classifier's logits against labels, as means over the valid clips of all devices.

Devices exchange only the sums of these means.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fgmm.losses.collectives import AxisName, mean_of_valid


def softmax_cross_entropy(
    logits: Float[Array, "b classes"],
    labels: Int[Array, "b"],
    mask: Bool[Array, "b"],
    *,
    label_smoothing: float = 0.0,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """The mean of -Σ_k q_k log p_k with p = softmax(logits).

    q is 1 - ε + ε/classes for the label and ε/classes for the other classes, with ε
    ``label_smoothing`` (Szegedy et al., CVPR 2016, arXiv 1512.00567, section 7).

    Args:
      logits: of the device's own clips.
      labels: the class of each clip; any number for a masked clip.
      mask: which clips have a label and the modality that the classifier sees.
      label_smoothing: ε, from 0 to less than 1.
      axis_name: the mapped axis of devices, as in ``contrastive``.

    Returns:
      The loss; 0, with gradient 0, if no clip is valid.
    """
    with jax.named_scope("softmax_cross_entropy"):
        logits = _finite(logits, mask)
        log_p = jax.nn.log_softmax(logits, axis=-1)
        own = _of_label(log_p, jnp.where(mask, labels, 0))
        loss = -(1 - label_smoothing) * own - label_smoothing * log_p.mean(axis=-1)
        return mean_of_valid(loss, mask, axis_name)


def sigmoid_cross_entropy(
    logits: Float[Array, "b classes"],
    labels: Bool[Array, "b classes"],
    mask: Bool[Array, "b"],
    *,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """The mean binary cross entropy over all classes, for clips with any number of classes.

    Args:
      logits: of the device's own clips; a class has the probability sigmoid(logit).
      labels: which classes each clip has.
      mask, axis_name: as in ``softmax_cross_entropy``.

    Returns:
      The loss; 0, with gradient 0, if no clip is valid.
    """
    with jax.named_scope("sigmoid_cross_entropy"):
        logits = _finite(logits, mask)
        of_classes = jnp.where(labels, jax.nn.softplus(-logits), jax.nn.softplus(logits))
        return mean_of_valid(of_classes.mean(axis=-1), mask, axis_name)


def label_found(
    logits: Float[Array, "b classes"], labels: Int[Array, "b"] | Bool[Array, "b classes"]
) -> Bool[Array, "b"]:
    """Whether the highest logit is that of the clip's class, or of one of its classes. A tie with
    another class counts as wrong.
    """
    if labels.ndim == 1:
        labels = labels[:, None] == jnp.arange(logits.shape[1])[None]
    lowest = jnp.finfo(logits.dtype).min
    own = jnp.max(jnp.where(labels, logits, lowest), axis=1)
    return own > jnp.max(jnp.where(labels, lowest, logits), axis=1)


def _finite(logits, mask):
    """Logits with zeros in masked rows, so that a NaN there does not reach a gradient."""
    return jnp.where(mask[:, None], logits, 0.0)


def _of_label(values, labels):
    return jnp.take_along_axis(values, labels[:, None], axis=1)[:, 0]
