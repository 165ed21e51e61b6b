"""Clips to batches: deterministic, random access, resumable from one number.

The global batch of step s is a function of (seed, s) alone: not of the number of processes or of
workers, nor of where a run was interrupted.
"""

import collections
import ctypes
import dataclasses
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fgmm.config import Config, ConfigError
from fgmm.data import decode, phrases
from fgmm.data.schema import REASONS, BadInput, BatchShape, Caption, Clip
from fgmm.data.tokenizer import Tokenizer

Example = dict[str, np.ndarray | np.generic]

# Arrays of a batch that stay on the host.
HOST_ONLY = ("record", "problems")


def batch_shape(data: Config, modalities: Sequence[str]) -> BatchShape:
    """The sizes that ``config.data`` asks for; those of absent modalities are 0."""
    return BatchShape(
        frames=data["frames"] if "video" in modalities else 0,
        height=data["height"],
        width=data["width"],
        samples=round(data["audio_seconds"] * data["sample_rate"]) if "audio" in modalities else 0,
        sample_rate=data["sample_rate"],
        captions=data["captions"],
        phrases=data["phrases"],
        tokens=data["tokens"] if "text" in modalities else 0,
    )


@dataclasses.dataclass
class Assemble:
    """Makes one example of a batch from the index of a clip.

    Bad input is masked, never raised: the mask of the modality is False and the reason is a bit of
    ``problems``.

    Attributes:
      source: the corpus. What it draws from a record by itself, such as a stretch of a long
        recording, it draws in ``draw(record, rng)``.
      shape: sizes of the batch.
      tokenizer, segmenter: of the text; unused without text.
      join_captions: all captions of a clip as one.
      cache: keep decoded frames in memory.
    """

    source: Any
    shape: BatchShape
    tokenizer: Tokenizer | None
    segmenter: str
    join_captions: bool = False
    cache: bool = False

    def __post_init__(self):
        self._frames: dict[int, np.ndarray] = {}
        if self.cache and hasattr(self.source, "draw"):
            raise ConfigError(
                "data.cache=True would keep one stretch of each recording that data.source draws "
                "anew every time; set it to False"
            )

    def __call__(self, record: int, rng: np.random.Generator | None = None) -> Example:
        """The example of clip ``record``; with a generator, what chance may decide is drawn."""
        draws = rng is not None and hasattr(self.source, "draw")
        clip = self.source.draw(record, rng) if draws else self.source[record]
        problems: set[str] = set(clip.problems)
        example = {"record": np.int32(record)}
        if self.shape.frames:
            video = self._read(problems, self._video, clip, record)
            shape = (self.shape.frames, self.shape.height, self.shape.width, 3)
            example["video"] = np.zeros(shape, np.uint8) if video is None else video
            example["video_mask"] = np.bool_(video is not None)
        if self.shape.samples:
            audio = self._read(problems, self._audio, clip)
            silence = np.zeros(self.shape.samples, np.float32)
            example["audio"] = silence if audio is None else audio
            example["audio_mask"] = np.bool_(audio is not None)
        if self.shape.tokens:
            example |= self._text(clip, rng, problems)
        bits = sum(1 << REASONS.index(reason) for reason in problems)
        return example | {"problems": np.int32(bits)}

    def _read(self, problems, read, *arguments):
        try:
            return read(*arguments)
        except BadInput as error:
            problems.add(error.reason)
            return None

    def _video(self, clip: Clip, record: int) -> np.ndarray:
        if record in self._frames:
            return self._frames[record]
        if clip.video is None:
            raise BadInput("no_video", clip.clip_id)
        height, width = self.shape.height, self.shape.width
        if isinstance(clip.video, bytes):
            frames = decode.read_image(clip.video, height, width)
        else:
            frames = clip.video()
        frames = decode.fit_frames(frames, self.shape.frames, height, width)
        if self.cache:
            self._frames[record] = frames
        return frames

    def _audio(self, clip: Clip) -> np.ndarray:
        if clip.audio is None:
            raise BadInput("no_audio", clip.clip_id)
        return decode.fit_sound(clip.audio(), self.shape.samples, self.shape.sample_rate)

    def _text(self, clip: Clip, rng, problems) -> Example:
        captions, length = self.shape.captions, self.shape.tokens
        tokens = np.zeros((captions, length), np.int32)
        phrase_ids = np.zeros((captions, length), np.int32)
        spoken = [caption for caption in clip.captions if caption.text.strip()]
        chosen = self.chosen(spoken, rng)
        for k, caption in enumerate(chosen):
            tokens[k], phrase_ids[k] = self.tokenizer.encode(
                caption.text,
                segmenter=phrases.find(self.segmenter),
                tokens=length,
                phrases=self.shape.phrases,
            )
        text_mask = (phrase_ids > 0).any(axis=-1)
        if not clip.captions:
            problems.add("no_captions")
        elif len(spoken) < len(clip.captions) or not text_mask[: len(chosen)].all():
            problems.add("empty_caption")
        return {"tokens": tokens, "phrase_ids": phrase_ids, "text_mask": text_mask}

    def chosen(self, captions: list[Caption], rng=None) -> list[Caption]:
        """At most K captions: the first ones, or drawn without replacement and left in order."""
        if self.join_captions and captions:
            text = ". ".join(caption.text.rstrip(" .") for caption in captions)
            return [Caption(text, captions[0].start, captions[-1].end)]
        if rng is not None and len(captions) > self.shape.captions:
            drawn = rng.choice(len(captions), self.shape.captions, replace=False)
            return [captions[i] for i in sorted(drawn)]
        return captions[: self.shape.captions]


def stacked(examples: Sequence[Example]) -> Example:
    """Examples as one batch, each array copied once."""
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def training_batches(
    assemble: Assemble,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    threads: int = 2,
    prefetch: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of this process from ``start_step`` on, for ever; every epoch is shuffled anew.

    Args:
      batch_size: clips over all processes; a multiple of ``processes``.
      workers: worker processes; with 0, ``threads`` threads read ``prefetch`` batches ahead.
    """
    import grain  # Only reading needs it: what computes on a batch already there does without.

    dataset = grain.MapDataset.range(len(assemble.source)).seed(seed).shuffle().repeat()
    dataset = dataset.random_map(assemble)
    # Every process has consecutive clips, so that those of all are in one order for any number.
    share = batch_size // processes
    dataset = dataset.batch(share, drop_remainder=True, batch_fn=stacked)
    dataset = dataset[process::processes][start_step:]
    if workers:
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=1)
        buffer = max(1, prefetch // workers)
        iterable = dataset.to_iter_dataset(reading).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffer),
            worker_init_fn=_as_worker,
        )
    else:
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
        iterable = dataset.to_iter_dataset(reading)
    return iter(iterable)


def _as_worker(index: int, count: int) -> None:
    """A worker leaves signals to its parent and ends with it, however that ends."""
    del index, count
    # A terminal or a scheduler signals the whole group; the parent still wants its batch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def evaluation_batches(
    assemble: Assemble, batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Every clip of a source once, in order; yields batches with the number of true clips in them.

    The last batch is filled up with copies of its first clip, so that all have one shape.
    """
    records = range(len(assemble.source))
    for start in range(0, len(records), batch_size):
        examples = [assemble(record) for record in records[start : start + batch_size]]
        count = len(examples)
        examples += [examples[0]] * (batch_size - count)
        yield stacked(examples), count


def count_problems(problems: np.ndarray) -> collections.Counter[str]:
    """How many clips of a batch had each problem."""
    counts = {reason: int(np.sum(problems >> i & 1)) for i, reason in enumerate(REASONS)}
    return collections.Counter({reason: count for reason, count in counts.items() if count})
