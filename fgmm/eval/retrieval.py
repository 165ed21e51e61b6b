"""Retrieval of clips by captions and of captions by clips.

Protocol: every clip of a source is embedded once, without augmentation, by the heads. Two scores
rank the gallery: *coarse*, the product of coarse embeddings, and *fine*, the similarity of local
and phrase embeddings as a term of the objective computes it (weights come from the scored pair
alone, so the answer does not leak). Ties go against the model. A clip may have several captions,
each a query; equal captions are correct answers of each other's clips.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.eval import metrics, pairs
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses.term import Side

# Clips and captions whose similarity is computed at a time.
_CLIPS, _CAPTIONS = 64, 256


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: the corpus, as in ``config.data.source``.
      pair: what is retrieved by what: ``"video_text"`` or ``"audio_text"``.
      space: of the heads; empty for the first that both modalities take part in.
      term: of the objective, whose similarity is the fine score; empty for the first fine one on
        the pair. Without one there are only coarse scores.
      captions: at most so many captions of a clip, the first ones.
      batch_size: clips embedded at a time.
    """

    source: Mapping
    pair: str = "video_text"
    space: str = ""
    term: str = ""
    captions: int = 5
    batch_size: int = 64

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus and finds space and term.

        Raises:
          ConfigError: an option names something that is not there.
        """
        if self.pair not in ("video_text", "audio_text"):
            raise ConfigError(
                f"retrieval: pair={self.pair!r} is unknown; allowed: video_text, audio_text"
            )
        return _Retrieval(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result for a person, chance beside each number."""
        rows: dict[str, dict[str, float]] = {}
        for name, value in result.items():
            if name.count("/") == 2:
                score, direction, metric = name.split("/")
                rows.setdefault(f"{score}, {direction.replace('_', ' ')}", {})[metric] = value
        columns = [*(f"r@{k}" for k in metrics.RECALL_AT), "median_rank", "mean_rank"]
        table = metrics.table(rows, columns)
        problems = ("bad_input/", "left_out/")
        left_out = sum(value for name, value in result.items() if name.startswith(problems))
        return (
            f"{table}\ngallery: {result['clips']:.0f} clips, {result['captions']:.0f} captions"
            + (f"; problems in the input: {left_out:.0f}, see the JSON" if left_out else "")
        )


class _Retrieval:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.experiment, self.batch_size = experiment, options.batch_size
        self.modality = options.pair.removesuffix("_text")
        self.space = pairs.space_of(experiment, options.pair, options.space, name="retrieval")
        self.term = pairs.fine_term(
            experiment, options.pair, self.space, options.term, name="retrieval"
        )
        self.protocol = dataclasses.asdict(options) | {"space": self.space, "term": self.term}
        source = experiment.source(options.source, "retrieval.source")
        captions = 1 if experiment.config.data.join_captions else options.captions
        other = {"audio": {"frames": 0}, "video": {"samples": 0}}[self.modality]
        self.assembler = experiment.assembler(source, captions=captions, **other)
        self._score = jax.jit(self._score_block)
        self.by_query: dict[str, list[int]] = {}

    def __call__(self, state: TrainState) -> dict[str, float]:
        gallery = self._embed(state)
        owner, text_to_clip = metrics.caption_relevance(gallery.captions)
        result = {"clips": len(gallery.captions), "captions": len(owner)}
        result |= {f"bad_input/{reason}": n for reason, n in gallery.problems.items()}
        left_out = self.assembler.source.report
        result |= {f"left_out/{reason}": n for reason, n in left_out.items()}
        parameters = state.params["objective"].get(self.term, {})
        for name, scores in self._scores(parameters, gallery):
            for direction, matrix, relevant in (
                (f"text_to_{self.modality}", scores.T, text_to_clip),
                (f"{self.modality}_to_text", scores, text_to_clip.T),
            ):
                ranks = metrics.retrieval_ranks(matrix, relevant)
                self.by_query[f"{name}/{direction}/rank"] = ranks.tolist()
                summary = metrics.retrieval_summary(ranks, relevant.sum(1), matrix.shape[1])
                result |= {f"{name}/{direction}/{k}": v for k, v in summary.items()}
        return {name: float(value) for name, value in result.items()}

    def _embed(self, state: TrainState) -> "_Gallery":
        clips, texts, captions = [], [], []
        problems: collections.Counter[str] = collections.Counter()
        for batch, count in pipeline.evaluation_batches(self.assembler, self.batch_size):
            arrays = {k: v for k, v in batch.items() if k not in pipeline.HOST_ONLY}
            space = jax.device_get(self.experiment.embed(state, arrays))[self.space]
            problems += pipeline.count_problems(batch["problems"][:count])
            valid = batch[f"{self.modality}_mask"] & batch["text_mask"].any(axis=1)
            rows = np.flatnonzero(valid[:count])
            said = batch["text_mask"][rows]
            clips.append(jax.tree.map(lambda x, rows=rows: x[rows], space[self.modality]))
            texts.append(jax.tree.map(lambda x, rows=rows, said=said: x[rows][said], space["text"]))
            captions += [self._captions(batch, row) for row in rows.tolist()]
        if not captions:
            raise ConfigError("retrieval.source: no clip has both sides of the pair")
        joined = [jax.tree.map(lambda *x: np.concatenate(x), *part) for part in (clips, texts)]
        return _Gallery(*joined, captions, problems)

    def _captions(self, batch: Mapping[str, np.ndarray], row: int) -> list[str]:
        clip = self.assembler.source[int(batch["record"][row])]
        chosen = self.assembler.chosen([c for c in clip.captions if c.text.strip()])
        said = batch["text_mask"][row][: len(chosen)]
        return [caption.text for caption, valid in zip(chosen, said, strict=True) if valid]

    def _scores(self, parameters: Any, gallery: "_Gallery") -> Iterator[tuple[str, np.ndarray]]:
        yield "coarse", gallery.clips.coarse @ gallery.texts.coarse.T
        if self.term:
            yield (
                "fine",
                np.block(
                    [
                        [
                            np.asarray(self._score(parameters, clips, texts))
                            for texts in _blocks(gallery.texts, _CAPTIONS)
                        ]
                        for clips in _blocks(gallery.clips, _CLIPS)
                    ]
                ),
            )

    def _score_block(self, parameters: Any, clips: Any, texts: Any) -> jax.Array:
        term = pairs.scoring_term(self.experiment, self.term)
        return term.score(parameters, Side.of(clips), Side.of(texts)).values


@dataclasses.dataclass(frozen=True)
class _Gallery:
    """Embeddings of clips [G, ...] and captions [Q, ...] and the captions' words, by clip."""

    clips: Any
    texts: Any
    captions: list[list[str]]
    problems: collections.Counter


def _blocks(embeddings: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(embeddings.coarse), size):
        yield jax.tree.map(lambda x, start=start: jnp.asarray(x[start : start + size]), embeddings)


if __name__ == "__main__":
    # It defines flags, which the training program has of its own.
    from fgmm.eval import binary

    binary.run("retrieval")
