"""Shows a corpus before training on it: ``python -m fgmm.data.inspect``; see docs/data.md.

Writes random records and their statistics as one HTML file, which needs nothing but a browser.
"""

import collections
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from absl import flags
from jaxtyping import Float32, UInt8

from fgmm import atomic, command_line, components
from fgmm.config import ConfigError
from fgmm.data import contact_sheet
from fgmm.data.media import decode
from fgmm.data.preparation import raw as raws
from fgmm.data.schema import SILENCE, BadInput, Clip, FrameWriter
from fgmm.data.text import phrases

# Pixels of the shorter side of a picture, and pictures of a stretch of video.
_SIDE, _FRAMES = 160, 8


@dataclasses.dataclass(frozen=True)
class ClipReport:
    """What was found in a clip.

    Attributes:
      index: in the source.
      clip: the record.
      frames, sound: what could be decoded of it, or None.
      rate: of the sound, in Hz; 0 without sound.
      spans: of the phrases of each caption.
      problems: (reason, detail) of all that could not be read.
    """

    index: int
    clip: Clip
    frames: UInt8[np.ndarray, "T h w 3"] | None
    sound: Float32[np.ndarray, "S"] | None
    rate: int
    spans: tuple[tuple[phrases.Span, ...], ...]
    problems: tuple[tuple[str, str], ...]

    @property
    def silent(self) -> bool:
        """Whether there is sound, and all of it is silence."""
        return self.sound is not None and not bool((np.abs(self.sound) > SILENCE).any())


def see(
    source: Any, index: int, segmenter: str, rng: np.random.Generator | None = None
) -> ClipReport:
    """Reads all of a clip. What cannot be read is one of its problems.

    Args:
      source: as ``fgmm/data/sources`` describes it.
      index: of the clip.
      segmenter: name of the one that finds phrases.
      rng: with it, a source that has ``draw`` draws the clip as in training.
    """
    draws = rng is not None and hasattr(source, "draw")
    clip = source.draw(index, rng) if draws else source[index]
    problems = [(reason, "") for reason in clip.problems]

    def read(reader: Callable[[], Any] | None) -> Any:
        try:
            return reader() if reader else None
        except BadInput as error:
            problems.append((error.reason, str(error).removeprefix(f"{error.reason}: ")))
            return None

    video = clip.video
    if isinstance(video, bytes):
        frames = read(lambda: decode.read_image(video, _SIDE, _SIDE))
    elif isinstance(video, FrameWriter):
        frames = read(lambda: video.frames(_FRAMES, _SIDE))
    else:
        frames = read(video)
    sound = read(clip.audio)
    segment = phrases.find(segmenter)
    return ClipReport(
        index=index,
        clip=clip,
        frames=frames,
        sound=None if sound is None else sound.samples,
        rate=0 if sound is None else sound.rate,
        spans=tuple(tuple(segment(caption.text)) for caption in clip.captions),
        problems=tuple(problems),
    )


@dataclasses.dataclass
class Statistics:
    """Numbers of the clips looked at.

    Attributes:
      clips, without_video, without_sound, silent, without_captions: counts of clips. Clips whose
        video or sound cannot be read count as clips without it.
      sound_seconds: of each clip with sound.
      captions: how many each clip has.
      caption_seconds: of each caption with an end.
      words, phrases: how many each caption has.
      phrase_words: how many each phrase has.
      problems: the number of clips with each problem.
    """

    clips: int = 0
    without_video: int = 0
    without_sound: int = 0
    silent: int = 0
    without_captions: int = 0
    sound_seconds: list[float] = dataclasses.field(default_factory=list)
    captions: list[int] = dataclasses.field(default_factory=list)
    caption_seconds: list[float] = dataclasses.field(default_factory=list)
    words: list[int] = dataclasses.field(default_factory=list)
    phrases: list[int] = dataclasses.field(default_factory=list)
    phrase_words: list[int] = dataclasses.field(default_factory=list)
    problems: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, seen: ClipReport) -> None:
        """Counts a clip."""
        self.clips += 1
        self.without_video += seen.frames is None
        self.without_sound += seen.sound is None
        self.silent += seen.silent
        self.without_captions += not seen.clip.captions
        if seen.sound is not None:
            self.sound_seconds.append(len(seen.sound) / seen.rate)
        self.captions.append(len(seen.clip.captions))
        for caption, spans in zip(seen.clip.captions, seen.spans, strict=True):
            if np.isfinite(caption.end):
                self.caption_seconds.append(caption.end - caption.start)
            self.words.append(len(caption.text.split()))
            self.phrases.append(len(spans))
            self.phrase_words += [len(caption.text[a:b].split()) for a, b in spans]
        self.problems.update({reason for reason, _ in seen.problems})


def look(
    source: Any, *, shown: int, counted: int, seed: int, segmenter: str
) -> tuple[list[ClipReport], Statistics]:
    """Reads random clips of a source, each once; a source that has ``draw`` draws them.

    Args:
      source: as ``fgmm/data/sources`` describes it.
      shown: how many clips are returned, at most.
      counted: how many clips are in the statistics, at most. All that are shown are in them too.
      seed: of the random choice.
      segmenter: name of the one that finds phrases.

    Returns:
      The clips to be shown, and the statistics.
    """
    rng = np.random.default_rng(seed)
    count = min(max(shown, counted), len(source))
    statistics, kept = Statistics(), []
    # For a few clips of a large corpus, this makes no array as long as the corpus.
    drawn = rng.choice(len(source), count, replace=False, shuffle=True)
    for index in tqdm.tqdm(drawn.tolist(), unit=" clips", disable=None):
        seen = see(source, index, segmenter, rng)
        statistics.add(seen)
        if len(kept) < shown:
            kept.append(seen)
    return kept, statistics


def _define_flags() -> None:
    flags.DEFINE_string("source", None, raws.SOURCE_HELP)
    flags.DEFINE_string("input", None, "Its folder, for a corpus that has one.")
    flags.DEFINE_string("output", None, "The HTML file to be written.")
    flags.DEFINE_integer("records", 24, "Clips to show.")
    flags.DEFINE_integer(
        "sample", 200, "Clips that the statistics are of; --records, if that is more."
    )
    flags.DEFINE_integer("seed", 0, "Seed of the random choice.")
    flags.DEFINE_string("segmenter", "function_words", "What finds the phrases of a caption.")


def main(argv: list[str]) -> None:
    """Runs the program."""
    del argv
    given = flags.FLAGS
    output = command_line.file_to_write(command_line.required("output"))
    for name, lowest in (("records", 1), ("sample", 1), ("seed", 0)):
        if given[name].value < lowest:
            raise ConfigError(f"--{name}={given[name].value} must be at least {lowest}")
    phrases.find(given.segmenter, "--segmenter")
    chosen = raws.choose(command_line.required("source"), raw=False)
    entry = {"name": chosen.name, **chosen.options} | ({"root": given.input} if given.input else {})
    source = components.build("data.sources", entry, key="--source")
    kept, statistics = look(
        source,
        shown=given.records,
        counted=given.sample,
        seed=given.seed,
        segmenter=given.segmenter,
    )
    options = " ".join(f"{name}={value}" for name, value in chosen.options.items())
    page = contact_sheet.page(
        heading=f"{chosen.name} {options}".strip(),
        size=len(source),
        left_out=dict(source.report),
        segmenter=given.segmenter,
        seen=kept,
        statistics=statistics,
    )
    try:
        atomic.write_bytes(output, page.encode(errors="replace"))
    except OSError as error:
        sys.exit(f"error: --output={output} cannot be written: {error.strerror}")
    print(f"{statistics.clips} of {len(source)} clips looked at; written to {output}")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main)
