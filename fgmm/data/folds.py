"""The labelled recordings of a source, and folds of them that keep groups together.

One more axis here: R recordings. A recording is one or more records of a source that share a
``clip_id``.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from fgmm.config import ConfigError


class LabelledRecords(NamedTuple):
    """The recordings of a source that have a label of one kind.

    Attributes:
      owner: the index of each record's recording; -1 where the record has no label.
      names: the ``clip_id`` of each recording.
      labels: the class of each recording; or which classes it has, where it may have any number.
      groups: the group of each recording, empty where it stands alone. Recordings of one group stay
        on one side of a split.
    """

    owner: Int64[np.ndarray, "records"]
    names: tuple[str, ...]
    labels: Int64[np.ndarray, "R"] | Bool[np.ndarray, "R classes"]
    groups: tuple[str, ...]

    @property
    def strata(self) -> Int64[np.ndarray, "R"]:
        """The class of each recording by which folds are stratified. Of several classes it is the
        first; recordings without a class count as one more class.
        """
        if self.labels.ndim == 1:
            return self.labels
        there = self.labels.any(axis=1)
        return np.where(there, self.labels.argmax(axis=1), self.labels.shape[1])


def classes_of(source: Any, label: str, *, key: str) -> tuple[str, ...]:
    """The names of the classes of a kind of label.

    Raises:
      ConfigError: the source, which stands at ``key`` in the config, has no such label.
    """
    classes = getattr(source, "classes", {})
    if label not in classes:
        raise ConfigError(
            f"{key}: label={label!r} is unknown to the source; "
            f"it has: {', '.join(classes) or 'no labels'}"
        )
    return tuple(classes[label])


def labelled_records(source: Any, label: str, *, key: str) -> LabelledRecords:
    """Reads the labels of all clips of a source, but none of their media.

    Args:
      source: of clips.
      label: the kind of label, such as ``"motion"``.
      key: where the source stands in the config, for errors.

    Raises:
      ConfigError: the source has no such label, no clip has one, or windows of one recording differ
        in label or group.
    """
    classes = classes_of(source, label, key=key)
    numbers: dict[str, int] = {}
    owner, known = np.full(len(source), -1, np.int64), []
    for record in range(len(source)):
        clip = source[record]
        if label not in clip.labels:
            continue
        number = owner[record] = numbers.setdefault(clip.clip_id, len(numbers))
        truth = (clip.labels[label], clip.group)
        if number == len(known):
            known.append(truth)
        elif known[number] != truth:
            raise ConfigError(f"{key}: windows of {clip.clip_id!r} differ in label or group")
    if not known:
        raise ConfigError(f"{key}: no clip has a label {label!r}; try another split")
    found = [label for label, _ in known]
    if any(isinstance(of_clip, tuple) for of_clip in found):
        labels = np.zeros((len(found), len(classes)), bool)
        for row, of_clip in zip(labels, found, strict=True):
            row[list(of_clip)] = True
    else:
        labels = np.array(found, np.int64)
    return LabelledRecords(owner, tuple(numbers), labels, tuple(group for _, group in known))


def drawn_folds(
    labels: Int64[np.ndarray, "R"], groups: tuple[str, ...], folds: int, seed: int, *, name: str
) -> Int64[np.ndarray, "R"]:
    """The fold of each recording, 0 to ``folds`` - 1.

    Recordings of a group are in one fold. If there are as many groups as folds, and every recording
    has a group, the folds are the groups in the order of their names. Otherwise the folds are drawn
    so that each class is about equally frequent in all of them.

    Args:
      labels: of the recordings.
      groups: of the recordings; empty for one that stands alone.
      folds: how many.
      seed: of the drawing.
      name: of the evaluation or the source, for errors.

    Raises:
      ConfigError: there are fewer groups than folds, or fewer recordings of every class than folds.
    """
    names = [f"group {group}" if group else f"alone {i}" for i, group in enumerate(groups)]
    distinct, group = np.unique(names, return_inverse=True)
    if len(distinct) < folds:
        raise ConfigError(
            f"{name}: folds={folds} is more than the {len(distinct)} groups of clips, each "
            "of which stays in one fold"
        )
    if len(distinct) == folds and all(groups):
        return group.astype(np.int64)
    most = np.bincount(labels).max()
    if most < folds:
        raise ConfigError(
            f"{name}: folds={folds} is more than the clips of any class ({most} at most)"
        )
    from sklearn.model_selection import StratifiedGroupKFold

    drawn = np.zeros(len(labels), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer clips than folds is absent from some of them.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, test) in enumerate(splitter.split(labels, labels, group)):
            drawn[test] = fold
    return drawn
