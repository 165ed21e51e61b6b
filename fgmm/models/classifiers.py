"""Classifiers: linear heads over the pooled features of an encoder, and their config."""

import itertools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fgmm.config import Config, ConfigError, plain
from fgmm.config.option import check_given, declared
from fgmm.config.sections import Classifier
from fgmm.models.embeddings import Tokens
from fgmm.models.heads import pooled


class ClassifierHead(nn.Module):
    """Logits of classes. The kernel starts at 0, so that the first step of fine-tuning does not
    change the encoder (as in ViT, Dosovitskiy et al., ICLR 2021, arXiv 2010.11929, section 3.2).

    Attributes:
      modality: the modality whose encoder's features it takes.
      classes: how many classes there are.
      pool: ``"mean"`` or ``"max"`` over the valid features of a clip; ``"own"`` takes the encoder's
        own coarse feature instead.
      dropout: share of the pooled feature's channels that are set to 0 in training.
    """

    modality: str
    classes: int
    pool: str = "mean"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: Tokens, train: bool) -> Float[Array, "B classes"]:
        x = pooled(tokens.local, tokens.mask, self.pool, own=tokens.coarse)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.astype(jnp.float32))
        zeros = nn.initializers.zeros
        return nn.Dense(self.classes, kernel_init=zeros, name="logits")(x)


def checked(classifiers: Config, modalities: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The options of every classifier, checked, with ``classes`` as a tuple.

    Args:
      classifiers: ``config.model.classifiers``, with the defaults of ``Classifier`` filled in.
      modalities: the modalities that the model has encoders for.

    Raises:
      ConfigError: an option is unknown, missing or wrong, there are fewer than two classes, a class
        is named twice, or there is no encoder of the modality.
    """
    return {
        name: _classifier(name, plain(entry), modalities) for name, entry in classifiers.items()
    }


def check_classes(classifiers: Config, source: Any, label: str) -> None:
    """Checks that a training source has the classes of all classifiers, in the same order.

    Args:
      classifiers: ``config.model.classifiers``.
      source: the source; its ``classes`` are names of classes by kind of label.
      label: the kind of label.

    Raises:
      ConfigError: the source has no such label, or other classes.
    """
    known = getattr(source, "classes", {})
    if label not in known:
        raise ConfigError(
            f"data.label={label!r} is unknown to data.source; it has: "
            + (", ".join(known) or "no labels")
        )
    theirs = tuple(known[label])
    for name, entry in classifiers.items():
        ours = tuple(entry["classes"])
        if ours != theirs:
            pairs = itertools.zip_longest(theirs, ours)
            first = next(number for number, (one, other) in enumerate(pairs) if one != other)
            raise ConfigError(
                f"data.source has {len(theirs)} classes of {label!r} and "
                f"model.classifiers.{name}.classes {len(ours)}; the first that differ, number "
                f"{first}, are {_at(theirs, first)} and {_at(ours, first)}; name the source's"
            )


def _at(names: tuple[str, ...], number: int) -> str:
    return repr(names[number]) if number < len(names) else "missing"


def _classifier(name: str, entry: dict[str, Any], modalities: tuple[str, ...]) -> dict[str, Any]:
    key = f"model.classifiers.{name}"
    options = declared(Classifier)
    check_given(options, entry, key=key)
    for option in options:
        if option not in entry:
            raise ConfigError(f"{key}.{option} is required and not set")
    if entry["modality"] not in modalities:
        raise ConfigError(
            f"{key}.modality={entry['modality']!r} has no encoder; the model has: "
            + ", ".join(modalities)
        )
    classes = tuple(entry["classes"])
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ConfigError(
            f"{key}.classes must name at least two classes, each once; got {len(classes)}, "
            f"{len(set(classes))} of them different"
        )
    return {**entry, "classes": classes}
