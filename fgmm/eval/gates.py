"""Whether learned weights are low for wrong phrases and background, on a corpus with ground truth.

Protocol: every caption of a clip is embedded on its own, without augmentation. The gates of a fine
term of the objective give each phrase a weight among all phrases of its clip, and each cell of the
feature map a weight among all cells. For each kind of phrase and cell (``fgmm.eval.kinds``), the
result is its share of the weight, averaged over clips. Beside it stands its share of the phrases or
cells, which is its weight if all weights are equal.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data import grounding, pipeline
from fgmm.data.text import phrases
from fgmm.eval import attention, kinds, metrics, passes, result_text
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses import gate_weights


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: a corpus with grounding, as in ``config.data.source``.
      term: name of a fine term with learned weights on video and text; empty for the first.
      captions: the most captions of a clip; the first ones are taken.
      batch_size: clips embedded at a time.
    """

    source: Mapping
    term: str = ""
    captions: int = option(8, low=1)
    batch_size: int = option(32, low=1)

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus and finds the term.

        Raises:
          ConfigError: an option names something that is not there, no such term has learned
            weights, or the corpus does not know what its phrases refer to.
        """
        return _Gates(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text: shares of the weight beside shares of the phrases and cells."""
        rows = {
            f"{side}, {kind}": {
                **{
                    f"weight{end}": result[f"{side}/{kind}/weight{end}"]
                    for end in ("", "_low", "_high")
                },
                "chance_weight": result[f"{side}/{kind}/uniform"],
            }
            for side, of_side in (("phrases", kinds.PHRASES), ("cells", kinds.CELLS))
            for kind in of_side
            if f"{side}/{kind}/weight" in result
        }
        lines = [result_text.table(rows, ["weight"])]
        if "phrases/auc" in result:
            lines.append(
                f"a phrase that refers outweighs a wrong one: {result['phrases/auc']:.1%} "
                f"({result['phrases/auc_low']:.1%} to {result['phrases/auc_high']:.1%}; 50% by "
                "chance)"
            )
        return "\n".join([*lines, f"{result['clips']:.0f} clips of {self.source['name']}"])


class _Gates:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.batch_size = options.batch_size
        self.term = _gated_term(experiment, options.term)
        self.protocol = dataclasses.asdict(options) | {
            "term": self.term,
            "captions_embedded": "each on its own",
            "augmentation": "none",
        }
        self.assembler = attention.grounded(
            experiment, options.source, captions=options.captions, key="gates.source"
        )
        self.segmenter = phrases.find(self.assembler.segmenter)
        self._maps = attention.maps(experiment, (self.term,))

    def __call__(self, state: TrainState) -> dict[str, float]:
        shares: dict[str, list[float]] = collections.defaultdict(list)
        refer: list[bool] = []
        logits: list[float] = []
        clip_of: list[int] = []
        problems: collections.Counter[str] = collections.Counter()
        clips = 0
        for batch, found, count in passes.batches(
            self.assembler, self.batch_size, state, self._maps
        ):
            problems += pipeline.count_problems(batch["problems"][:count])
            maps = found[self.term]
            for row in np.flatnonzero(maps.mask[:count].any(axis=(1, 2))).tolist():
                clip = self.assembler.source[int(batch["record"][row])]
                references = grounding.of_clip(clip, self.assembler.shape, self.segmenter)
                clips += 1
                if maps.phrase_gates is not None:
                    by_kind = kinds.of_phrases(references, maps.mask[row])
                    gates = maps.phrase_gates[row]
                    for name, share in _of_phrases(gates, maps.mask[row], by_kind):
                        shares[name].append(share)
                    known = by_kind["refer"] | by_kind["wrong"]
                    refer += by_kind["refer"][known].tolist()
                    logits += gates[known].tolist()
                    clip_of += [clips] * int(known.sum())
                if maps.cell_gates is not None and references:
                    for name, share in _of_cells(maps.cell_gates[row], references):
                        shares[name].append(share)
        if not clips:
            raise ConfigError("gates.source: no clip has both pictures and words")
        result = {"clips": float(clips)} | kinds.averaged(shares)
        if len(set(refer)) == 2:
            of_phrases = np.array(refer), np.array(logits), np.array(clip_of)
            result |= metrics.auc_summary("phrases/auc", *of_phrases)
        return result | {f"bad_input/{reason}": float(n) for reason, n in problems.items()}


def _gated_term(experiment: Experiment, term: str) -> str:
    """The name of a fine term on video and text whose weights are learned.

    Raises:
      ConfigError: the objective has no such term, or ``term`` names another one.
    """
    on_pair = {k: e.term for k, e in experiment.objective.terms.items() if e.pair == "video_text"}
    gated = [name for name, entry in on_pair.items() if entry.gated_sides]
    if not gated:
        raise ConfigError(
            "gates: no term on video and text has learned weights; set weighting to learned in one"
        )
    if term not in ("", *gated):
        raise ConfigError(
            f"gates: term={term!r} has no learned weights on video and text; "
            f"allowed: {', '.join(gated)}"
        )
    return term or gated[0]


def _of_phrases(
    gates: Float[np.ndarray, "K P"],
    mask: Bool[np.ndarray, "K P"],
    by_kind: Mapping[str, Bool[np.ndarray, "K P"]],
) -> Iterator[tuple[str, float]]:
    # A softmax over the phrases of all captions of the clip.
    of_clip = gate_weights(jnp.asarray(gates.ravel()), jnp.asarray(mask.ravel()))
    weights = np.asarray(of_clip).reshape(mask.shape)
    for kind, chosen in by_kind.items():
        yield f"phrases/{kind}/weight", float(weights[chosen].sum())
        yield f"phrases/{kind}/uniform", float(chosen.sum() / mask.sum())


def _of_cells(
    weights: Float[np.ndarray, "T H W"], references: list[grounding.Reference]
) -> Iterator[tuple[str, float]]:
    for kind, chosen in kinds.of_cells(references, weights.shape).items():
        yield f"cells/{kind}/weight", float(weights[chosen].sum())
        yield f"cells/{kind}/uniform", float(chosen.mean())


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("gates")
