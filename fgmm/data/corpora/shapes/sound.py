"""How a scene sounds: every moving object plays a tone while it moves, over noise.

Timbre tells the shape, pitch the colour, rhythm the motion.
"""

import functools

import numpy as np

from fgmm.data.corpora.shapes.scene import MOTIONS, SHAPES, Scene, World, generator
from fgmm.data.schema import Waveform

# Strengths of the harmonics 1, 2, 3, ... of a tone.
_HARMONICS = {
    "circle": (1,),
    "square": (1, 0, 0.8, 0, 0.7, 0, 0.6),
    "triangle": (1, 0.8, 0.65, 0.5, 0.4, 0.3, 0.25),
    "star": (0.35, 0, 0, 0, 1, 0.9),
    "ring": (0.3, 1, 0, 0.8),
    "cross": (0.5, 0, 1, 1),
}
# A bar of eight beats: whether a beat is played. No two correlate by more than 0.4 at any shift.
_RHYTHMS = {
    "left": "10001000",
    "right": "11101110",
    "up": "10010000",
    "down": "11110110",
    "clockwise": "10100000",
    "counterclockwise": "11111010",
    "shaking": "11000000",
    "bouncing": "11111100",
}
_BAR_SECONDS = 0.5
_LOWEST_HZ = 150.0
_PITCHES_PER_OCTAVE = 4
_TONE_RMS = 0.1
_NOISE_RMS = 0.05
MIN_SAMPLE_RATE = 8000  # the seventh harmonic of the highest pitch lies below half of it


def render(scene: Scene, world: World, stream: tuple[int, ...]) -> Waveform:
    """The sound of a scene; noise and phases are drawn from ``stream`` (see ``generator``)."""
    rng = generator(*stream)
    rate = world.sample_rate
    samples = rng.standard_normal(world.samples, dtype=np.float32)
    samples *= _NOISE_RMS
    for item in scene.movers:
        start, stop = (round(frame / world.fps * rate) for frame in (item.start, item.stop))
        rhythm = _rhythm(item.motion, rate, world.samples)[: stop - start]
        tone = _tone(item.shape, item.colour, rate, world.samples + rate)
        phase = rng.integers(rate)
        samples[start:stop] += rhythm * tone[phase : phase + stop - start]
    return Waveform(np.clip(samples, -1, 1, out=samples), rate)


def pitch(colour: int) -> float:
    """Fundamental frequency of a colour in Hz."""
    return _LOWEST_HZ * 2 ** (colour / _PITCHES_PER_OCTAVE)


@functools.cache
def _tone(shape: int, colour: int, rate: int, samples: int) -> np.ndarray:
    """A steady tone, float32 [samples], of equal strength for all shapes."""
    harmonics = np.array(_HARMONICS[SHAPES[shape]], float)
    harmonics *= _TONE_RMS / np.sqrt(np.sum(harmonics**2) / 2)
    cycles = pitch(colour) * np.arange(samples) / rate
    tone = sum(
        strength * np.sin(2 * np.pi * number * cycles)
        for number, strength in enumerate(harmonics, start=1)
    )
    return tone.astype(np.float32)


@functools.cache
def _rhythm(motion: int, rate: int, samples: int) -> np.ndarray:
    """Loudness over time, float32 [samples] in [0, 1], with beats softened against clicks."""
    beats = np.array([int(beat) for beat in _RHYTHMS[MOTIONS[motion]]], np.float32)
    played = beats[np.arange(samples) * len(beats) // round(_BAR_SECONDS * rate) % len(beats)]
    soft = np.hanning(round(0.012 * rate))
    return np.convolve(played, soft / soft.sum())[:samples].astype(np.float32)
