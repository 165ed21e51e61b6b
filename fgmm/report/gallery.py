"""Some clips of a corpus, embedded by a checkpoint, and the scores between them.

One more axis here: G clips of the gallery.
"""

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.data.schema import Clip
from fgmm.eval import pairs
from fgmm.eval.bank import Bank
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses.objective import PAIRS
from fgmm.models.embeddings import Embeddings

_BATCH = 32


def pair_of(one: str, other: str) -> str:
    """The pair that two modalities make, such as ``"video_text"``; empty if they make none."""
    return next((pair for pair in PAIRS if set(pair.split("_")) == {one, other}), "")


def side_of(modality: str, other: str) -> str:
    """The name of the embeddings of a modality that are compared with another modality.

    It is the modality itself, but ``"audio_segments"`` for audio compared with video.
    """
    return "audio_segments" if (modality, other) == ("audio", "video") else modality


class Scoring:
    """The scores by which a checkpoint compares two modalities in one space.

    Args:
      experiment, state: of the checkpoint.
      space: name of the space.
    """

    def __init__(self, experiment: Experiment, state: TrainState, space: str):
        self._experiment, self._state, self._space = experiment, state, space
        self._functions: dict[tuple[str, str], Callable | None] = {}

    def of(self, queries: str, items: str) -> Callable[[Embeddings, Embeddings], Any] | None:
        """The score that ranks items of one modality for queries of another, for ``Bank.search``.

        None, which stands for products of coarse embeddings, if the coarse score ranks, or if the
        objective has no term on both modalities in this space.
        """
        if (queries, items) not in self._functions:
            self._functions[queries, items] = self._made(queries, items)
        return self._functions[queries, items]

    def in_words(self, queries: str, items: str) -> str:
        """What ranks items of one modality for queries of another."""
        if ranking := self._ranking(queries, items):
            return f"the {ranking.names[0]} score"
        if queries == items:
            return "the coarse score"
        return f"the coarse score; no term compares {queries} with {items}"

    def _ranking(self, queries: str, items: str) -> pairs.Ranking | None:
        pair = pair_of(queries, items)
        compared = {(e.pair, e.space) for e in self._experiment.objective.compared.values()}
        if (pair, self._space) not in compared:
            return None
        return pairs.Ranking.of(self._experiment, pair, self._space, "", name="gallery")

    def _made(self, queries: str, items: str):
        ranking = self._ranking(queries, items)
        if ranking is None or ranking.names[0] == "coarse":
            return None
        function = ranking.score_function(items=items)
        return functools.partial(function, self._state.params["objective"])


class Gallery:
    """Some clips of a corpus, embedded.

    Args:
      experiment, state: of the checkpoint.
      source: the corpus, opened.
      clips: how many to take, at most, evenly spaced in the corpus.

    Attributes:
      space: the name of the space in which most terms compare modalities.
      chosen: the G clips.
      captions: the text of each clip that was embedded; empty where there is none.
      pictures, sounds: the middle frame uint8 [h,w,3] and the log-mel spectrogram of each clip, or
        None.
      banks: by modality, and ``audio_segments``; inputs that could not be read are masked.
      problems: of the clips, counted by reason.

    Raises:
      ConfigError: no term of the objective compares modalities.
    """

    def __init__(self, experiment: Experiment, state: TrainState, source: Any, clips: int):
        self.experiment, self.state = experiment, state
        spaces = [entry.space for entry in experiment.objective.compared.values()]
        if not spaces:
            raise ConfigError("the checkpoint was trained without a term that compares modalities")
        self.space = max(spaces, key=spaces.count)
        self.scoring = Scoring(experiment, state, self.space)
        self.chosen: list[Clip] = [source[place] for place in spread(len(source), clips)]
        self.captions: list[str] = []
        self.pictures: list[np.ndarray | None] = []
        self.sounds: list[np.ndarray | None] = []
        self.problems: collections.Counter[str] = collections.Counter()
        self.banks = self._banks(experiment.assembler(self.chosen, captions=1))

    def _banks(self, assembler: pipeline.Assembler) -> dict[str, Bank]:
        parts: dict[str, list[Embeddings]] = collections.defaultdict(list)
        for batch, count in pipeline.evaluation_batches(assembler, min(_BATCH, len(self.chosen))):
            self.problems += pipeline.count_problems(batch["problems"][:count])
            arrays = {name: x for name, x in batch.items() if name not in pipeline.HOST_ONLY}
            found = jax.device_get(self.experiment.embed(self.state, arrays)[self.space])
            for side, embeddings in found.items():
                parts[side].append(jax.tree.map(lambda x, n=count: x[:n], _folded(embeddings)))
            self._keep(assembler, batch, count)
        ids = [clip.clip_id for clip in self.chosen]
        joined = {
            side: jax.tree.map(lambda *x: np.concatenate(x), *of_side)
            for side, of_side in parts.items()
        }
        return {
            side: Bank(coarse=e.coarse, local=e.local, mask=e.mask, gates=e.gates, ids=ids)
            for side, e in joined.items()
        }

    def _keep(self, assembler: pipeline.Assembler, batch: Mapping[str, Any], count: int) -> None:
        log_mel = spectrograms(self.experiment, batch["audio"]) if "audio" in batch else None
        for row in range(count):
            spoken = [c for c in self.chosen[int(batch["record"][row])].captions if c.text.strip()]
            said = assembler.chosen(spoken)[:1] if "text_mask" in batch else []
            self.captions.append(said[0].text if said and batch["text_mask"][row, 0] else "")
            seen = "video" in batch and batch["video_mask"][row]
            frames = batch["video"][row] if seen else None
            drawn = frames is not None and frames.dtype == np.uint8
            self.pictures.append(frames[len(frames) // 2].copy() if drawn else None)
            heard = log_mel is not None and batch["audio_mask"][row]
            self.sounds.append(log_mel[row] if heard else None)

    @property
    def directions(self) -> list[tuple[str, str]]:
        """(queries, items) for each pair of modalities that a term compares in ``space``."""
        terms = self.experiment.objective.compared.values()
        compared = {entry.pair for entry in terms if entry.space == self.space}
        both = [tuple(pair.split("_")) for pair in PAIRS if pair in compared]
        return [direction for one, other in both for direction in ((other, one), (one, other))]

    def scores(self, queries: str, items: str) -> Float[np.ndarray, "G G"]:
        """The score of every clip in one modality with every clip in another.

        Args:
          queries, items: the modalities.

        Returns:
          One row for each query; -inf where a clip lacks the modality of the items.
        """
        bank = self.banks[side_of(items, queries)]
        asked = self.banks[side_of(queries, items)].rows(slice(None))
        found = bank.search(asked, len(bank), score=self.scoring.of(queries, items))
        scores = np.full(found.rows.shape, -np.inf, np.float32)
        query, place = np.nonzero(found.rows >= 0)
        scores[query, found.rows[query, place]] = found.scores[query, place]
        return scores

    def there(self, modality: str) -> np.ndarray:
        """Which clips have a modality that could be read, bool [G]."""
        return self.banks[modality].mask.any(axis=1)


def _folded(embeddings: Embeddings) -> Embeddings:
    """Embeddings [B,1,...] of one caption for each clip as [B,...]; others are unchanged."""
    folds = embeddings.mask.ndim == 3
    return jax.tree.map(lambda x: x[:, 0], embeddings) if folds else embeddings


def spectrograms(experiment: Experiment, sound: Float[Any, "B S"]) -> Float[np.ndarray, "B t f"]:
    """The log-mel spectrograms that a model gets for waveforms."""
    return jax.device_get(experiment.transforms({"audio": jnp.asarray(sound)})["log_mel"])


def spread(count: int, wanted: int) -> Sequence[int]:
    """At most ``wanted`` numbers below ``count``, evenly spaced."""
    taken = min(count, wanted)
    return [i * count // taken for i in range(taken)]
