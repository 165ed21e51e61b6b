"""Which phrases and cells the gradient goes to, on a corpus with ground truth: noisy pairs that are
turned down should get little of it.

Protocol: batches of the corpus, in order, as large as in training and not augmented. The loss of
every term on video and text is differentiated with respect to the encoders' local features, before
any head. The length of a feature's gradient, divided by the sum of the lengths of its clip and
modality, is its share. For each kind of phrase and cell (``fgmm.eval.kinds``) the result is the sum
of its shares, averaged over clips. Beside it stands its share of the phrases or cells, which is
what it gets if all gradients are equally long. ``loss`` is the weighted sum of these terms.

Captions are embedded one by one. If the run joins captions, those of a clip are joined before the
heads, so all phrases have room. A last batch that is not full is left out.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data import grounding, pipeline
from fgmm.data.text import phrases
from fgmm.eval import attention, kinds, passes, result_text
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses.objective import Objective
from fgmm.models.embeddings import Tokens

# The weighted sum of the terms, among their names. No term may have this name.
ALL = "loss"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: a corpus with grounding, as in ``config.data.source``.
      captions: the most captions of a clip; the first ones are taken.
      batch_size: clips that are compared with each other; 0 for the batch of training.
    """

    source: Mapping
    captions: int = option(8, low=1)
    batch_size: int = option(0, low=0)

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus and finds the terms.

        Raises:
          ConfigError: an option names something that is not there, no term compares video and text,
            a batch is too small for a term, or the corpus is smaller than a batch or does not know
            what its phrases refer to.
        """
        return _Gradients(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text: shares of the gradient beside shares of the phrases and cells."""
        rows: dict[str, dict[str, float]] = {}
        for name, value in result.items():
            if name.count("/") == 3:
                term, side, kind, measure = name.split("/")
                row = rows.setdefault(f"{term}: {side}, {kind}", {})
                row[measure] = value
                row["chance_share"] = result[f"{side}/{kind}/uniform"]
        lines = [result_text.table(rows, ["share"])]
        return "\n".join([*lines, f"{result['clips']:.0f} clips of {self.source['name']}"])


class _Gradients:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.batch_size = options.batch_size or experiment.config.batch_size
        terms = attention.on_pair(experiment, "video_text")
        self.protocol = dataclasses.asdict(options) | {
            "batch_size": self.batch_size,
            "terms": terms,
            "augmentation": "none",
        }
        self.assembler = attention.grounded(
            experiment, options.source, captions=options.captions, key="gradients.source"
        )
        clips = len(self.assembler.source)
        if clips < self.batch_size:
            raise ConfigError(
                f"gradients.source has {clips} clips, and a batch has {self.batch_size}; set "
                "batch_size to fewer"
            )
        for name in terms:
            try:
                experiment.objective.terms[name].term.check_batch(self.batch_size, "gather")
            except ValueError as error:
                raise ConfigError(f"gradients: term {name!r}: {error}") from error
        self.segmenter = phrases.find(self.assembler.segmenter)
        self._lengths = _lengths(experiment, terms)

    def __call__(self, state: TrainState) -> dict[str, float]:
        shares: dict[str, list[float]] = collections.defaultdict(list)
        problems: collections.Counter[str] = collections.Counter()
        clips = 0
        mesh = passes.mesh_of(state)
        if mesh is not None and self.batch_size % mesh.size:
            raise ConfigError(
                f"gradients.batch_size={self.batch_size} must be a multiple of the {mesh.size} "
                "devices; all clips of a batch are compared with each other"
            )
        for batch, found, count in passes.batches(
            self.assembler, self.batch_size, state, self._lengths
        ):
            if count < len(batch["record"]):
                break
            problems += pipeline.count_problems(batch["problems"])
            mask, lengths = found
            for row in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
                clip = self.assembler.source[int(batch["record"][row])]
                references = grounding.of_clip(clip, self.assembler.shape, self.segmenter)
                clips += 1
                of_row = jax.tree.map(lambda v, row=row: v[row], lengths)
                for name, share in _of_clip(references, mask[row], of_row):
                    shares[name].append(share)
        if not clips:
            raise ConfigError("gradients.source: no clip has both pictures and words")
        result = {"clips": float(clips)} | kinds.averaged(shares)
        return result | {f"bad_input/{reason}": float(n) for reason, n in problems.items()}


def _lengths(experiment: Experiment, terms: Sequence[str]) -> Callable:
    """A jitted function of a train state and a batch: the phrases [B,K,P] of clips with pictures;
    and by term and side, ``phrases`` [B,K,P] and ``cells`` [B,T,H,W], the lengths of gradients.
    """
    joined = experiment.config.data.join_captions
    entries = {name: experiment.objective.terms[name] for name in terms}
    objective = Objective(entries)

    @jax.jit
    def look(params, statistics, batch):
        variables = {"params": params["model"], **statistics}
        encoded = experiment.apply(variables, experiment.transforms(batch), method="encode")
        encoded = {side: encoded[side] for side in ("video", "text")}
        captions, room = encoded["text"].grid
        whole, told = encoded, batch
        if joined:
            text = encoded["text"].replace(grid=(1, captions * room))
            whole, told = encoded | {"text": text}, batch | _joined(batch, room)

        def losses(features):
            tokens = {side: v.replace(local=features[side]) for side, v in whole.items()}
            embeddings = experiment.apply(variables, tokens, method="embeddings")
            key = jax.random.key(0)
            _, found = objective(params["objective"], embeddings, told, 0, key=key)
            return {name: found[f"loss/{name}"] for name in terms}

        features = {side: tokens.local for side, tokens in encoded.items()}
        _, pulled_back = jax.vjp(losses, features)
        of_term = {
            name: pulled_back({other: jnp.float32(other == name) for other in terms})[0]
            for name in terms
        }
        of_term[ALL] = pulled_back({name: jnp.float32(e.weight) for name, e in entries.items()})[0]
        lengths = {name: _of_sides(gradients, encoded) for name, gradients in of_term.items()}
        there = encoded["text"].mask & encoded["video"].mask.any(axis=1, keepdims=True)
        return there.reshape(-1, captions, room), lengths

    return lambda state, batch: look(state.params, state.statistics, batch)


def _joined(batch: Mapping[str, Array], room: int) -> dict[str, Int[Array, "B 1 L"]]:
    """Tokens and phrase numbers of K captions as those of one caption, with K·P phrases."""
    clips, captions, _ = batch["tokens"].shape
    ids = batch["phrase_ids"]
    ids = jnp.where(ids > 0, ids + room * jnp.arange(captions)[None, :, None], 0)
    return {
        "tokens": batch["tokens"].reshape(clips, 1, -1),
        "phrase_ids": ids.reshape(clips, 1, -1),
    }


def _of_sides(
    gradients: Mapping[str, Float[Array, "B N E"]], encoded: Mapping[str, Tokens]
) -> dict[str, Float[Array, "B ..."]]:
    lengths = {side: jnp.linalg.norm(v, axis=-1) for side, v in gradients.items()}
    lengths = {
        side: jnp.where(encoded[side].mask, v, 0).reshape(len(v), *encoded[side].grid)
        for side, v in lengths.items()
    }
    return {"phrases": lengths["text"], "cells": lengths["video"]}


def _of_clip(
    references: Sequence[grounding.Reference],
    mask: Bool[np.ndarray, "K P"],
    lengths: Mapping[str, Mapping[str, Float[np.ndarray, "..."]]],
) -> Iterator[tuple[str, float]]:
    """The shares of a clip, each with its name in the result."""
    by_kind = {"phrases": kinds.of_phrases(references, mask)}
    entries = {"phrases": mask}
    if references:
        grid = lengths[ALL]["cells"].shape
        by_kind["cells"] = kinds.of_cells(references, grid)
        entries["cells"] = np.ones(grid, bool)
    for side, found in by_kind.items():
        for kind, chosen in found.items():
            yield f"{side}/{kind}/uniform", float(chosen.sum() / entries[side].sum())
            for term, of_term in lengths.items():
                # A clip that a term leaves out, or has learned fully, has no gradient to share.
                if total := float(of_term[side].sum()):
                    share = float(of_term[side][chosen].sum()) / total
                    yield f"{term}/{side}/{kind}/share", share


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("gradients")
