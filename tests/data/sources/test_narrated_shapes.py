"""The embedded corpus: determinism, truth, noise share, splits, and what one frame gives away."""

import hashlib
import itertools
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fgmm.config import ConfigError
from fgmm.data.corpora.shapes.scene import COLOURS, MOTIONS, SHAPES, active
from fgmm.data.schema import Clip
from fgmm.data.sources.narrated_shapes import Source

# The test's own reading of the narrator's words, to check sentences without trusting their spans.
_SYNONYMS = {
    "disc": "circle",
    "ball": "circle",
    "block": "square",
    "hoop": "ring",
    "turquoise": "cyan",
    "violet": "purple",
}
_SPLITS = ("train", "validation", "retrieval", "motion", "sound")


def _pairs_in(text: str) -> set[tuple[int, int]]:
    """(shape, colour) of the objects that a sentence names."""
    words = [_SYNONYMS.get(word, word) for word in re.findall(r"\w+", text)]
    return {
        (SHAPES.index(noun), COLOURS.index(adjective))
        for adjective, noun in itertools.pairwise(words)
        if adjective in COLOURS and noun in SHAPES
    }


def _digest(clip: Clip) -> str:
    found = hashlib.sha256(repr((clip.clip_id, clip.captions, clip.labels)).encode())
    found.update(clip.video().tobytes())
    found.update(clip.audio().samples.tobytes())
    for entry in clip.grounding:
        found.update(repr(entry[:3]).encode() + entry.boxes.tobytes() + entry.active.tobytes())
    return found.hexdigest()


def test_a_clip_has_the_promised_form():
    source = Source()
    assert len(source) == 20_000
    assert not source.report
    clip = source[5]
    assert clip.video().shape == (8, 64, 64, 3)
    assert clip.video().dtype == np.uint8
    assert clip.audio().samples.shape == (16_000,)
    assert clip.audio().samples.dtype == np.float32
    assert len(clip.captions) in (3, 4)
    assert source[-1].clip_id == source[19_999].clip_id
    with pytest.raises(IndexError):
        source[20_000]


def test_options_shape_the_clip():
    options = {"size": 48, "frames": 12, "fps": 6.0, "sample_rate": 16_000, "objects": (4, 4)}
    source = Source(**options, distractors=3, captions=(6, 6), clips=10)
    assert len(source) == 10
    assert source[0].video().shape == (12, 48, 48, 3)
    assert source[0].audio().rate == 16_000
    assert source[0].audio().samples.shape == (32_000,)
    assert len(source[0].captions) == 6
    assert len(source.scene(0).movers) == 4
    assert len(source.scene(0).distractors) == 3


def test_same_seed_same_bytes_in_any_order_and_after_pickling():
    forwards = [_digest(Source(seed=3)[index]) for index in range(20)]
    source = Source(seed=3)
    backwards = [_digest(source[index]) for index in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 20
    carried = pickle.loads(pickle.dumps(source))
    assert _digest(pickle.loads(pickle.dumps(carried[7]))) == forwards[7]
    clip = source[7]
    assert _digest(clip) == _digest(clip)


def test_the_corpus_is_the_one_that_results_were_published_on():
    """What is there and what is said; pixels and samples may be rounded differently elsewhere."""
    found = hashlib.sha256()
    for split in _SPLITS:
        source = Source(split=split)
        for index in (0, 1, 7, 8, 500, 999):
            clip, scene = source[index], source.scene(index)
            items = [item[:9] for item in scene.movers + scene.distractors]
            texts = [caption.text for caption in clip.captions]
            spans = [entry[:3] for entry in clip.grounding]
            found.update(repr((clip.clip_id, dict(clip.labels), items, texts, spans)).encode())
    expected = "1b36f85765563364f80c0ca9feb8ff0f1cab3c706d7b57890938091eb57eb987"
    assert found.hexdigest() == expected


def test_same_bytes_in_another_process(repository):
    program = (
        "import sys; sys.path.insert(0, 'tests/data/sources')\n"
        "from test_narrated_shapes import Source, _digest\n"
        "print(_digest(Source(seed=4, split='retrieval')[11]))"
    )
    environment = os.environ | {"PYTHONPATH": str(repository), "PYTHONHASHSEED": "77"}
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == _digest(Source(seed=4, split="retrieval")[11])


def test_seeds_and_splits_are_different_corpora():
    sources = [Source(seed=seed, split=split) for seed in (0, 1, 2**40) for split in _SPLITS]
    scenes = [source.scene(index) for source in sources for index in range(50)]
    assert len(set(scenes)) == len(scenes)
    frames = [source[0].video().tobytes() for source in sources]
    assert len(set(frames)) == len(frames)
    sounds = [source[0].audio().samples.tobytes() for source in sources]
    assert len(set(sounds)) == len(sounds)


def test_the_global_random_state_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    _digest(Source()[0])
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("split", "noise"), [("train", 0.5), ("validation", 0.3), ("train", 0.8)])
def test_the_share_of_noise_is_as_configured(split, noise):
    source = Source(split=split, noise=noise, clips=1800)
    sentences = noisy = 0
    for index in range(len(source)):
        clip = source[index]
        sentences += len(clip.captions)
        noisy += len(clip.captions) - len({entry.caption for entry in clip.grounding})
    assert abs(noisy / sentences - noise) < 0.02


@pytest.mark.usefixtures("unchecked_types")
def test_noise_speaks_of_nothing_that_is_here_and_truth_of_what_is():
    source = Source(noise=0.6, clips=1200)
    kinds = {"filler": 0, "elsewhere": 0, "absent": 0}
    for index in range(len(source)):
        clip, scene = source[index], source.scene(index)
        video = range(index - index % 8, index - index % 8 + 8)
        nearby = {m.pair for i in video if i != index for m in source.scene(i).movers}
        movers = {item.pair for item in scene.movers}
        true = {entry.caption for entry in clip.grounding}
        for number, caption in enumerate(clip.captions):
            named = _pairs_in(caption.text)
            if number in true:
                assert named
                assert named <= movers
            else:
                assert not named & scene.pairs
                kind = "absent" if named - nearby else "elsewhere" if named else "filler"
                kinds[kind] += 1
    total = sum(kinds.values())
    # Absent objects may happen to be seen nearby: 17 or so of 48 pairs are.
    assert kinds["filler"] / total == pytest.approx(1 / 3, abs=0.04)
    assert 1 / 3 < kinds["elsewhere"] / total < 0.5
    assert 0.18 < kinds["absent"] / total < 1 / 3


@pytest.mark.parametrize("split", _SPLITS)
def test_without_noise_every_sentence_is_grounded(split):
    source = Source(split=split, noise=0.0, clips=100)
    for index in range(len(source)):
        clip = source[index]
        assert {entry.caption for entry in clip.grounding} == set(range(len(clip.captions)))


@pytest.mark.usefixtures("unchecked_types")
def test_grounding_names_the_object_and_says_when_it_moves():
    source = Source(split="validation", clips=300)
    for index in range(len(source)):
        clip, scene = source[index], source.scene(index)
        by_pair = {item.pair: item for item in scene.movers}
        subjects, actions = clip.grounding[::2], clip.grounding[1::2]
        for subject, action in zip(subjects, actions, strict=True):
            text = clip.captions[subject.caption].text
            (pair,) = _pairs_in(text[subject.start : subject.end])
            assert not _pairs_in(text[action.start : action.end])
            assert subject.active.all()
            np.testing.assert_array_equal(action.active, active(by_pair[pair], source.world))
            np.testing.assert_array_equal(subject.boxes, action.boxes)
            assert subject.boxes.shape == (8, 4)


@pytest.mark.usefixtures("unchecked_types")
def test_retrieval_captions_speak_of_every_moving_object_and_seldom_repeat():
    source = Source(split="retrieval", noise=0.5)
    assert len(source) == 1000
    meanings, texts = [], []
    for index in range(len(source)):
        movers = source.scene(index).movers
        for caption in source[index].captions:
            assert _pairs_in(caption.text) == {item.pair for item in movers}
            texts.append(caption.text)
        meanings.append(frozenset((item.pair, item.motion) for item in movers))
    assert len(set(texts)) > 0.99 * len(texts)
    assert len(set(meanings)) > 0.98 * len(meanings)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("split", "names"), [("motion", MOTIONS), ("sound", SHAPES)])
def test_labels_hold_for_every_moving_object_and_are_balanced(split, names):
    source = Source(split=split, clips=2000)
    labels = []
    for index in range(len(source)):
        label = source[index].labels[split]
        for item in source.scene(index).movers:
            assert (item.motion if split == "motion" else item.shape) == label
        labels.append(label)
    assert source.classes[split] == names
    share = np.bincount(labels, minlength=len(names)) / len(labels)
    np.testing.assert_allclose(share, 1 / len(names), atol=0.03)
    assert Source(split="train")[0].labels == {}


@pytest.mark.usefixtures("unchecked_types")
def test_a_share_of_clips_is_silent():
    source = Source(silent=0.25, clips=2000)
    silent = np.mean([source[index].audio is None for index in range(len(source))])
    assert abs(silent - 0.25) < 0.03
    clean = Source(silent=1.0, split="sound", clips=20)
    assert all(clean[index].audio is not None for index in range(20))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"split": "test"}, "split='test'.*train, validation, retrieval, motion, sound"),
        ({"noise": 1.5}, r"noise=1\.5"),
        ({"silent": -0.1}, r"silent=-0\.1"),
        ({"clips": -1}, "clips=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"size": 8}, "size=8"),
        ({"frames": 1}, "frames=1"),
        ({"fps": 1.0}, r"fps=1\.0"),
        ({"fps": 25.0}, r"fps=25\.0"),
        ({"sample_rate": 4000}, "sample_rate=4000"),
        ({"objects": (3, 2)}, r"objects=\(3, 2\)"),
        ({"objects": (0, 2)}, r"objects=\(0, 2\)"),
        ({"distractors": -2}, "distractors=-2"),
        ({"captions": (0, 1)}, r"captions=\(0, 1\)"),
    ],
)
def test_wrong_options_are_refused_by_name(options, named):
    with pytest.raises(ConfigError, match=named):
        Source(**options)


def _correlation(first: np.ndarray, second: np.ndarray, reach: int = 6) -> np.ndarray:
    """Circular cross-correlation [n, (2 reach + 1)²] of pictures [n, H, W], up to ``reach``."""
    spectrum = np.conj(np.fft.rfft2(first)) * np.fft.rfft2(second)
    maps = np.roll(np.fft.irfft2(spectrum, s=first.shape[1:]), (reach, reach), (1, 2))
    return maps[:, : 2 * reach + 1, : 2 * reach + 1].reshape(len(maps), -1)


@pytest.mark.long
@pytest.mark.usefixtures("unchecked_types")
def test_one_frame_says_nothing_about_motion_and_several_do():
    count = 5000  # half to fit, half to score: chance is 12.5% with a standard error of 0.7
    source = Source(split="motion", clips=count)
    colours = np.empty((count, 8, 16, 16, 3), np.float32)
    greys = np.empty((count, 8, 32, 32), np.float32)
    labels = np.empty(count, int)
    for index in range(count):
        clip = source[index]
        frames = clip.video().reshape(8, 32, 2, 32, 2, 3)[:, :, 0, :, 0]
        colours[index] = frames[:, ::2, ::2]
        greys[index] = frames[..., 1]
        labels[index] = clip.labels["motion"]
    greys -= greys.mean(axis=(2, 3), keepdims=True)

    def score(features: np.ndarray) -> float:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=300))
        fit, held_out = slice(0, count // 2), slice(count // 2, count)
        return probe.fit(features[fit], labels[fit]).score(features[held_out], labels[held_out])

    chance = 1 / len(MOTIONS)
    for frame in (0, 4, 7):
        assert score(colours[:, frame].reshape(count, -1)) < chance + 0.03
        assert score(_correlation(greys[:, frame], greys[:, frame])) < chance + 0.03
    # The same probe on the same kind of features, of two successive differences of frames.
    before, after = greys[:, 4] - greys[:, 3], greys[:, 5] - greys[:, 4]
    assert score(_correlation(before, after)) > 0.6
