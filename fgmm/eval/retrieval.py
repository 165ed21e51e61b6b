"""Retrieval of clips by captions and of captions by clips.

Protocol: every clip of a source is embedded once, without augmentation, by the heads. The gallery
is ranked by up to three scores: *coarse*, the product of coarse embeddings; *fine*, the similarity
of local and phrase embeddings as a term of the objective computes it (weights come from the scored
pair alone, so the answer does not leak); and *sum*, S_fine/τ_fine + S_coarse/τ_coarse, with the
temperatures of their losses. The one that ``config.objective.score`` names comes first. Ties go
against the model. A clip may have several captions, each a query; equal captions are correct
answers of each other's clips. Phrases of a caption for which there is no room are left out, and
their share is reported.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
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
      phrases, tokens: room for those of a caption; 0 for as much as in training.
      batch_size: clips embedded at a time.
    """

    source: Mapping
    pair: str = option("video_text", choices=("video_text", "audio_text"))
    space: str = ""
    term: str = ""
    captions: int = 5
    phrases: int = option(0, low=0)
    tokens: int = option(0, low=0)
    batch_size: int = 64

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus and finds space and term.

        Raises:
          ConfigError: an option names something that is not there.
        """
        return _Retrieval(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result for a person, chance beside each number."""
        rows: dict[str, dict[str, float]] = {}
        for name, value in result.items():
            if name.count("/") == 2:
                score, direction, metric = name.split("/")
                rows.setdefault(f"{score}, {direction.replace('_', ' ')}", {})[metric] = value
        columns = [*(f"r@{k}" for k in metrics.RECALL_AT), "median_rank", "mean_rank", "hubness"]
        table = metrics.table(rows, columns)
        problems = ("bad_input/", "left_out/")
        left_out = sum(value for name, value in result.items() if name.startswith(problems))
        unread = result["phrases_left_out"]
        return (
            f"{table}\ngallery: {result['clips']:.0f} clips, {result['captions']:.0f} captions"
            + (f"; problems in the input: {left_out:.0f}, see the JSON" if left_out else "")
            + (f"; {unread:.1%} of the phrases had no room" if unread else "")
        )


class _Retrieval:
    def __init__(self, options: Evaluation, experiment: Experiment):
        experiment = experiment.with_room(options.phrases, options.tokens)
        self.experiment, self.batch_size = experiment, options.batch_size
        self.modality = options.pair.removesuffix("_text")
        self.space = pairs.space_of(experiment, options.pair, options.space, name="retrieval")
        self.ranking = pairs.Ranking.of(
            experiment, options.pair, self.space, options.term, name="retrieval"
        )
        self.protocol = dataclasses.asdict(options) | {
            "space": self.space,
            "term": self.ranking.fine,
            "scores": self.ranking.names,
            "phrases": experiment.shape.phrases,
            "tokens": experiment.shape.tokens,
        }
        source = experiment.source(options.source, "retrieval.source")
        captions = 1 if experiment.config.data.join_captions else options.captions
        other = {"audio": {"frames": 0}, "video": {"samples": 0}}[self.modality]
        self.assembler = experiment.assembler(source, captions=captions, **other)
        self._score = jax.jit(self._score_block)
        self.by_query: dict[str, list[int]] = {}
        self.queries: dict[str, dict[str, list]] = {}

    def __call__(self, state: TrainState) -> dict[str, float]:
        gallery = self._embed(state)
        owner, text_to_clip = metrics.caption_relevance(gallery.captions)
        result = {"clips": len(gallery.captions), "captions": len(owner)}
        texts = list(itertools.chain(*gallery.captions))
        result["phrases_left_out"] = self.assembler.share_left_out(texts)
        self.queries = {
            f"text_to_{self.modality}": {"name": texts, "group": owner.tolist()},
            f"{self.modality}_to_text": {
                "name": gallery.names,
                "group": list(range(len(gallery.names))),
            },
        }
        result |= {f"bad_input/{reason}": n for reason, n in gallery.problems.items()}
        left_out = self.assembler.source.report
        result |= {f"left_out/{reason}": n for reason, n in left_out.items()}
        scores_by_name = self._scores(state.params["objective"], gallery)
        for name, scores in scores_by_name.items():
            for direction, matrix, relevant, group in (
                # Captions of a clip are alike.
                (f"text_to_{self.modality}", scores.T, text_to_clip, owner),
                (f"{self.modality}_to_text", scores, text_to_clip.T, None),
            ):
                ranks = metrics.retrieval_ranks(matrix, relevant)
                self.by_query[f"{name}/{direction}/rank"] = ranks.tolist()
                of_queries = (relevant.sum(1), matrix.shape[1], group)
                summary = metrics.retrieval_summary(ranks, *of_queries)
                summary["hubness"] = metrics.hubness(matrix)
                result |= {f"{name}/{direction}/{k}": v for k, v in summary.items()}
        return {name: float(value) for name, value in result.items()}

    def _embed(self, state: TrainState) -> "_Gallery":
        clips, texts, captions, names = [], [], [], []
        problems: collections.Counter[str] = collections.Counter()
        for batch, count in pipeline.evaluation_batches(self.assembler, self.batch_size):
            space = jax.device_get(self.experiment.embed(state, batch))[self.space]
            problems += pipeline.count_problems(batch["problems"][:count])
            valid = batch[f"{self.modality}_mask"] & batch["text_mask"].any(axis=1)
            rows = np.flatnonzero(valid[:count])
            said = batch["text_mask"][rows]
            clips.append(jax.tree.map(lambda x, rows=rows: x[rows], space[self.modality]))
            texts.append(jax.tree.map(lambda x, rows=rows, said=said: x[rows][said], space["text"]))
            captions += [self._captions(batch, row) for row in rows.tolist()]
            names += [self.assembler.source[int(batch["record"][row])].clip_id for row in rows]
        if not captions:
            raise ConfigError("retrieval.source: no clip has both sides of the pair")
        joined = [jax.tree.map(lambda *x: np.concatenate(x), *part) for part in (clips, texts)]
        return _Gallery(*joined, captions, names, problems)

    def _captions(self, batch: Mapping[str, np.ndarray], row: int) -> list[str]:
        clip = self.assembler.source[int(batch["record"][row])]
        chosen = self.assembler.chosen([c for c in clip.captions if c.text.strip()])
        said = batch["text_mask"][row][: len(chosen)]
        return [caption.text for caption, valid in zip(chosen, said, strict=True) if valid]

    def _scores(self, parameters: Any, gallery: "_Gallery") -> dict[str, np.ndarray]:
        """[G, Q] by name, the one that ranks first."""
        coarse, fine = gallery.clips.coarse @ gallery.texts.coarse.T, None
        if self.ranking.fine:
            rows = [
                [
                    np.asarray(self._score(parameters[self.ranking.fine], clips, texts))
                    for texts in _blocks(gallery.texts, _CAPTIONS)
                ]
                for clips in _blocks(gallery.clips, _CLIPS)
            ]
            fine = np.block(rows)
        scores = self.ranking.scores(parameters, coarse, fine)
        return {name: np.asarray(values) for name, values in scores.items()}

    def _score_block(self, parameters: Any, clips: Any, texts: Any) -> jax.Array:
        term = pairs.scoring_term(self.experiment, self.ranking.fine)
        return term.score(parameters, Side.of(clips), Side.of(texts)).values


@dataclasses.dataclass(frozen=True)
class _Gallery:
    """Embeddings of clips [G, ...] and captions [Q, ...], the captions' words by clip, and the ids
    of clips.
    """

    clips: Any
    texts: Any
    captions: list[list[str]]
    names: list[str]
    problems: collections.Counter


def _blocks(embeddings: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(embeddings.coarse), size):
        yield jax.tree.map(lambda x, start=start: jnp.asarray(x[start : start + size]), embeddings)


if __name__ == "__main__":
    # It defines flags, which the training program has of its own.
    from fgmm.eval import binary

    binary.run("retrieval")
