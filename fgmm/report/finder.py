"""Finds clips by a sentence, a picture, a sound or a video, and where each phrase attends."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from fgmm.config import Config, ConfigError
from fgmm.data.media import decode
from fgmm.data.media.stretch import Stretch
from fgmm.data.schema import BadInput, Clip
from fgmm.data.text import phrases
from fgmm.eval import pairs
from fgmm.eval.bank import Bank
from fgmm.losses import Side
from fgmm.models.embeddings import Embeddings
from fgmm.report import strips
from fgmm.report.gallery import Scoring, pair_of, side_of, spectrograms
from fgmm.trained import Embedded, Model

# How many clips, the best by the coarse score, are ranked again by the full score.
SHORTLIST = 200
# Clips whose maps are computed at a time.
_MAPS = 16
# The most characters of a sentence.
LONGEST = 2000


class Hit(NamedTuple):
    """A clip that was found.

    Attributes:
      row: number of its record in the corpus.
      score: the score that ranked it.
      maps: attention of each phrase of the query over the cells of the clip, divided by its peak,
        from 0 to 1; None if no fine term defines its attention, or the query is no sentence.
    """

    row: int
    score: float
    maps: Float[np.ndarray, "P T h w"] | None


class Answer(NamedTuple):
    """The result of a query.

    Attributes:
      hits: the clips, best first.
      phrases: start and end of each phrase in the sentence, one for each map; empty without maps.
      by: the score, in words.
    """

    hits: list[Hit]
    phrases: list[tuple[int, int]]
    by: str


class Finder:
    """Searches the banks of a corpus.

    Args:
      model: embeds the queries.
      banks: of the corpus in one space, by ``"video"``, ``"audio"`` and ``"audio_segments"``.
      space: of the banks.
    """

    def __init__(self, model: Model, banks: Mapping[str, Bank], space: str):
        self._model, self._banks, self._space = model, banks, space
        self._scoring = Scoring(model.experiment, model.state, space)
        self._segmenter = phrases.find(self.config.data.segmenter)
        self._attention = {item: self._attention_to(item) for item in self.items}

    @property
    def items(self) -> list[str]:
        """The modalities of the banks by which clips can be found."""
        return [modality for modality in ("video", "audio") if modality in self._banks]

    @property
    def config(self) -> Config:
        """The config of the checkpoint."""
        return self._model.experiment.config

    def spectrogram(self, clip: Clip) -> UInt8[np.ndarray, "h w 3"]:
        """A picture of the log-mel spectrogram that the model gets for a clip.

        Raises:
          BadInput: the clip has no sound, or it cannot be read.
        """
        if clip.audio is None:
            raise BadInput("no_audio", clip.clip_id)
        experiment = self._model.experiment
        shape = experiment.shape
        sound = decode.fit_sound(clip.audio(), shape.samples, shape.sample_rate)
        return strips.spectrogram(spectrograms(experiment, sound[None])[0], None)

    @functools.cached_property
    def grids(self) -> dict[str, tuple[int, ...]]:
        """The extent of the feature map by modality: (T', H', W') for video, (T', F') for audio."""
        blank = self._model.experiment.blank_batch(1)
        embed = {"video": self._model.embed_video, "audio": self._model.embed_audio}
        return {
            item: embed[item](blank[item], space=self._space, local=True).grid
            for item in self.items
        }

    def by_text(self, sentence: str, items: str, count: int) -> Answer:
        """Finds clips by a sentence.

        Args:
          sentence: the query.
          items: one of ``items``, the modality by which clips are found.
          count: how many clips to find.

        Raises:
          ValueError: the sentence is empty or too long, or holds no word that the tokenizer knows,
            or ``items`` is unknown.
        """
        if not sentence.strip():
            raise ValueError("the query is empty; type a sentence")
        if len(sentence) > LONGEST:
            raise ValueError(f"the query has {len(sentence)} letters; at most {LONGEST} are taken")
        query = self._model.embed_text([sentence], space=self._space, local=True, strict=True)
        room = self._model.experiment.shape.phrases
        spans = phrases.fitting(sentence, self._segmenter(sentence), room)
        return self._found("text", query, items, count, spans)

    def by_file(self, kind: str, data: bytes, items: str, count: int) -> Answer:
        """Finds clips by a picture, a sound or a video.

        Args:
          kind: ``"image"``, ``"audio"`` or ``"video"``.
          data: the contents of a file.
          items, count: as in ``by_text``.

        Raises:
          ValueError: the file cannot be read, or the model takes no such input.
        """
        if not data:
            raise ValueError("the file is empty; drop a picture, a sound or a video")
        shape, seconds = self._model.experiment.shape, self.config.data.seconds
        options = {"space": self._space, "local": True}
        if shape.features and kind != "audio":
            raise ValueError("the model takes stored features and no pictures; type a sentence")
        try:
            if kind == "audio":
                heard = Stretch(data, None, seconds).sound()
                query = self._model.embed_audio([heard.samples], rate=heard.rate, **options)
                return self._found("audio", query, items, count, [])
            if kind == "image":
                size = (shape.height, shape.width)
                frames = decode.read_image(data, *size, shape.resizing)
                query = self._model.embed_image(frames, **options)
            else:
                frames = np.zeros((shape.frames, shape.height, shape.width, 3), np.uint8)
                Stretch(data, None, seconds).fill(frames, shape.resizing)
                query = self._model.embed_video(frames[None], **options)
        except BadInput as error:
            raise ValueError(f"the file cannot be read: {error}") from error
        return self._found("video", query, items, count, [])

    def _found(
        self, asked: str, query: Embedded, items: str, count: int, spans: list[tuple[int, int]]
    ) -> Answer:
        if items not in self.items:
            raise ValueError(f"items={items!r} is unknown; allowed: {', '.join(self.items)}")
        bank = self._banks[side_of(items, asked)]
        side = query.segments if side_of(asked, items) == "audio_segments" else Side.of(query)
        coarse = query.coarse if side.coarse is None else side.coarse
        embeddings = Embeddings(side.local, side.mask, coarse, side.gate)
        score = self._scoring.of(asked, items)
        shortlist = min(SHORTLIST, len(bank)) if score else 0
        found = bank.search(embeddings, min(count, len(bank)), score=score, shortlist=shortlist)
        rows = [int(row) for row in found.rows[0] if row >= 0]
        maps = self._maps(query, items, rows) if spans and rows else None
        hits = [
            Hit(row, float(value), None if maps is None else maps[i, : len(spans)])
            for i, (row, value) in enumerate(zip(rows, found.scores[0], strict=False))
        ]
        by = self._scoring.in_words(asked, items)
        by += f", for the {shortlist} best by the coarse score" if score else ""
        return Answer(hits, spans if maps is not None else [], by)

    def _attention_to(self, items: str) -> Any:
        """The function ``(x, y) -> weights [B,N,P]`` of the fine term on text and a modality.

        None if there is no fine term, or it defines no attention.
        """
        experiment, pair = self._model.experiment, pair_of("text", items)
        name = pairs.fine_term(experiment, pair, self._space, "", name="search")
        if not name:
            return None
        parameters = self._model.state.params["objective"][name]
        attention = experiment.objective.terms[name].term.attention(parameters)
        return None if attention is None else jax.jit(lambda x, y: attention(x, y)[0])

    def _maps(self, query: Embedded, items: str, rows: list[int]) -> np.ndarray | None:
        attention, bank = self._attention[items], self._banks[items]
        if attention is None or bank.local is None:
            return None
        # Padded to a multiple of ``_MAPS``, so that few shapes are compiled.
        filled = rows + rows[:1] * (-len(rows) % _MAPS)
        found = bank.rows(np.array(filled))
        across = [np.repeat(a, len(filled), axis=0) for a in (query.local, query.mask)]
        sides = Side(jnp.asarray(found.local, jnp.float32), found.mask), Side(*across)
        weights = np.asarray(attention(*sides))[: len(rows)].transpose(0, 2, 1)
        peak = weights.max(axis=2, keepdims=True)
        grid = self.grids[items]
        maps = (weights / np.maximum(peak, 1e-12)).reshape(*weights.shape[:2], *grid)
        if items == "audio":  # Time to the right, frequency upwards.
            maps = maps.swapaxes(2, 3)[:, :, None, ::-1]
        return maps


def space_for(model: Model) -> str:
    """The name of the space in which most terms compare text with video or audio.

    Raises:
      ConfigError: no term compares text with video or audio.
    """
    spaces = [
        entry.space
        for entry in model.experiment.objective.terms.values()
        if entry.pair in ("video_text", "audio_text")
    ]
    if not spaces:
        raise ConfigError(
            "search: the checkpoint was trained to compare text with neither video nor audio; "
            "there is nothing that a sentence could find"
        )
    return max(spaces, key=spaces.count)
