"""Windows of narrated recordings: the stretch of a clip, and the narrations that go with it."""

import dataclasses
import math

import numpy as np

from fgmm.data.corpora import narrations
from fgmm.data.media.stretch import MediaFile, Stretch, even_start, share_start
from fgmm.data.schema import Caption

# A stretch with its narrations, whose times count from its start.
Window = tuple[Stretch, tuple[Caption, ...]]


@dataclasses.dataclass(frozen=True)
class NarrationWindows:
    """A window around one narration, and the narrations nearest to it.

    Attributes:
      seconds: of a window.
      minimum: seconds to which the stretch of a shorter narration is widened, equally on both
        sides. The window is taken from within the stretch.
      candidates: K narrations at most, as ``narrations.nearest`` finds them.
    """

    seconds: float
    minimum: float
    candidates: int

    def __call__(
        self,
        recording: MediaFile | bytes,
        spoken: tuple[Caption, ...],
        rng: np.random.Generator | None,
        duration: float = math.inf,
    ) -> Window:
        """The window, and its narrations.

        Args:
          recording: what it is a window of.
          spoken: all narrations of it. Without any, the window is anywhere in the recording. The
            same holds if a narration has no end: narrations then describe the whole recording, and
            all are returned.
          rng: draws narration and window; without it both are in the middle. A narration that began
            before the recording (a piece of a longer one) is drawn only if all of them did.
          duration: of the recording, in seconds, if it is known. The window ends within the
            recording if the recording is long enough and the narration begins in it.
        """
        share = 0.5 if rng is None else float(rng.random())
        if not all(math.isfinite(caption.end) for caption in spoken) or not spoken:
            known = math.isfinite(duration)
            start = share_start(duration, self.seconds, share) if known else None
            return Stretch(recording, start, self.seconds, share), spoken
        drawn = [i for i, caption in enumerate(spoken) if caption.start >= 0] or range(len(spoken))
        number = drawn[len(drawn) // 2 if rng is None else int(rng.integers(len(drawn)))]
        start = self._start(spoken[number], share, duration)
        first, past = narrations.nearest(spoken, number, self.candidates)
        return Stretch(recording, start, self.seconds), since(start, spoken[first:past])

    def _start(self, caption: Caption, share: float, duration: float) -> float:
        """The start of the window, at ``share`` of its range within a narration's stretch."""
        # A window does not reach past the end of the recording: there are no pictures.
        past = duration if caption.start < duration else math.inf
        start, end = max(0.0, caption.start), min(caption.end, past)
        if end - start < self.minimum:
            start = max(0.0, (start + end - self.minimum) / 2)
            end = start + self.minimum
        start += share * max(0.0, end - start - self.seconds)
        return min(start, max(0.0, past - self.seconds))


@dataclasses.dataclass(frozen=True)
class EvenWindows:
    """Windows at equal distances from a recording's start to its end, each with what is said in it.

    Attributes:
      seconds: of a window.
      count: of windows; a single one is in the middle.
    """

    seconds: float
    count: int

    def __call__(
        self,
        recording: MediaFile | bytes,
        spoken: tuple[Caption, ...],
        duration: float,
        number: int,
    ) -> Window:
        """The window of a number, and its narrations.

        Args:
          recording: what it is a window of.
          spoken: all narrations of it.
          duration: of the recording, in seconds.
          number: of the window, from 0.
        """
        start = even_start(duration, self.seconds, number, self.count)
        end = start + self.seconds
        within = tuple(caption for caption in spoken if caption.start < end and caption.end > start)
        return Stretch(recording, start, self.seconds), since(start, within)


def since(start: float, spoken: tuple[Caption, ...]) -> tuple[Caption, ...]:
    """Captions with times counted from ``start``."""
    return tuple(Caption(text, a - start, b - start) for text, a, b in spoken)
