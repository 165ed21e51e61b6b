"""Builds the objective of a config, and checks each term against the model."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

from fgmm import components
from fgmm.config import Config, ConfigError
from fgmm.data.schema import BatchShape
from fgmm.losses.objective import LabelEntry, Objective, TermEntry


def objective(config: Config) -> Objective:
    """The objective of a config.

    Args:
      config: the whole config, with the defaults of spaces and classifiers filled in.

    Raises:
      ConfigError: a term or its place is wrong, or no term and no pool uses the gate of a space.
    """
    entries = {}
    for name, entry in config.objective.terms.items():
        key = f"objective.terms.{name}"
        place, options = components.placed("losses.terms", entry, key=key)
        if "classifier" in place:
            entries[name] = _label_entry(config, key, place, options)
            continue
        space = place["space"]
        if space not in config.model.spaces:
            raise ConfigError(
                f"{key}.space={space!r} is unknown; allowed: {', '.join(config.model.spaces)}"
            )
        for modality in place["pair"].split("_"):
            if modality not in config.model.spaces[space].modalities:
                raise ConfigError(f"{key}: {modality} has no part in space {space!r}")
        term = components.build("losses.terms", options, key=key)
        with _errors_at(key):
            entries[name] = TermEntry(term=term, **place)
        if term.gated_sides and config.model.spaces[space].gate == "none":
            raise ConfigError(
                f"{key}: weighting 'learned' needs a gate; set model.spaces.{space}.gate to linear "
                "or hidden"
            )
        width, dtype = config.model.spaces[space].width, config.model.spaces[space].dtype
        with _errors_at(f"{key}, model.spaces.{space}.{dtype=!s}"):
            term.check_embeddings(width, dtype)
        with _errors_at(key):
            term.check_batch(config.batch_size // config.accumulate, config.exchange)
    _check_gates_are_used(config.model.spaces, entries)
    with _errors_at("objective"):
        return Objective(entries, config.objective.score)


def _label_entry(config: Config, key: str, place: Config, options: Config) -> LabelEntry:
    heads = config.model.get("classifiers", {})
    classifier = place["classifier"]
    if classifier not in heads:
        raise ConfigError(
            f"{key}.classifier={classifier!r} is unknown; allowed, of model.classifiers: "
            f"{', '.join(heads) or 'there is none'}"
        )
    term = components.build("losses.terms", options, key=key)
    with _errors_at(key):
        return LabelEntry(term=term, modality=heads[classifier].modality, **place)


@contextlib.contextmanager
def _errors_at(where: str) -> Iterator[None]:
    """Turns a ``ValueError`` of the body into a ``ConfigError`` that says where it arose."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def with_labels(config: Config, shape: BatchShape, objective: Objective) -> BatchShape:
    """The shape of a batch with the labels that the supervised terms need.

    Args:
      config: as in ``objective``.
      shape: shape of a batch without labels.
      objective: the objective of this config.

    Raises:
      ConfigError: there are labels but no supervised term or the reverse, or the terms need labels
        of different classes or forms.
    """
    label = config.data.label
    entries = objective.supervised
    if not entries:
        if label:
            raise ConfigError(
                f"data.label={label!r} is used by no term; add a supervised one, such as "
                "softmax_cross_entropy, or leave it empty"
            )
        return shape
    names = ", ".join(f"objective.terms.{name}" for name in entries)
    if not label:
        raise ConfigError(f"{names} needs labels: set data.label to a kind of label of data.source")
    forms = {
        (tuple(config.model.classifiers[entry.classifier].classes), entry.term.several)
        for entry in entries.values()
    }
    if len(forms) > 1:
        raise ConfigError(
            f"{names}: these terms share data.label={label!r}; their classifiers must list the "
            "same classes, and the terms must be all softmax or all sigmoid cross entropy"
        )
    ((classes, several),) = forms
    return dataclasses.replace(shape, label=label, classes=len(classes), several=several)


def _check_gates_are_used(spaces: Config, entries: Mapping[str, TermEntry | LabelEntry]) -> None:
    used = {entry.space for entry in entries.values() if entry.term.gated_sides}
    for name, space in spaces.items():
        if space["gate"] != "none" and space["pool"] != "gate" and name not in used:
            raise ConfigError(
                f"model.spaces.{name}.gate={space['gate']!r} is used by nothing: set "
                f"model.spaces.{name}.pool to gate, or weighting to learned in a term of the space"
            )
