"""A model in a notebook gives what evaluations give, and says what is wrong with its input."""

import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fgmm
from configs import quickstart
from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.data.media import av_files
from fgmm.eval import retrieval
from fgmm.experiment import build as experiments
from fgmm.losses.term import Side
from fgmm.train import checkpoint
from tests.data.video_fixture import FPS, numbered, sung, write_video
from tests.shrunken import shrunken

CLIPS = 6


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a run of three steps, so to say."""
    config = shrunken(quickstart.get_config("fine=info_nce"), steps=3)
    # Clips have more frames and are larger than the model takes.
    config.data.frames, config.data.height = 2, 12
    config.evals.retrieval.source.clips = CLIPS
    # A second space, without text.
    config.model.spaces.fine = {"modalities": ("video", "audio"), "width": 4, "pool": "max"}
    config.objective.terms.fine_video_audio.space = "fine"
    experiment = experiments.build(config)
    state = jax.jit(experiment.init)(0)
    state = state.replace(statistics=jax.tree.map(lambda x: x + 0.25, state.statistics))
    return saved(experiment, state, tmp_path_factory.mktemp("run"))


def saved(experiment, state, path):
    checkpoints = checkpoint.Checkpoints(path, experiment, experiment.config.checkpoint)
    checkpoints.save(3, state.replace(step=state.step + 3), {})
    checkpoints.close()
    return path


@pytest.fixture(scope="module")
def model(workdir):
    return fgmm.load(workdir, batch_size=4)


@pytest.fixture(scope="module")
def clips(model):
    experiment = model.experiment
    source = experiment.source(experiment.config.evals.retrieval.source, "source")
    return [source[i] for i in range(CLIPS)]


@pytest.fixture(scope="module")
def frames(clips):
    return np.stack([clip.video() for clip in clips])


@pytest.fixture(scope="module")
def texts(clips):
    return [". ".join(c.text.rstrip(" .") for c in clip.captions) for clip in clips]


def test_embeddings_are_those_of_evaluations(model, clips, frames, texts):
    experiment = model.experiment
    source = experiment.source(experiment.config.evals.retrieval.source, "source")
    ((batch, count),) = pipeline.evaluation_batches(experiment.assembler(source), CLIPS)
    assert count == CLIPS
    batch = {k: v for k, v in batch.items() if k not in pipeline.HOST_ONLY}
    expected = experiment.embed(model.state, batch)
    sounds = [clip.audio() for clip in clips]
    (rate,) = {sound.rate for sound in sounds}
    found = {
        "video": model.embed_video(frames, local=True),
        "audio": model.embed_audio([s.samples for s in sounds], rate=rate, local=True),
        "text": model.embed_text(texts, local=True),
    }
    for modality, ours in found.items():
        theirs = expected["joint"][modality]
        assert (ours.modality, ours.space) == (modality, "joint")
        coarse, local, mask = theirs.coarse, theirs.local, theirs.mask
        if modality == "text":
            coarse, local, mask = coarse[:, 0], local[:, 0], mask[:, 0]
        np.testing.assert_allclose(ours.coarse, coarse, atol=1e-5)
        np.testing.assert_allclose(ours.local, local, atol=1e-5)
        np.testing.assert_array_equal(ours.mask, mask)
        assert np.prod(ours.grid) == ours.local.shape[1]
        assert np.abs(ours.coarse[0] - ours.coarse[1]).max() > 1e-3
    segments = expected["joint"]["audio_segments"]
    np.testing.assert_allclose(found["audio"].segments[0], segments.local[:, 0], atol=1e-5)
    fine = model.embed_video(list(frames), space="fine")
    np.testing.assert_allclose(fine, expected["fine"]["video"].coarse, atol=1e-5)


def test_sound_and_pictures_are_compared_by_the_coarse_embeddings_of_segments(model, clips, frames):
    """With max pooling, those of the segments are not those of the patches."""
    sounds = [clip.audio() for clip in clips]
    options = {"space": "fine", "local": True}
    x = model.embed_video(frames, **options)
    y = model.embed_audio([s.samples for s in sounds], rate=sounds[0].rate, **options)
    evaluation = retrieval.Evaluation(
        source=model.experiment.config.evals.retrieval.source.to_dict(),
        pair="video_audio",
        space="fine",
    )
    bound = evaluation.bind(model.experiment)
    gallery, _ = bound._gallery(model.state)
    everything = slice(0, CLIPS), slice(0, CLIPS)
    coarse = bound._tile(model.state.params["objective"], gallery, *everything)["coarse"]
    np.testing.assert_allclose(model.similarity(x, y), coarse, atol=1e-5)
    np.testing.assert_allclose(model.similarity(y, x), coarse.T, atol=1e-5)
    assert np.abs(x.coarse @ y.coarse.T - coarse).max() > 1e-3


def test_similarities_are_those_of_retrieval(model, frames, texts, monkeypatch):
    x = model.embed_video(frames, local=True)
    y = model.embed_text(texts, local=True)
    entry = model.experiment.config.evals.retrieval
    bound = retrieval.Evaluation(source=entry.source.to_dict()).bind(model.experiment)
    gallery, _ = bound._gallery(model.state)
    everything = slice(0, len(gallery.x)), slice(0, len(gallery.y))
    scores = bound._tile(model.state.params["objective"], gallery, *everything)
    total, fine, coarse = (scores[name] for name in ("sum", "fine", "coarse"))
    np.testing.assert_allclose(model.similarity(x, y), coarse, atol=1e-5)
    np.testing.assert_allclose(model.similarity(x, y, level="fine"), fine, atol=1e-5)
    np.testing.assert_allclose(model.similarity(y, x, level="fine"), fine.T, atol=1e-5)
    np.testing.assert_allclose(model.similarity(x.coarse, y.coarse), coarse, atol=1e-5)
    monkeypatch.setattr("fgmm.trained._BLOCK", 4)
    np.testing.assert_allclose(model.similarity(x, y, level="fine"), fine, atol=1e-5)
    np.testing.assert_allclose(model.similarity(y, x, level="sum"), total.T, atol=1e-3)


def test_gates_of_a_run_weigh_its_fine_similarity(tmp_path):
    config = shrunken(quickstart.get_config("fine=gated"), steps=3)
    experiment = experiments.build(config)
    state = jax.jit(experiment.init)(0)
    params = state.params["model"]
    for name in ("gates_joint_video", "gates_joint_text"):
        kernel = params[name]["logit"]["kernel"]
        drawn = 3 * jax.random.normal(jax.random.key(len(name)), kernel.shape)
        params[name]["logit"]["kernel"] = drawn
    saved(experiment, state, tmp_path)
    model = fgmm.load(tmp_path, batch_size=4)
    shape = experiment.shape
    frames = np.random.default_rng(0).integers(
        0, 256, (3, shape.frames, shape.height, shape.width, 3), np.uint8
    )
    x = model.embed_video(frames, local=True)
    y = model.embed_text(["a red ball rolls over the grass", "the star sinks"], local=True)
    assert np.ptp(x.gates) > 0.1
    term = experiment.objective.terms["fine_video_text"].term
    parameters = model.state.params["objective"]["fine_video_text"]
    weighed = term.score(parameters, *(jax.tree.map(jnp.asarray, Side.of(v)) for v in (x, y)))
    found = model.similarity(x, y, level="fine")
    np.testing.assert_allclose(found, weighed.values, atol=1e-5)
    flat = dataclasses.replace(x, gates=np.zeros_like(x.gates))
    assert np.abs(model.similarity(flat, y, level="fine") - found).max() > 1e-4


def test_sound_and_pictures_have_a_fine_similarity_by_time(model, frames, clips):
    x = model.embed_video(frames[:2], space="fine", local=True)
    y = model.embed_audio([clip.audio().samples for clip in clips], space="fine", local=True)
    assert model.similarity(x, y, level="fine").shape == (2, CLIPS)
    text = model.embed_text(["a ball"], local=True)
    with pytest.raises(ValueError, match="x is in space 'fine', y in 'joint'; embed both in one"):
        model.similarity(x, text)
    audio = model.embed_audio([clip.audio().samples for clip in clips], local=True)
    video = model.embed_video(frames[:2], local=True)
    with pytest.raises(ValueError, match="no fine term on video_audio in space 'joint'"):
        model.similarity(video, audio, level="fine")
    with pytest.raises(ValueError, match="video and video have no fine similarity"):
        model.similarity(video, video, level="fine")
    with pytest.raises(TypeError, match="local=True"):
        model.similarity(video.coarse, audio.coarse, level="fine")
    with pytest.raises(ValueError, match="level='finest' is unknown; allowed: sum, fine, coarse"):
        model.similarity(video, audio, level="finest")
    wrong = r"x and y have shapes \(2, 8\) and \(8,\); expected \[X,D\] and \[Y,D\] with the same D"
    with pytest.raises(ValueError, match=wrong):
        model.similarity(video, audio.coarse[0])
    with pytest.raises(ValueError, match="term='fine' belongs to the levels fine and sum"):
        model.similarity(video, audio, term="fine")
    with pytest.raises(ConfigError, match="term='other' is no fine term on video_text"):
        model.similarity(video, text, level="fine", term="other")


def test_any_number_of_inputs(model, frames, texts):
    whole = model.embed_video(frames)
    assert whole.shape == (CLIPS, 8)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)
    one_by_one = np.concatenate([model.embed_video(frames[i : i + 1]) for i in range(CLIPS)])
    np.testing.assert_allclose(whole, one_by_one, atol=1e-6)
    assert model.embed_text(texts).shape == (CLIPS, 8)
    assert model.embed_text([]).shape == (0, 8)
    nothing = model.embed_video(frames[:0], local=True)
    assert nothing.local.shape == (0, np.prod(nothing.grid), 8)
    assert len(nothing) == 0
    assert model.similarity(nothing, model.embed_text(texts, local=True), level="fine").shape == (
        0,
        CLIPS,
    )


def test_floats_are_pixels_too(model, frames):
    expected = model.embed_video(frames)
    np.testing.assert_array_equal(model.embed_video(frames / 255), expected)
    np.testing.assert_array_equal(model.embed_video(frames.astype(np.float32) / 255), expected)
    image = frames[:, 0]
    still = np.repeat(frames[:, :1], 5, axis=1)
    np.testing.assert_array_equal(model.embed_image(image), model.embed_video(still))
    np.testing.assert_array_equal(model.embed_image(list(image / 255)), model.embed_video(still))


def test_clips_of_other_sizes_are_cropped_and_resized(model, frames):
    shape = model.experiment.shape
    assert frames.shape[1:4] != (shape.frames, shape.height, shape.width)
    large = frames.repeat(2, axis=2).repeat(2, axis=3)
    mixed = model.embed_video([frames[0], large[0], frames[0, :1]])
    assert mixed.shape == (3, 8)
    assert mixed[0] @ mixed[1] > 0.98
    grey = np.full((1, 1, 40, 90, 3), 90, np.uint8)
    marked = grey.copy()
    marked[..., :10, :] = 255  # outside the crop
    np.testing.assert_array_equal(model.embed_video(grey), model.embed_video(marked))


def test_sound_is_resampled_cut_and_filled_up(model, clips):
    sound = clips[0].audio().samples
    rate, length = model.experiment.shape.sample_rate, model.experiment.shape.samples
    reference = model.embed_audio([sound])
    np.testing.assert_allclose(model.embed_audio([sound[:length]]), reference, atol=1e-6)
    padded = np.concatenate([sound[:1000], np.zeros(length)])
    np.testing.assert_allclose(
        model.embed_audio([sound[:1000]]), model.embed_audio([padded]), atol=1e-6
    )
    assert np.abs(model.embed_audio([sound], rate=2 * rate) - reference).max() > 1e-4


def test_a_few_inputs_are_no_full_batch(model, frames, monkeypatch):
    sizes = []
    batch = type(model.experiment).blank_batch

    def noted(self, size):
        sizes.append(size)
        return batch(self, size)

    monkeypatch.setattr(type(model.experiment), "blank_batch", noted)
    for count in (1, 2, 3, CLIPS):
        model.embed_video(frames[:count])
    assert sizes == [1, 2, 4, 4, 2]


def test_one_bad_caption_costs_no_other(model, texts):
    expected = model.embed_text(texts[:2])
    with pytest.warns(
        UserWarning, match=r"texts\[1\]='🚀' holds no word .*; its embedding is zero"
    ):
        found = model.embed_text([texts[0], "🚀", texts[1], ""], local=True)
    np.testing.assert_allclose(found.coarse[[0, 2]], expected, atol=1e-6)
    np.testing.assert_array_equal(found.coarse[[1, 3]], 0)
    assert not found.mask[[1, 3]].any()
    with pytest.raises(ValueError, match=r"texts\[1\]='🚀' holds no word"):
        model.embed_text([texts[0], "🚀"], strict=True)


def test_channels_of_a_sound_are_averaged(model, clips):
    sound = clips[0].audio().samples
    both = np.stack([sound, np.zeros_like(sound)], axis=1)
    expected = model.embed_audio([sound / 2])
    for given in (both, both.T):
        np.testing.assert_allclose(model.embed_audio([given]), expected, atol=1e-6)


def test_files_and_pictures_of_pil(model, tmp_path):
    seconds = model.experiment.config.data.seconds
    pictures = [numbered(i, 24, 32) for i in range(round(3 * seconds * FPS))]
    video = write_video(tmp_path / "a.mp4", pictures, sound=sung(3 * seconds))
    shape = model.experiment.shape
    out = np.zeros((1, shape.frames, shape.height, shape.width, 3), np.uint8)
    av_files.fill_frames(video, out[0], start=seconds, seconds=seconds)
    found = model.embed_video([video, str(video)])
    np.testing.assert_allclose(found, np.repeat(model.embed_video(out), 2, axis=0), atol=1e-6)
    heard = av_files.read_sound(video, start=seconds, seconds=seconds)
    expected = model.embed_audio([heard.samples], rate=heard.rate)
    np.testing.assert_allclose(model.embed_audio([video]), expected, atol=1e-4)
    picture = Image.fromarray(pictures[3])
    picture.save(tmp_path / "a.png")
    expected = model.embed_image(pictures[3][None])
    for given in (picture, tmp_path / "a.png", picture.convert("RGBA")):
        np.testing.assert_allclose(model.embed_image([given]), expected, atol=1e-6)
    clip = [Image.fromarray(p) for p in pictures[:4]]
    expected = model.embed_video([np.stack(pictures[:4])])
    np.testing.assert_allclose(model.embed_video([clip]), expected, atol=1e-6)


NAN = np.full((1, 2, 4, 4, 3), np.nan)


@pytest.mark.parametrize(
    ("method", "given", "error", "message"),
    [
        ("video", np.zeros((2, 4, 4, 3), np.uint8), ValueError, r"frames\[0\] has shape \(4, 4, 3"),
        ("video", np.zeros((1, 2, 4, 4, 1), np.uint8), ValueError, r"expected \[T,H,W,3\], RGB"),
        ("video", [np.zeros((0, 4, 4, 3), np.uint8)], ValueError, "no pixels"),
        ("video", NAN, ValueError, r"frames\[0\] holds pixels that are NaN or infinite"),
        ("video", np.full((1, 2, 4, 4, 3), 255.0), ValueError, "ranges from 255 to 255; floats"),
        ("video", np.full((1, 2, 4, 4, 3), -0.5), ValueError, r"must be in \[0, 1\]"),
        ("video", np.zeros((1, 2, 4, 4, 3), np.int32), TypeError, r"is of int32; give uint8, or"),
        ("video", 5, TypeError, r"frames is int; give \[B,T,H,W,3\], or a list"),
        ("video", iter([]), TypeError, "frames is .*iterator; give"),
        ("image", NAN[0], ValueError, r"images\[0\] holds pixels that are NaN"),
        ("image", NAN, ValueError, r"images\[0\] has shape \(2, 4, 4, 3\); expected \[H,W,3\]"),
        ("audio", [np.zeros((2, 9))], ValueError, r"waveform\[0\] has shape \(2, 9\); expected"),
        ("audio", np.zeros(9), ValueError, r"waveform has shape \(9,\), that of one sound"),
        ("audio", np.zeros((2, 0)), ValueError, "of C channels, not empty"),
        ("audio", [np.ones(9, np.int16)], TypeError, r"is of int16; give floats in \[-1, 1\]"),
        ("audio", [np.ones(9), np.full(9, np.inf)], ValueError, r"waveform\[1\] holds samples"),
        ("audio", [np.full(9, 32767.0)], ValueError, r"reaches 32767; samples must be in"),
        (
            "audio",
            np.zeros((16000, 2)),
            ValueError,
            r"waveform has shape \(16000, 2\), that of one",
        ),
        ("audio", np.zeros((16000, 1)), ValueError, r"\(16000, 1\), that of one sound"),
        ("audio", None, TypeError, r"waveform is None; give \[B,S\], or a list of sounds"),
        ("audio", [None], TypeError, r"waveform\[0\] is None; give an array \[S\]"),
        ("audio", ["gone.wav"], ValueError, r"waveform\[0\]='gone.wav' cannot be read"),
        ("video", {"a": 1}, TypeError, r"frames is dict; give \[B,T,H,W,3\]"),
        ("video", "a.mp4", TypeError, r"frames is one str; give a list, frames=\[...\]"),
        ("video", ["gone.mp4"], ValueError, r"frames\[0\]='gone.mp4' cannot be read"),
        (
            "video",
            [[np.zeros((4, 4, 3)), np.zeros((5, 4, 3))]],
            ValueError,
            r"frames\[0\] has parts",
        ),
        ("image", Image.new("RGB", (8, 8)), TypeError, r"images is one Image; give a list"),
        ("image", [{}], TypeError, r"images\[0\] is dict; give an array \[H,W,3\]"),
        ("text", "a ball", TypeError, r"texts is one str; give a list, texts=\[...\]"),
        ("text", (text for text in ["a"]), TypeError, "texts is generator; give a list of strings"),
        ("text", None, TypeError, "texts is None; give a list of strings"),
        ("text", {"a ball": 1}, TypeError, "texts is dict; give a list of strings"),
        ("text", [" "], ValueError, r"texts\[0\]=' ' is empty"),
        (
            "text",
            ["红球滚动"],
            ValueError,
            r"texts\[0\]='红球滚动' holds no word that the tokenizer",
        ),
        ("text", ["🚀", "红球"], ValueError, r"texts\[0\]='🚀' holds no word that the tokenizer"),
        ("text", ["..."], ValueError, "holds no word that the tokenizer knows"),
        ("text", [b"a ball"], TypeError, r"texts\[0\] is bytes; give a list of strings"),
    ],
)
def test_wrong_input_is_named(model, method, given, error, message):
    with pytest.raises(error, match=message):
        getattr(model, f"embed_{method}")(given)


def test_wrong_spaces_rates_and_modalities_are_named(model, frames):
    with pytest.raises(ValueError, match="space='other' has no video; allowed: fine, joint"):
        model.embed_video(frames, space="other")
    with pytest.raises(ValueError, match="space='fine' has no text; allowed: joint"):
        model.embed_text(["a ball"], space="fine")
    with pytest.raises(ValueError, match="rate=0 must be at least 1"):
        model.embed_audio([np.zeros(9)], rate=0)
    with pytest.raises(TypeError, match=r"^rate must be an int; got 44100\.0 \(float\)$"):
        model.embed_audio([np.zeros(9)], rate=44100.0)
    assert model.modalities == ("video", "audio", "text")
    assert repr(model) == (
        "<fgmm model after 3 steps; fine: video, audio; joint: video, audio, text>"
    )


def test_a_modality_that_the_model_lacks_is_named(model, monkeypatch):
    monkeypatch.setattr(type(model), "modalities", ("video", "text"))
    with pytest.raises(ValueError, match="has no encoder of audio; it has video, text"):
        model.embed_audio([np.zeros(9)])


def test_a_wrong_path_is_named(tmp_path, workdir):
    with pytest.raises(ConfigError, match=r"^workdir=.*gone holds no checkpoints"):
        fgmm.load(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"^workdir=.*/a--b holds no checkpoints"):
        fgmm.load(tmp_path / "a--b")
    with pytest.raises(ConfigError, match=r"^there is no checkpoint of step='7'; allowed: .*, 3$"):
        fgmm.load(str(workdir), step=7)
    with pytest.raises(ConfigError, match="batch_size=0 must be at least 1"):
        fgmm.load(workdir, batch_size=0)
    with pytest.raises(ConfigError, match=r"^batch_size must be an int; got 2\.0 \(float\)$"):
        fgmm.load(workdir, batch_size=2.0)
    with pytest.raises(ConfigError, match="workdir=None is no path; give the folder of a run"):
        fgmm.load(None)
    assert "load" in dir(fgmm)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = fgmm.lode


@pytest.mark.parametrize(
    "part", ["state/_METADATA", "config/metadata", "state/ocdbt.process_0/d/*"]
)
def test_a_checkpoint_cut_short_is_named(tmp_path, workdir, part):
    damaged = tmp_path / "run"
    shutil.copytree(workdir, damaged)
    largest = max(damaged.glob(f"checkpoints/3/{part}"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(
        ConfigError, match=r"^workdir=.*\(step=latest\) cannot be read, .*"
    ) as caught:
        fgmm.load(damaged)
    assert len(str(caught.value).splitlines()) == 1
    # What evaluations and init_from open it with says the same, with the names of their flags.
    with pytest.raises(ConfigError, match=r"^--workdir=.*\(--step=latest\) cannot be read, .*"):
        checkpoint.read(damaged)


def test_the_example_of_the_readme_runs(repository, workdir, frames, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    (example,) = [block for block in blocks if "fgmm.load" in block]
    code = [line for line in example.splitlines() if line and not line.startswith("#")]
    assert len(code) <= 6
    assert 'fgmm.load("runs/a")' in example
    names = {"frames": frames}
    exec(example.replace("runs/a", str(workdir)), names)
    assert names["scores"].shape == (CLIPS, 2)
