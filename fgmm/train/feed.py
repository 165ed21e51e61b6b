"""Counts what each batch gives the objective: clips with both modalities of a pair, clips with a
label and the modality it is predicted from, and repeated clips.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fgmm.data.text.tokenizers import Tokenizer
from fgmm.losses.objective import Objective


class Feed:
    """Counts the clips of batches that have what the terms of an objective need.

    Attributes:
      names: of the numbers that ``counts`` returns. ``repeated_clips``: clips that came earlier in
        the same batch (with several processes, in a process's share of it). ``pairs/PAIR``: clips
        with both modalities of a pair. ``labels/MODALITY``: clips with a label and the modality it
        is predicted from. ``pieces`` and ``unknown_pieces``: pieces of the captions, and those that
        the tokenizer does not know.
    """

    def __init__(self, objective: Objective, tokenizer: Tokenizer | None = None):
        self._unknown = None if tokenizer is None else tokenizer.unknown_id
        self._empty = () if self._unknown is None else tokenizer.empty_ids
        self._terms: dict[str, list[str]] = {}
        for name, entry in objective.terms.items():
            what = f"pairs/{entry.pair}" if entry.pair else f"labels/{entry.modality}"
            self._terms.setdefault(what, []).append(name)
        self._needs = sorted(self._terms, key=lambda what: (what.startswith("labels/"), what))
        self.names = ("repeated_clips", *self._needs)
        if self._unknown is not None:
            self.names += ("pieces", "unknown_pieces")
        self._fed = dict.fromkeys(self._needs, 0)

    def counts(self, batch: Mapping[str, np.ndarray]) -> list[int]:
        """The numbers of this process's share of a batch, in the order of ``names``.

        Args:
          batch: arrays on the host: ``record`` [b], masks and tokens.
        """
        records = batch["record"]
        found = [len(records) - len(np.unique(records))]
        for need in self._needs:
            one, other = (batch[f"{side}_mask"].reshape(len(records), -1) for side in _sides(need))
            found.append(int(np.sum(one.any(axis=1) & other.any(axis=1))))
        if self._unknown is not None:
            tokens = batch["tokens"]
            unknown = int(np.sum(tokens == self._unknown))
            found += [int(np.sum(~np.isin(tokens, self._empty))) + unknown, unknown]
        return found

    def metrics(self, counts: Mapping[str, int]) -> dict[str, float]:
        """The numbers of a step, summed over all processes, as metrics.

        ``unknown_pieces`` becomes a share of ``pieces``, from 0 to 1.
        """
        found = {name: float(count) for name, count in counts.items() if name != "pieces"}
        if "pieces" in counts:
            found["unknown_pieces"] /= max(1, counts["pieces"])
        return found

    def add(self, counts: Mapping[str, int]) -> None:
        """Adds the numbers of a step, summed over all processes, to the totals."""
        for need in self._needs:
            self._fed[need] += counts[need]

    def starved(self) -> list[str]:
        """A line for each pair, or label and modality, of which no clip so far had both."""
        return [
            f"no clip so far has both {' and '.join(_sides(need))}: {', '.join(self._terms[need])} "
            "learned nothing"
            for need, clips in self._fed.items()
            if not clips
        ]


def _sides(need: str) -> list[str]:
    """The modalities of a pair, or ``labels`` and a modality."""
    kind, _, named = need.partition("/")
    return named.split("_") if kind == "pairs" else [kind, named]


def too_few(source: Any, batch_size: int) -> list[str]:
    """A line for a corpus, or each part of a mixture, with fewer clips than a batch takes from it.

    Args:
      source: to train on.
      batch_size: clips that are compared in one loss; with ``accumulate``, those of a micro-batch.
    """
    found: list[tuple[str, int, int]] = []
    parts: Sequence[Any] = getattr(source, "parts", ())
    total = sum(part.weight for part in parts)
    for number, part in enumerate(parts):
        share = round(batch_size * part.weight / total)
        found.append((f"part {number + 1} of data.source", len(part.clips), share))
    if not parts:
        found.append(("data.source", len(source), batch_size))
    return [
        f"{what} has {clips} clips for the {taken} of a batch: some clips come more than once in a "
        "batch and count as negatives of themselves; lower batch_size, or add clips"
        for what, clips, taken in found
        if clips < taken
    ]
