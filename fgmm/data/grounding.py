"""What phrases refer to, and when, in terms of a batch: its phrases, frames and feature maps."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from fgmm.config import ConfigError
from fgmm.data.media import decode
from fgmm.data.schema import BatchShape, Clip
from fgmm.data.text import phrases as phrases_lib


class Reference(NamedTuple):
    """A phrase and one object that it speaks of.

    Attributes:
      caption, phrase: indices from 0 of the caption in a batch (captions not joined), and of the
        phrase in the caption.
      boxes: [T, 4] as (top, left, bottom, right) in every frame of the batch, in fractions of its
        picture; they may reach beyond it.
      active: [T], the frames in which what the phrase says of the object is true.
      period: height and width after which a picture that wraps repeats itself, in the same unit.
      names_object: True if what the phrase says is true in the whole clip, as an object's name is;
        False if it is true in a part, as what the object does for a while.
    """

    caption: int
    phrase: int
    boxes: Float[np.ndarray, "T 4"]
    active: Bool[np.ndarray, "T"]
    period: tuple[float, float]
    names_object: bool


class TimeSpans(NamedTuple):
    """When what a phrase or a caption says is true.

    Attributes:
      caption, phrase: as in ``Reference``; phrase -1 for the whole caption.
      spans: start and end of each stretch of time, in fractions of the clip.
    """

    caption: int
    phrase: int
    spans: tuple[tuple[float, float], ...]


def of_clip(clip: Clip, shape: BatchShape, segmenter: phrases_lib.Segmenter) -> list[Reference]:
    """``references`` of a clip, whose frames are read for their size; none without a grounding.

    Raises:
      ConfigError: the video is no function that returns frames.
    """
    if not clip.grounding:
        return []
    if not callable(clip.video):
        kind = "an encoded image" if isinstance(clip.video, bytes) else type(clip.video).__name__
        raise ConfigError(
            f"clip {clip.clip_id!r}: boxes in {kind} are not supported; use a source whose "
            "video is a function that returns frames"
        )
    return references(clip, clip.video().shape[1:3], shape, segmenter)


def references(
    clip: Clip, size: tuple[int, int], shape: BatchShape, segmenter: phrases_lib.Segmenter
) -> list[Reference]:
    """The phrases of a clip that are known to refer to something, each once for each object.

    A grounded span belongs to the phrase that holds most of it, or to the first of several equals.
    Several spans in one phrase about one object (its name and what it does) are one reference.

    Args:
      clip: with its grounding.
      size: height and width of the frames in which the boxes are given.
      shape: of the batch. As in a batch, captions without words do not count, frames are the middle
        ones of T equal stretches, and pictures are cut about their centre to its aspect.
      segmenter: spans of phrases.
    """
    found = _in_clip(clip, size, shape, segmenter)
    return [_in_batch(reference, shape.frames) for reference in found]


def _in_clip(
    clip: Clip, size: tuple[int, int], shape: BatchShape, segmenter: phrases_lib.Segmenter
) -> list[Reference]:
    """``references`` in the frames of the clip."""
    spoken = [n for n, caption in enumerate(clip.captions) if caption.text.strip()]
    spans = {
        n: phrases_lib.fitting(text, segmenter(text), shape.phrases)
        for n in spoken[: shape.captions]
        for text in [clip.captions[n].text]
    }
    found: dict[tuple[int, int, bytes], Reference] = {}
    for span in clip.grounding:
        overlaps = [
            min(end, span.end) - max(start, span.start)
            for start, end in spans.get(span.caption, [])
        ]
        if max(overlaps, default=0) <= 0:
            continue
        caption, phrase = spoken.index(span.caption), int(np.argmax(overlaps))
        boxes, period = _in_picture(span.boxes, size, shape)
        key = caption, phrase, boxes.tobytes()
        active = np.asarray(span.active, bool) | (found[key].active if key in found else False)
        always = bool(active.all())
        found[key] = Reference(caption, phrase, boxes, active, period, always)
    return list(found.values())


def times_of_phrases(
    clip: Clip, shape: BatchShape, segmenter: phrases_lib.Segmenter
) -> list[TimeSpans]:
    """When the phrases of a clip are true.

    A phrase about several objects has the spans of all of them. If any part of the phrase is true
    in the whole clip, as an object's name is, the phrase has the whole clip.

    Args:
      clip: with its grounding.
      shape, segmenter: as of ``references``.
    """
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for reference in _in_clip(clip, (shape.height, shape.width), shape, segmenter):
        spans = found.setdefault((reference.caption, reference.phrase), [])
        spans.extend(span for span in _runs(reference.active) if span not in spans)
    whole = (0.0, 1.0)
    return [
        TimeSpans(*place, (whole,) if whole in spans else tuple(spans))
        for place, spans in found.items()
        if spans
    ]


def times_of_told(found: list[TimeSpans]) -> list[TimeSpans]:
    """When the captions of a clip are true, for those whose phrases have times.

    That is from the first start to the last end of the phrases that are true only for a while. A
    caption without such a phrase has the whole clip.

    Args:
      found: as ``times_of_phrases`` returns it.
    """
    of_captions: dict[int, list[tuple[float, float]]] = {}
    for times in found:
        spans = of_captions.setdefault(times.caption, [])
        spans.extend(span for span in times.spans if span != (0.0, 1.0))
    told = []
    for caption, spans in of_captions.items():
        start = min((start for start, _ in spans), default=0.0)
        end = max((end for _, end in spans), default=1.0)
        told.append(TimeSpans(caption, -1, ((start, end),)))
    return told


def _runs(active: Bool[np.ndarray, "T"]) -> list[tuple[float, float]]:
    """Runs of active frames as (start, end), in fractions of the clip."""
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0)) / len(active)
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def times_of_captions(clip: Clip, seconds: float, captions: int) -> list[TimeSpans]:
    """When the captions of a window are spoken. Those spoken during all of it are left out.

    Args:
      clip: a window; the times of its captions count from its start.
      seconds: its length.
      captions: K; only the first K captions with words are looked at.
    """
    found = []
    spoken = [caption for caption in clip.captions if caption.text.strip()]
    for number, caption in enumerate(spoken[:captions]):
        start, end = max(0.0, caption.start / seconds), min(1.0, caption.end / seconds)
        if start < end and (start, end) != (0.0, 1.0):
            found.append(TimeSpans(number, -1, ((start, end),)))
    return found


def _in_batch(reference: Reference, count: int) -> Reference:
    frames = decode.chosen_frames(len(reference.boxes), count)
    return reference._replace(boxes=reference.boxes[frames], active=reference.active[frames])


def _in_picture(boxes, size, shape):
    """Boxes in fractions of what ``decode.fit_frames`` shows of a picture, and their period."""
    if shape.resizing.fit == "stretch":
        return np.asarray(boxes, float), (1.0, 1.0)
    size, target = np.array(size), np.array((shape.height, shape.width))
    scale = (size / target).min() / shape.resizing.ratio
    shown = scale * target / size
    boxes = (np.asarray(boxes, float) - np.tile((1 - shown) / 2, 2)) / np.tile(shown, 2)
    return boxes, tuple((1 / shown).tolist())


def inside(reference: Reference, rows: int, columns: int) -> Bool[np.ndarray, "T H W"]:
    """Which of ``rows`` x ``columns`` equal cells of the picture have their centre in the box.

    Cells of all frames count, active or not.
    """
    axes = []
    for axis, cells in enumerate((rows, columns)):
        centres = (np.arange(cells) + 0.5) / cells
        low, high = reference.boxes[:, axis, None], reference.boxes[:, axis + 2, None]
        axes.append((centres - low) % reference.period[axis] < high - low)
    return axes[0][:, :, None] & axes[1][:, None, :]


def over_time(frames: Bool[np.ndarray, "T *rest"], cells: int) -> Bool[np.ndarray, "t *rest"]:
    """For each of ``cells`` equal parts of time, whether any frame that it overlaps is true."""
    count = len(frames)
    starts = np.arange(cells) * count // cells
    stops = -(-np.arange(1, cells + 1) * count // cells)
    return np.stack(
        [frames[start:stop].any(axis=0) for start, stop in zip(starts, stops, strict=True)]
    )


def cell_of_frame(frames: int, cells: int) -> np.ndarray:
    """For each frame, the index [T] of the one of ``cells`` parts of time that holds its middle."""
    return (2 * np.arange(frames) + 1) * cells // (2 * frames)
