"""The record a source yields and the batch a train step receives."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, Float32, UInt8

# Why an entry of a corpus was left out or a modality of a clip masked. A clip's problems travel
# with its batch as one int32 with bit i set for REASONS[i], so that worker processes need no other
# channel to report them.
REASONS = (
    "missing_file",
    "unreadable_video",
    "unreadable_audio",
    "no_video",
    "no_audio",
    "no_captions",
    "empty_caption",
    "malformed_line",
    "missing_captions",
    "unreadable_captions",
    "too_large",
    "too_slow",
    "unreadable_record",
    "silent_audio",
    "duplicate_id",
    "unknown_words",
    "no_label",
)
# Sound with no sample above this (full scale is 1) is silence: three steps of 16 bits.
SILENCE = 1e-4


class BadInput(Exception):
    """A clip's media cannot be used; the modality is masked and the reason counted.

    Attributes:
      reason: one of ``REASONS``.
    """

    def __init__(self, reason: str, detail: str = ""):
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}; known: {', '.join(REASONS)}")
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Caption(NamedTuple):
    """A piece of narration with its time in the clip, in seconds."""

    text: str
    start: float = 0.0
    end: float = float("inf")


class Waveform(NamedTuple):
    """Mono sound: ``samples`` in [-1, 1], ``rate`` in Hz."""

    samples: Float32[np.ndarray, "S"]
    rate: int


class Grounding(NamedTuple):
    """What a span of a caption refers to, where a corpus knows it.

    Attributes:
      caption: index into ``Clip.captions``.
      start, end: character span of the phrase in that caption.
      boxes: [T, 4] as (top, left, bottom, right), each in fractions of the frame; the object's
        extent in every frame of the clip. A box may reach beyond 0 or 1 where the picture wraps.
      active: [T] whether what the phrase says is true of that frame.
    """

    caption: int
    start: int
    end: int
    boxes: np.ndarray
    active: np.ndarray


class Resizing(NamedTuple):
    """How pictures of another size are brought to the size of a batch.

    Attributes:
      fit: ``"crop"`` cuts out the middle in the aspect of the target, to fractions of a pixel, and
        resizes that. ``"cover"`` resizes the whole picture, in whole pixels, until it covers the
        target, and then cuts out the middle, as CLIP and torchvision do. ``"stretch"`` resizes the
        whole picture to the target, whatever its aspect, as SigLIP does.
      filter: ``"bilinear"`` or ``"bicubic"``, antialiased. Pictures are resized by Pillow, and
        frames of a video by FFmpeg, whose filters of these names differ a little.
      ratio: 1 or more. ``"crop"`` and ``"cover"`` leave out a border: the picture is brought to
        ``ratio`` times the height and width of the target, and the middle is cut out.
    """

    fit: str = "crop"
    filter: str = "bilinear"
    ratio: float = 1.0


CROPPED = Resizing()


FrameReader = Callable[[], UInt8[np.ndarray, "T H W 3"]]


@runtime_checkable
class FrameWriter(Protocol):
    """Pictures that are read in the number and size that a batch asks for, such as a ``Stretch``;
    or stored features, which have one size.
    """

    def fill(
        self,
        out: UInt8[np.ndarray, "T H W 3"] | Float16[np.ndarray, "T H W E"],
        resizing: Resizing = CROPPED,
    ) -> None:
        """Writes T pictures of H x W, or a feature map. Raises ``BadInput``."""

    def frames(self, count: int, size: int) -> UInt8[np.ndarray, "t h w 3"]:
        """At most ``count`` pictures for people to look at, the shorter side at most ``size``
        pixels. Raises ``BadInput``.
        """


SoundReader = Callable[[], Waveform]


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """Stands in a clip for pictures or sound that cannot be read."""

    reason: str
    detail: str

    def __call__(self) -> NoReturn:
        """Raises ``BadInput``."""
        raise BadInput(self.reason, self.detail)


@dataclasses.dataclass(frozen=True)
class Clip:
    """One record. Any modality may be absent (None, or no captions).

    Attributes:
      clip_id: stable name of the clip within its corpus; windows of one recording, each a record
        of its own, share it.
      video: an encoded image; a stretch of a recording, or another ``FrameWriter``; or a function
        that returns frames, from which a batch chooses. Reading may raise ``BadInput``.
      audio: a function that returns the sound, and may raise ``BadInput``.
      captions: the narration, in order of time.
      labels: the class index by kind of label, such as ``{"motion": 3}``; a tuple of indices for a
        kind of which a clip may have any number, such as ``{"sounds": (0, 4)}``.
      group: clips of one group, such as those cut from one recording, stay on one side of a split;
        empty where a clip stands alone.
      grounding: which phrases refer to what, where known.
      problems: reasons why something of the clip was left out when its record was read.
    """

    clip_id: str
    video: bytes | FrameWriter | FrameReader | None = None
    audio: SoundReader | None = None
    captions: tuple[Caption, ...] = ()
    labels: Mapping[str, int | tuple[int, ...]] = dataclasses.field(default_factory=dict)
    group: str = ""
    grounding: tuple[Grounding, ...] = ()
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Static sizes of a batch, from ``config.data``.

    A batch is a dict of arrays::

      video       uint8   [B, T, H, W, 3]     video_mask  bool [B]
                  float16 [B, T, H, W, E]     where E is ``features``
      audio       float32 [B, S]              audio_mask  bool [B]
      tokens      int32   [B, K, L]           text_mask   bool [B, K]
      phrase_ids  int32   [B, K, L]   phrase 1..P of each token, 0 outside phrases
      labels      int32   [B]                 labels_mask bool [B]
                  bool    [B, classes]  where ``several`` is set
      record      int32   [B]         index of the clip in its source
      problems    int32   [B]         bits of REASONS

    A modality of size zero (``frames``, ``samples`` or ``tokens``) is left out of the batch, and so
    are labels if ``label``, their kind, is empty. If ``features`` is above 0, the video is a stored
    feature map of that many channels; otherwise it is pixels, brought to H x W by ``resizing``.
    """

    frames: int
    height: int
    width: int
    samples: int
    sample_rate: int
    captions: int
    phrases: int
    tokens: int
    features: int = 0
    resizing: Resizing = CROPPED
    label: str = ""
    classes: int = 0
    several: bool = False

    def zeros(
        self, size: int, zeros: Callable[..., np.ndarray] = np.zeros
    ) -> dict[str, np.ndarray]:
        """A batch of zeros, with everything masked.

        Args:
          size: B.
          zeros: allocates an array of zeros, given a shape and a dtype.
        """
        video = (size, self.frames, self.height, self.width, self.features or 3)
        text = (size, self.captions, self.tokens)
        batch = {}
        if self.frames:
            of_video = np.float16 if self.features else np.uint8
            batch |= {"video": zeros(video, of_video), "video_mask": zeros((size,), bool)}
        if self.samples:
            sound = zeros((size, self.samples), np.float32)
            batch |= {"audio": sound, "audio_mask": zeros((size,), bool)}
        if self.tokens:
            batch |= {"tokens": zeros(text, np.int32), "phrase_ids": zeros(text, np.int32)}
            batch["text_mask"] = zeros(text[:2], bool)
        if self.label:
            labels = ((size, self.classes), bool) if self.several else ((size,), np.int32)
            batch |= {"labels": zeros(*labels), "labels_mask": zeros((size,), bool)}
        return batch | {name: zeros((size,), np.int32) for name in ("record", "problems")}
