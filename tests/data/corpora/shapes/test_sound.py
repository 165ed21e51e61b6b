"""Sounds: who sounds when, and what is heard of shape, colour and motion."""

import numpy as np

from fgmm.data.corpora.shapes import sound
from fgmm.data.corpora.shapes.scene import (
    COLOURS,
    MOTIONS,
    SHAPES,
    Item,
    Scene,
    World,
    draw_scene,
    generator,
)

WORLD = World(size=64, frames=8, fps=4.0, sample_rate=8000)
RATE = WORLD.sample_rate


def _heard(shape: int = 0, colour: int = 0, motion: int = 0, key: int = 0) -> np.ndarray:
    item = Item(shape, colour, 0, 0, 0, 0, motion, start=0, stop=8, pace=1.0, phase=0.0)
    return sound.render(Scene((item,), ()), WORLD, (0, key)).samples


def _strengths(samples: np.ndarray, colour: int) -> np.ndarray:
    """Strength of the first seven harmonics of a colour's pitch."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    places = sound.pitch(colour) * np.arange(1, 8) * len(samples) / RATE
    return np.array([spectrum[round(p) - 3 : round(p) + 4].max() for p in places])


def _loudness(samples: np.ndarray, window: int = RATE // 32) -> np.ndarray:
    """Root mean square in each 1/32 second."""
    return np.sqrt((samples.reshape(-1, window) ** 2).mean(axis=1))


def test_an_object_sounds_while_it_moves():
    for index in range(60):
        scene = draw_scene(generator(0, index), WORLD, movers=1, distractors=2)
        item = scene.movers[0]
        heard = sound.render(scene, WORLD, (0, index))
        assert heard.rate == RATE
        assert heard.samples.shape == (WORLD.samples,)
        assert np.abs(heard.samples).max() <= 1
        quiet = np.ones(WORLD.samples, bool)
        quiet[item.start * RATE // 4 : item.stop * RATE // 4] = False
        level = np.sqrt(np.mean(heard.samples[quiet] ** 2))
        assert 0.045 < level < 0.055
        beats = _loudness(heard.samples)[item.start * 8 : item.stop * 8]
        for bar in range(len(beats) // 16):
            assert beats[bar * 16 : bar * 16 + 2].min() > 1.5 * level


def test_silence_but_noise_without_movers():
    quiet = sound.render(Scene((), ()), WORLD, (1,)).samples
    assert abs(quiet.std() - 0.05) < 0.005


def test_timbre_tells_the_shape():
    for colour in range(len(COLOURS)):
        for shape, name in enumerate(SHAPES):
            found = _strengths(_heard(shape=shape, colour=colour, key=shape), colour)
            wanted = {
                n: np.resize(np.append(h, np.zeros(7)), 7) for n, h in sound._HARMONICS.items()
            }
            match = {n: found @ w / np.linalg.norm(w) for n, w in wanted.items()}
            assert max(match, key=match.get) == name


def test_pitch_tells_the_colour():
    for colour in range(len(COLOURS)):
        # The tone of a circle is a pure one.
        first = [
            _strengths(_heard(colour=colour, key=9), other)[0] for other in range(len(COLOURS))
        ]
        assert int(np.argmax(first)) == colour


def test_rhythm_tells_the_motion():
    templates = np.array([[int(b) for b in sound._RHYTHMS[m]] for m in MOTIONS], float)
    templates = np.tile(np.repeat(templates, 2, axis=1), 4)
    templates -= templates.mean(axis=1, keepdims=True)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    for motion in range(len(MOTIONS)):
        loudness = _loudness(_heard(shape=motion % len(SHAPES), motion=motion, key=motion))
        match = [max(np.roll(t, shift) @ loudness for shift in range(16)) for t in templates]
        assert int(np.argmax(match)) == motion


def test_the_highest_tone_has_no_aliases():
    top = sound.pitch(len(COLOURS) - 1)
    most = max(len(harmonics) for harmonics in sound._HARMONICS.values())
    assert top * most < sound.MIN_SAMPLE_RATE / 2
