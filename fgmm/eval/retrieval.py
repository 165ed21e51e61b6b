"""Retrieval of one modality by another: clips by captions, captions by clips, sounds by pictures.

Protocol: every clip of a source is embedded once, without augmentation, by the heads. The gallery
is ranked by up to three scores: *coarse*, the product of coarse embeddings; *fine*, the similarity
of local and phrase embeddings as a term of the objective computes it (weights come from the scored
pair alone, so the answer does not leak); and *sum*, S_fine/τ_fine + S_coarse/τ_coarse, with the
temperatures of their losses. The score that ``config.objective.score`` names comes first. Two more
are optional. *coarse, then NAME*: the best of the gallery by the coarse score are ranked by another
score; its cost is reported. *hubs corrected*: each score corrected by CSLS (``fgmm.eval.ranks``),
which uses the statistics of this gallery and these queries.

Ties go against the model. A clip may have several captions, and each is a query, or with
``join_captions`` all of them are one; equal captions are correct answers for each other's clips.
Pictures, sounds and captions that exist but cannot be read count as failures: such a query has the
worst rank, and such an item is never found. Clips that lack one side of the pair, such as sound, do
not take part. Both are counted. Phrases of a caption that do not fit are left out, and their share
is reported.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data import pipeline
from fgmm.data.schema import REASONS
from fgmm.eval import corpus_embeddings, metrics, pairs, passes, ranks, result_text
from fgmm.eval.bank import Bank, RowsOf, padded, power_of_two
from fgmm.eval.recordings import check_encoders
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses.objective import PAIRS
from fgmm.losses.term import Side
from fgmm.models.embeddings import Embeddings

# Clips and captions whose similarity is computed at a time.
_CLIPS, _CAPTIONS = 64, 256
# Items of a block are padded to this many local embeddings, or to twice, four times, ... as many.
_ROOM = 4
# Problems that say that a clip lacks a modality; all others say that it could not be read.
_ABSENT = sum(1 << REASONS.index(name) for name in ("no_video", "no_audio", "silent_audio"))
_ALONE = {
    "video": {"samples": 0, "tokens": 0},
    "audio": {"frames": 0, "tokens": 0},
    "text": {"frames": 0, "samples": 0},
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: the corpus, as in ``config.data.source``.
      pair: the two modalities; each is retrieved by the other.
      space: name of the space of the heads; empty for the first that has both modalities.
      term: name of the term whose similarity is the fine score; empty for the first fine term on
        the pair. Without a fine term there is only the coarse score.
      captions: the most captions of a clip; the first ones are taken.
      join_captions: all captions of a clip are one query, as in a run that joins them; ``captions``
        is then 1.
      phrases, tokens: room for a caption; 0 for the room of training. A joined caption needs more.
      shortlist: how many items, the best by the coarse score, are ranked again by the first score
        that is not coarse; 0 for none. Without a fine term it is not used.
      exhaustive: rank the whole gallery by the fine score. Where False, there is the coarse score
        and, with a shortlist, coarse then fine: for galleries with too many pairs.
      correct_hubs: also rank by scores corrected for hubs.
      folds: the gallery is cut, in order, into this many parts of equal size, each a gallery of its
        own, such as the 1,000 images of COCO. Figures are over all queries together.
      batch_size: clips embedded at a time.
    """

    source: Mapping
    pair: str = option("video_text", choices=tuple(PAIRS))
    space: str = ""
    term: str = ""
    captions: int = option(5, low=1)
    join_captions: bool = False
    phrases: int = option(0, low=0)
    tokens: int = option(0, low=0)
    shortlist: int = option(0, low=0)
    exhaustive: bool = True
    correct_hubs: bool = False
    folds: int = option(1, low=1)
    batch_size: int = option(64, low=1)

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus and finds space and term.

        Raises:
          ConfigError: an option names something that is not there, or the checkpoint lacks a
            modality of the pair.
        """
        check_encoders(experiment, *self.pair.split("_"), name="retrieval")
        return _Retrieval(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text, with chance beside each number."""
        rows: dict[str, dict[str, float]] = {}
        for name, value in result.items():
            if name.count("/") == 2:
                score, direction, metric = name.split("/")
                rows.setdefault(f"{_title(score)}, {direction.replace('_', ' ')}", {})[metric] = (
                    value
                )
        columns = [*(f"r@{k}" for k in metrics.RECALL_AT), "median_rank", "mean_rank", "hubness"]
        lines = [result_text.table(rows, columns)]
        for row, found in rows.items():
            if "share_of_pairs" in found:
                lines.append(
                    f"{row}: the best {self.shortlist} by the coarse score, "
                    f"{found['share_of_pairs']:.1%} of the fine pairs, "
                    f"{found['share_of_flops']:.1%} of the FLOPs of all"
                )
        if self.correct_hubs:
            lines.append("hubs corrected: uses the statistics of this gallery and these queries")
        unread = result["phrases_left_out"]
        gallery = f"gallery: {result['clips']:.0f} clips, {result['captions']:.0f} "
        gallery += "sounds" if self.pair == "video_audio" else "captions"
        if self.folds > 1:
            gallery += f", in {self.folds} parts"
        if failed := result["unreadable_clips"] + result["unreadable_captions"]:
            gallery += f"; of them unreadable, which count as not found: {failed:.0f}"
        if problems := result_text.problems(result):
            gallery += f"; {problems}"
        if unread:
            gallery += f"; {unread:.1%} of the phrases had no room"
        return "\n".join([*lines, gallery])


def _title(score: str) -> str:
    title = score.replace("coarse_then_", "coarse, then ")
    if title.endswith(ranks.CORRECTED):
        title = f"{title.removesuffix(ranks.CORRECTED)}, hubs corrected (CSLS)"
    return title


class _Retrieval:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.options, self.experiment = options, experiment
        self.roomy = experiment
        self.modalities = options.pair.split("_")
        if "text" in self.modalities:
            self.roomy = experiment.with_room(options.phrases, options.tokens)
        self.space = pairs.space_of(experiment, options.pair, options.space, name="retrieval")
        self.ranking = pairs.Ranking.of(
            experiment, options.pair, self.space, options.term, name="retrieval"
        )
        fine = self.ranking.fine
        self.names = self.ranking.names if options.exhaustive else ("coarse",)
        # A shortlist is ranked by the first score that is not the coarse one.
        first = next((name for name in self.ranking.names if name != "coarse"), "")
        self.rerank = first if options.shortlist else ""
        joined = options.join_captions or experiment.config.data.join_captions
        captions = 1 if joined else options.captions
        self.protocol = dataclasses.asdict(options) | {
            "join_captions": joined,
            "captions": captions,
            "space": self.space,
            "term": fine,
            "scores": self.names,
            "coarse_then": self.rerank,
            "phrases": self.roomy.shape.phrases,
            "tokens": self.roomy.shape.tokens,
        }
        source = experiment.source(options.source, "retrieval.source")
        self.assemblers = {}
        for modality in self.modalities:
            owner = self.roomy if modality == "text" else experiment
            sizes = {"captions": captions} if modality == "text" else {}
            assembler = owner.assembler(source, **_ALONE[modality], **sizes)
            self.assemblers[modality] = dataclasses.replace(assembler, join_captions=joined)
        self.source = source
        self._score = jax.jit(self._score_block)
        x, y = self.modalities
        self._ranked_by = {
            side: self.ranking.score_function(side, self.rerank) for side in (x, y) if self.rerank
        }
        self.by_query: dict[str, list[int]] = {}
        self.queries: dict[str, dict[str, list]] = {}

    def __call__(self, state: TrainState) -> dict[str, float]:
        gallery, result = self._gallery(state)
        parameters = passes.on_one_device(state.params["objective"])
        parts = list(_folds(gallery, self.options.folds))
        found = _joined([self._outcomes(parameters, part) for part in parts])
        x, y = self.modalities
        self.queries = {
            f"{y}_to_{x}": {"name": list(gallery.y.ids), "group": gallery.owner.tolist()},
            f"{x}_to_{y}": {"name": list(gallery.x.ids), "group": list(range(len(gallery.x)))},
        }
        self.by_query = {}
        counts = zip(*(part.relevance.counts for part in parts), strict=True)
        of_y, of_x = (np.concatenate(side) for side in counts)
        # Chance is that of the largest part.
        sizes = max(len(part.x) for part in parts), max(len(part.y) for part in parts)
        for name, both in found.items():
            for direction, outcome, relevant, items, group in (
                # Captions of a clip are alike.
                (f"{y}_to_{x}", both.y_to_x, of_y, sizes[0], gallery.owner),
                (f"{x}_to_{y}", both.x_to_y, of_x, sizes[1], None),
            ):
                self.by_query[f"{name}/{direction}/rank"] = outcome.ranks.tolist()
                summary = metrics.retrieval_summary(outcome.ranks, relevant, items, group)
                summary |= metrics.hubness(outcome.found)
                if name.startswith("coarse_then_"):
                    summary |= self._cost(gallery, items)
                result |= {f"{name}/{direction}/{k}": v for k, v in summary.items()}
        return {name: float(value) for name, value in result.items()}

    def _gallery(self, state: TrainState) -> tuple["_Gallery", dict[str, float]]:
        """Both sides of the clips that have both, and their counts for the result.

        Raises:
          ConfigError: no clip has both sides.
        """
        sides = {}
        for modality, assembler in self.assemblers.items():
            owner = self.roomy if modality == "text" else self.experiment
            network = corpus_embeddings.trained(owner, state, local=bool(self.ranking.fine))
            (sides[modality],) = corpus_embeddings.of_corpus(
                owner, state, assembler, network, batch_size=self.options.batch_size
            )
        every, said = [], []
        for record in range(len(self.source)):
            clip = self.source[record]
            every.append(clip.clip_id)
            said.append(self._said(clip) if "text" in sides else [(0, "")])
        takes_part = np.array([bool(texts) for texts in said])
        bits = np.zeros(len(every), np.int32)
        for modality, side in sides.items():
            bits |= side.problems
            if modality != "text":
                takes_part &= side.mask | ((side.problems & _ABSENT) == 0)
        rows = np.flatnonzero(takes_part)
        if not rows.size:
            raise ConfigError("retrieval.source: no clip has both sides of the pair")
        names = [every[row] for row in rows]
        x, y = self.modalities
        of_x = _bank(sides[x].embeddings(self.space), rows, names)
        if y == "text":
            texts = [[text for _, text in said[row]] for row in rows]
            owner, group = metrics.caption_groups(texts)
            slots = [(row, k) for row in rows for k, _ in said[row]]
            captions = sides[y].mask.shape[1]
            places = np.array([row * captions + k for row, k in slots], np.int64)
            flat = jax.tree.map(
                lambda v: v.reshape(-1, *v.shape[2:]), sides[y].embeddings(self.space)
            )
            of_y = _bank(flat, places, list(itertools.chain(*texts)))
            left_out = self.assemblers[y].share_left_out(of_y.ids)
        else:
            owner = group = np.arange(len(rows))
            segments = sides[y].embeddings(self.space, segments=True)
            of_y, left_out = _bank(segments, rows, names), 0.0
        relevance = ranks.Relevance.of(group, owner, len(rows))
        result = {"clips": len(rows), "captions": len(of_y), "phrases_left_out": left_out}
        result |= {
            "unreadable_clips": int((~of_x.mask.any(axis=1)).sum()),
            "unreadable_captions": int((~of_y.mask.any(axis=1)).sum()),
            "left_out_clips": len(every) - len(rows),
        }
        result |= result_text.counts(pipeline.count_problems(bits), self.source.report)
        return _Gallery(of_x, of_y, owner, relevance), result

    def _said(self, clip: Any) -> list[tuple[int, str]]:
        """The captions of a clip that are queries, each with its place on the axis K."""
        chosen = self.assemblers["text"].chosen([c for c in clip.captions if c.text.strip()])
        texts = [caption.text for caption in chosen]
        return [(k, text) for k, text in enumerate(texts) if any(map(str.isalnum, text))]

    def _outcomes(self, parameters: Any, gallery: "_Gallery") -> dict[str, ranks.Both]:
        x, y, relevance = gallery.x, gallery.y, gallery.relevance
        compute = functools.partial(self._tile, parameters, gallery)
        tiles = ranks.Tiles(compute, len(x), len(y))
        found = ranks.outcomes(tiles, relevance, correct_hubs=self.options.correct_hubs)
        if self.rerank:
            by_x, by_y = (
                functools.partial(self._ranked_by[side], parameters) for side in self.modalities
            )
            size = self.options.shortlist
            found[f"coarse_then_{self.rerank}"] = ranks.Both(
                ranks.of_shortlists(
                    *(x, y, by_x, min(size, len(x)), relevance.pairs, found["coarse"].y_to_x)
                ),
                ranks.of_shortlists(
                    *(y, x, by_y, min(size, len(y))),
                    lambda rows, queries: relevance.pairs(queries, rows),
                    found["coarse"].x_to_y,
                ),
            )
        return found

    def _tile(
        self, parameters: Any, gallery: "_Gallery", rows: slice, columns: slice
    ) -> ranks.Tile:
        """Scores of clips and captions by name; -inf for those that could not be read."""
        x, y = gallery.x, gallery.y
        coarse, fine = x.coarse[rows] @ y.coarse[columns].T, None
        if self.ranking.fine and self.options.exhaustive:
            fine = np.empty(coarse.shape, np.float32)
            captions = list(_blocks(y, columns, _CAPTIONS))
            for clip_rows, clips in _blocks(x, rows, _CLIPS):
                for caption_rows, texts in captions:
                    block = self._score(parameters[self.ranking.fine], clips, texts)
                    part = np.asarray(block)[: len(clip_rows), : len(caption_rows)]
                    fine[np.ix_(clip_rows, caption_rows)] = part
        if fine is None:
            scores = {"coarse": coarse}
        else:
            scores = self.ranking.scores(parameters, coarse, fine)
        there = x.mask[rows].any(axis=1)[:, None] & y.mask[columns].any(axis=1)[None]
        return {
            name: np.where(there, np.asarray(values), np.float32(-np.inf))
            for name, values in scores.items()
        }

    def _score_block(self, parameters: Any, clips: Any, texts: Any) -> jax.Array:
        term = pairs.scoring_term(self.experiment, self.ranking.fine)
        return term.score(parameters, Side.of(clips), Side.of(texts)).values

    def _cost(self, gallery: "_Gallery", items: int) -> dict[str, float]:
        """The cost of a shortlist as shares of the cost of fine scores for all pairs.

        FLOPs are those of the products of embeddings alone.
        """
        width = gallery.x.coarse.shape[1]
        fine = gallery.x.local.shape[1] * gallery.y.local.shape[1] * width
        ranked = min(self.options.shortlist, items)
        return {
            "share_of_pairs": ranked / items,
            "share_of_flops": (items * width + ranked * fine) / (items * fine),
        }


class _Gallery(NamedTuple):
    """Both sides of a pair.

    Attributes:
      x, y: clips, and captions or sounds.
      owner: the clip of each y.
      relevance: which x are right answers to which y.
    """

    x: Bank
    y: Bank
    owner: np.ndarray
    relevance: ranks.Relevance


def _bank(embeddings: Embeddings | Bank, rows: np.ndarray, ids: Sequence[str]) -> Bank:
    """A bank of some rows; local embeddings are read when they are indexed."""
    local, gates = (
        v if v is None else RowsOf(v, rows) for v in (embeddings.local, embeddings.gates)
    )
    return Bank(embeddings.coarse[rows], local, embeddings.mask[rows], ids, gates)


def _blocks(bank: Bank, rows: slice, size: int) -> Iterator[tuple[np.ndarray, Embeddings]]:
    """Yields blocks of items, each with their places from the start of ``rows``.

    Items with equally many local embeddings come together: a block has room for those of its
    longest item, not of the longest of all. Blocks are padded to powers of two, at most ``size``
    items, so that few shapes are compiled.
    """
    size = min(size, power_of_two(len(bank)))
    # The number of the last valid one, from 1 on.
    used = (bank.mask[rows] * np.arange(1, bank.mask.shape[1] + 1)).max(axis=1, initial=0)
    order = np.argsort(used, kind="stable")
    for start in range(0, len(order), size):
        places = order[start : start + size]
        room = max(_ROOM, power_of_two(int(used[places].max())))
        items = bank.rows(rows.start + places)
        gates = items.gates if items.gates is None else items.gates[:, :room]
        items = Embeddings(items.local[:, :room], items.mask[:, :room], items.coarse, gates)
        yield places, padded(items, size)


def _folds(gallery: _Gallery, folds: int) -> Iterator[_Gallery]:
    """Yields the gallery, or its parts.

    Raises:
      ConfigError: ``folds`` does not divide the number of clips.
    """
    clips = len(gallery.x)
    if folds == 1:
        yield gallery
        return
    if clips % folds:
        raise ConfigError(f"retrieval.folds={folds} does not divide the {clips} clips evenly")
    size = clips // folds
    for first in range(0, clips, size):
        rows = slice(first, first + size)
        columns = slice(*np.searchsorted(gallery.owner, [rows.start, rows.stop]))
        owner, group = gallery.owner[columns] - first, gallery.relevance.group[columns]
        x, y = (
            _bank(bank, np.arange(some.start, some.stop), bank.ids[some])
            for bank, some in ((gallery.x, rows), (gallery.y, columns))
        )
        yield _Gallery(x, y, owner, ranks.Relevance.of(group, owner, size))


def _joined(parts: list[dict[str, ranks.Both]]) -> dict[str, ranks.Both]:
    """The outcomes of several galleries, concatenated."""
    return {
        name: jax.tree.map(lambda *v: np.concatenate(v), *(part[name] for part in parts))
        for name in parts[0]
    }


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("retrieval")
