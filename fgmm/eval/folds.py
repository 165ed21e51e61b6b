"""Folds of labelled recordings that keep groups together."""

import warnings

import numpy as np
from jaxtyping import Int64

from fgmm.config import ConfigError


def drawn_folds(
    labels: Int64[np.ndarray, "R"], groups: tuple[str, ...], folds: int, seed: int, *, name: str
) -> Int64[np.ndarray, "R"]:
    """The fold of each recording, 0 to ``folds`` - 1.

    Recordings of a group are in one fold. Where there are as many groups as folds and none without
    a group, the folds are the groups in the order of their names; otherwise they are drawn so that
    classes are about equally frequent in all.

    Args:
      labels: of the recordings.
      groups: of the recordings; empty for one that stands alone.
      folds: how many.
      seed: of the drawing.
      name: of the evaluation, for errors.

    Raises:
      ConfigError: there are fewer groups, or fewer recordings of every class, than folds.
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
