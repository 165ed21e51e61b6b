"""Clips to examples, and examples to batches."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from fgmm.config import Config, ConfigError
from fgmm.data import bad_input
from fgmm.data.media import deadline, decode
from fgmm.data.schema import REASONS, SILENCE, BadInput, BatchShape, Caption, Clip, Resizing
from fgmm.data.text import phrases
from fgmm.data.text.tokenizers import Tokenizer

# One clip of a batch: views of its arrays.
Example = dict[str, np.ndarray | np.generic]
Batch = dict[str, np.ndarray]

# Clips that are looked at to judge whether a source that draws has pictures.
_LOOKED_AT = 100
# Clips that are found before the first of them is decoded. The code that finds clips then stays in
# the processor's caches; between decodings it takes two to three times as long. Their encoded
# pictures are in memory together.
_DESCRIBED = 16
# Arrays of a batch that stay on the host.
HOST_ONLY = ("record", "problems")


def batch_shape(data: Config, modalities: Sequence[str]) -> BatchShape:
    """The sizes that ``config.data`` asks for; those of absent modalities are 0.

    Raises:
      ConfigError: ``data.resize_ratio`` is not 1 with ``data.resize="stretch"``.
    """
    return BatchShape(
        frames=data["frames"] if "video" in modalities else 0,
        height=data["height"],
        width=data["width"],
        samples=round(data["seconds"] * data["sample_rate"]) if "audio" in modalities else 0,
        sample_rate=data["sample_rate"],
        captions=data["captions"],
        phrases=data["phrases"],
        tokens=data["tokens"] if "text" in modalities else 0,
        features=data["features"] if "video" in modalities else 0,
        resizing=_resizing(data),
    )


def _resizing(data: Config) -> Resizing:
    found = Resizing(data["resize"], data["resize_filter"], data["resize_ratio"])
    if found.fit == "stretch" and found.ratio != 1:
        raise ConfigError(
            f"data.resize_ratio={found.ratio} cuts off a border, and data.resize='stretch' cuts "
            "off nothing; set it to 1.0"
        )
    return found


class Draw(NamedTuple):
    """A clip to be read.

    Attributes:
      record: its index.
      state: of the Philox generator that draws for this clip; None if nothing is drawn.
    """

    record: int
    state: dict[str, Any] | None = None


@dataclasses.dataclass
class Assembler:
    """Makes batches, or single examples of one, from indices of clips.

    Bad input is masked, never raised: the mask of the modality is False and the reason is a bit of
    ``problems``; ``bad_input`` logs the first clips of each reason. Sound that is nowhere louder
    than ``SILENCE`` is masked too, as ``silent_audio``.

    Attributes:
      source: the corpus. If it has ``draw(record, rng)``, training calls that, for example for a
        random stretch of a long recording. A source of stored features has ``feature_shape``.
      shape: sizes of the batch.
      tokenizer, segmenter: of the text; unused without text.
      join_captions: join all captions of a clip into one.
      cache: keep decoded frames in memory; of a source that draws, those of pictures alone.
      time_limit: seconds for reading one modality of a clip, 0 for no limit; see ``deadline``.

    Raises:
      ConfigError: ``cache`` is set and the source draws stretches of recordings, or a batch has no
        room for the pictures or features of the source.
    """

    source: Any
    shape: BatchShape
    tokenizer: Tokenizer | None
    segmenter: str
    join_captions: bool = False
    cache: bool = False
    time_limit: float = 0.0

    def __post_init__(self):
        self._frames: dict[int, np.ndarray] = {}
        if self.cache and self._draws and not _has_pictures(self.source):
            raise ConfigError(
                "data.cache=True would keep one stretch of each recording that data.source draws "
                "anew every time; set it to False"
            )
        if self.shape.frames:
            _check_features(getattr(self.source, "feature_shape", None), self.shape)
            least = getattr(self.source, "least_frames", 1)
            if self.shape.frames < least:
                raise ConfigError(
                    f"data.frames={self.shape.frames} has no room for the {least} pictures that a "
                    f"clip of the source shows; set it to {least} or a multiple"
                )

    @property
    def _draws(self) -> bool:
        return hasattr(self.source, "draw")

    def __call__(self, record: int, rng: np.random.Generator | None = None) -> Example:
        """The example of clip ``record``; with a generator, random choices are drawn."""
        batch = self.shape.zeros(1)
        clip, problems = self._describe(record, rng, batch, 0)
        self._fill(clip, problems, batch, 0)
        return {name: array[0] for name, array in batch.items()}

    def batch(
        self,
        drawn: Sequence[Draw],
        size: int | None = None,
        zeros: Callable[..., np.ndarray] = np.zeros,
    ) -> Batch:
        """Clips as one batch. Each is read straight into its place. Decoded frames are copied once,
        from the memory of FFmpeg's scaler.

        Args:
          drawn: the clips.
          size: of the batch, if it is to be larger; further rows are copies of the first clip.
          zeros: as of ``BatchShape.zeros``.
        """
        batch = self.shape.zeros(size or len(drawn), zeros)
        rng = np.random.Generator(np.random.Philox(0))
        for first in range(0, len(drawn), _DESCRIBED):
            clips = []
            for row, (record, state) in enumerate(drawn[first : first + _DESCRIBED], first):
                if state is not None:
                    rng.bit_generator.state = state
                clips.append(self._describe(record, None if state is None else rng, batch, row))
            for row, (clip, problems) in enumerate(clips, first):
                self._fill(clip, problems, batch, row)
        for array in batch.values():
            array[len(drawn) :] = array[:1]
        return batch

    def _describe(self, record: int, rng, batch: Batch, row: int) -> tuple[Clip, dict[str, str]]:
        """Finds a clip; writes what takes no decoding into a row of a batch, which must be zero.

        Returns the clip, and its problems: a detail by reason.
        """
        draws = rng is not None and self._draws
        clip = self.source.draw(record, rng) if draws else self.source[record]
        problems = dict.fromkeys(clip.problems, "")
        batch["record"][row] = record
        if self.shape.tokens:
            tokens, phrase_ids = (np.asarray(batch[name][row]) for name in ("tokens", "phrase_ids"))
            batch["text_mask"][row] = self._text(tokens, phrase_ids, clip, rng, problems)
        if self.shape.label:
            batch["labels_mask"][row] = self._labels(
                np.asarray(batch["labels"][row : row + 1]), clip
            )
            if not batch["labels_mask"][row]:
                problems["no_label"] = ""
        return clip, problems

    def _fill(self, clip: Clip, problems: dict[str, str], batch: Batch, row: int) -> None:
        """Decodes the pictures and the sound of a clip into its row; tells of its problems."""
        if self.shape.frames:
            out, record = np.asarray(batch["video"][row]), int(batch["record"][row])
            batch["video_mask"][row] = self._read(problems, self._video, out, clip, record)
        if self.shape.samples:
            out = np.asarray(batch["audio"][row])
            batch["audio_mask"][row] = self._read(problems, self._audio, out, clip)
        for reason, detail in problems.items():
            bad_input.tell(reason, clip.clip_id, detail)
        batch["problems"][row] = sum(1 << REASONS.index(reason) for reason in problems)

    def _read(self, problems: dict[str, str], read: Callable, out: np.ndarray, *arguments) -> bool:
        """Reads a modality into ``out``; whether that succeeded. If not, ``out`` is zero."""
        try:
            with deadline.within(self.time_limit):
                read(out, *arguments)
            return True
        except BadInput as error:
            problems[error.reason] = str(error)
            out[...] = 0
            return False

    def _labels(self, out: np.ndarray, clip: Clip) -> bool:
        """Writes the labels of a clip into ``out``, [1] or [1,classes]; whether it has any."""
        found = clip.labels.get(self.shape.label)
        if found is None:
            return False
        if self.shape.several:
            out[0, list(found) if isinstance(found, tuple) else found] = True
        else:
            out[0] = found
        return True

    def _video(self, out: np.ndarray, clip: Clip, record: int) -> None:
        if record in self._frames:
            out[...] = self._frames[record]
            return
        decode.fill_frames(out, clip.video, self.shape.resizing, clip.clip_id)
        # A picture is the same whatever is drawn.
        if self.cache and (isinstance(clip.video, bytes) or not self._draws):
            self._frames[record] = out.copy()

    def _audio(self, out: np.ndarray, clip: Clip) -> None:
        if clip.audio is None:
            raise BadInput("no_audio", clip.clip_id)
        out[:] = decode.fit_sound(clip.audio(), self.shape.samples, self.shape.sample_rate)
        if not (np.abs(out) > SILENCE).any():
            raise BadInput("silent_audio", clip.clip_id)

    def _text(self, tokens, phrase_ids, clip: Clip, rng, problems) -> Bool[np.ndarray, "K"]:
        """Writes the captions of a clip into ``tokens`` and ``phrase_ids`` [K,L]; which it has."""
        spoken = [caption for caption in clip.captions if caption.text.strip()]
        chosen = self.chosen(spoken, rng)
        for k, caption in enumerate(chosen):
            tokens[k], phrase_ids[k] = self.tokenizer.encode(
                caption.text,
                segmenter=phrases.find(self.segmenter),
                tokens=self.shape.tokens,
                phrases=self.shape.phrases,
            )
        known = ~np.isin(tokens, self.tokenizer.empty_ids)
        # Captions of nothing but unknown pieces would all look the same.
        text_mask = ((phrase_ids > 0) & known).any(axis=-1)
        phrase_ids[~text_mask] = 0
        lost = [caption.text for k, caption in enumerate(chosen) if not text_mask[k]]
        unknown = [text for text in lost if any(letter.isalnum() for letter in text)]
        if not clip.captions:
            problems["no_captions"] = ""
        elif len(spoken) < len(clip.captions) or len(unknown) < len(lost):
            problems["empty_caption"] = ""
        if unknown:
            problems["unknown_words"] = unknown[0]
        return text_mask

    def share_left_out(self, texts: Iterable[str]) -> float:
        """The share of the phrases of captions for which a batch has no room; 0 without phrases."""
        segmenter = phrases.find(self.segmenter)
        room = {"tokens": self.shape.tokens, "phrases": self.shape.phrases}
        found = kept = 0
        for text in texts:
            _, phrase_ids = self.tokenizer.encode(text, segmenter=segmenter, **room)
            found += len(segmenter(text))
            kept += len(np.unique(phrase_ids[phrase_ids > 0]))
        return 1 - kept / found if found else 0.0

    def chosen(self, captions: list[Caption], rng=None) -> list[Caption]:
        """At most K captions: the first ones, or with a generator drawn ones, in order and without
        replacement. With ``join_captions`` all as one.
        """
        if self.join_captions and captions:
            text = ". ".join(caption.text.rstrip(" .") for caption in captions)
            return [Caption(text, captions[0].start, captions[-1].end)]
        if rng is not None and len(captions) > self.shape.captions:
            drawn = rng.choice(len(captions), self.shape.captions, replace=False)
            return [captions[i] for i in sorted(drawn)]
        return captions[: self.shape.captions]


def _has_pictures(source: Any) -> bool:
    """Whether any of the first clips is an encoded picture."""
    return any(isinstance(source[i].video, bytes) for i in range(min(_LOOKED_AT, len(source))))


def _check_features(stored: tuple[int, ...] | None, shape: BatchShape) -> None:
    """Raises ConfigError unless a batch has room for what the source has: pixels or features."""
    keys = ("frames", "height", "width", "features")
    wanted = tuple(getattr(shape, key) for key in keys)
    if stored is None and shape.features:
        raise ConfigError(
            f"data.features={shape.features} needs a source of stored features, and this one has "
            "pictures; set it to 0, or name the source 'features'"
        )
    if stored is not None and stored != wanted:
        given = ", ".join(f"data.{key}={size}" for key, size in zip(keys, stored, strict=True))
        raise ConfigError(
            f"the source has stored features of {' x '.join(map(str, stored))}, and a batch "
            f"{' x '.join(map(str, wanted))}; set {given}"
        )


def evaluation_batches(
    assembler: Assembler, batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yields (batch, count) over all clips of a source, each once and in order.

    The first ``count`` rows of a batch are clips. The last batch is filled up with copies of its
    first clip, so that all have one shape.
    """
    records = range(len(assembler.source))
    for start in range(0, len(records), batch_size):
        drawn = [Draw(record) for record in records[start : start + batch_size]]
        yield assembler.batch(drawn, batch_size), len(drawn)


def count_problems(problems: np.ndarray) -> collections.Counter[str]:
    """How many clips of a batch had each problem, from its ``problems``, int32 [B]."""
    counts = {reason: int(np.sum(problems >> i & 1)) for i, reason in enumerate(REASONS)}
    return collections.Counter({reason: count for reason, count in counts.items() if count})
