"""Pictures from a checkpoint, as a program and piece by piece."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.data.schema import BadInput, Caption
from fgmm.experiment import build as experiments
from fgmm.report import alignment
from fgmm.train.checkpoint import Checkpoints
from tests import programs
from tests.shrunken import shrunken

SOURCE = {
    "name": "narrated_shapes",
    "split": "retrieval",
    "clips": 6,
    "size": 32,
    "frames": 4,
    "captions": (2, 3),
}


@functools.cache
def built(argument="fine=info_nce"):
    return experiments.build(shrunken(quickstart.get_config(argument)))


@functools.cache
def state_of(argument="fine=info_nce"):
    return jax.jit(built(argument).init)(3)


@functools.cache
def sheets_of(argument="fine=info_nce"):
    aligned = alignment.Alignment(built(argument), state_of(argument), SOURCE)
    return list(aligned.sheets(3))


def test_pitches_are_at_the_bands_that_hear_them_most():
    aligned = alignment.Alignment(built(), state_of(), SOURCE)
    transforms = aligned.experiment.transforms
    seconds = np.arange(transforms.sample_rate) / transforms.sample_rate
    ticks = aligned._mel_ticks()
    assert len(ticks) >= 2
    for place, label in ticks:
        hertz = 1000 * float(label.removesuffix(" kHz"))
        tone = np.sin(2 * np.pi * hertz * seconds).astype(np.float32)
        heard = np.asarray(transforms._spectrogram(jnp.asarray(tone[None])))[0].mean(axis=0)
        assert abs(np.argmax(heard) - place) <= 0.51


def test_every_phrase_of_the_first_captions_has_a_strip():
    assert [clip.clip_id for clip, _ in sheets_of()] == [
        "retrieval/000000/0",
        "retrieval/000000/2",
        "retrieval/000000/4",
    ]
    for clip, sheet in sheets_of():
        first, *phrases, last = [block.title for block in sheet.blocks]
        assert (first, last) == ("the clip", "the sound of the moment")
        assert 2 <= len(phrases) <= 12
        said = " ".join(phrases)
        words = re.findall(r"\w+", clip.captions[0].text)
        assert re.findall(r"\w+", said)[: len(words)] == words
        assert clip.clip_id in sheet.heading[0]
        assert "narrated_shapes/retrieval, step 0" in sheet.heading[0]
        text = " ".join(sheet.heading)
        assert "attention of fine_video_text (info_nce, pool softmax at temperature 0.1)" in text
        assert "weights of phrases: uniform" in text
        for block in sheet.blocks[1:-1]:
            assert f"weight {1 / len(phrases):.2f}" in block.details
            assert block.map.shape == (2, 4, 4)
            assert block.map.max() == pytest.approx(1)
            assert block.sound_map.max() == pytest.approx(1)


def test_what_gates_silence_is_drawn():
    """Gates start at zero; then one cell and one phrase are left."""
    for _, sheet in sheets_of("fine=gated"):
        gates, *phrases, _ = sheet.blocks[1:]
        assert gates.title == "learned weights of cells"
        assert "in the picture: peak 3.1% (uniform 3.1%)" in gates.details
        np.testing.assert_allclose(gates.map, 1)
        assert "weights of phrases: learned, of the phrases alone" in " ".join(sheet.heading)
        for block in phrases:
            assert f"weight {1 / len(phrases):.2f}" in block.details
    state = state_of("fine=gated")
    model = dict(state.params["model"])
    for modality in ("video", "text"):
        kernel = model[f"gates_joint_{modality}"]["logit"]["kernel"]
        sharp = 1e4 * jax.random.normal(jax.random.key(0), kernel.shape)
        model[f"gates_joint_{modality}"] = {"logit": {"kernel": sharp}}
    state = state.replace(params={**state.params, "model": model})
    aligned = alignment.Alignment(built("fine=gated"), state, SOURCE)
    for _, sheet in aligned.sheets(1):
        gates, *phrases, _ = sheet.blocks[1:]
        assert "in the picture: peak 100.0%" in gates.details
        assert sum("in the sound" in block.details for block in phrases) == len(phrases)
        assert sum("weight 1.00" in block.details for block in phrases) == 1


def test_boxes_and_hits_are_those_of_the_phrase():
    named = 0
    for clip, sheet in sheets_of():
        boxes = {span.boxes[1].tobytes() for span in clip.grounding}
        for block in sheet.blocks[1:-1]:
            if not block.boxes:
                assert block.peak.hit is None
                continue
            named += 1
            assert [box.frame for box in block.boxes[:2]] == [0, 1]
            # Frames 1 and 3 of the clip's four are those of the batch.
            first = block.boxes[0]
            edges = np.array([first.top, first.left, first.bottom, first.right])
            assert edges.tobytes() in boxes
            inside = any(
                box.active
                and (block.peak.row - box.top) % 1 < box.bottom - box.top
                and (block.peak.column - box.left) % 1 < box.right - box.left
                for box in block.boxes
                if box.frame in block.peak.frames
            )
            assert block.peak.hit == inside
    assert named > 5


def test_a_coarse_checkpoint_has_class_activation_maps_and_no_weights():
    for _, sheet in sheets_of("fine=none"):
        text = " ".join(sheet.heading)
        assert "class activation map of coarse_video_text" in text
        assert "weights of phrases" not in text
        assert all("weight" not in block.details for block in sheet.blocks)
        assert sheet.blocks[-1].title != "the sound of the moment"
        assert all(block.map is not None for block in sheet.blocks[1:])


class Damaged:
    """A clip without sound, one whose picture is broken, one without words, one without either."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return 4

    def __getitem__(self, index):
        def broken():
            raise BadInput("unreadable_video")

        changes = {
            0: {"audio": None},
            1: {"video": broken},
            2: {"captions": (Caption("  "),), "grounding": ()},
            3: {"video": broken, "audio": None},
        }
        return dataclasses.replace(self.source[index], **changes[index])


def test_what_a_clip_lacks_is_left_out_and_counted(tmp_path):
    aligned = alignment.Alignment(built(), state_of(), SOURCE)
    aligned.assembler.source = Damaged(aligned.assembler.source)
    silent, unseen = (sheet for _, sheet in aligned.sheets(10))
    assert silent.spectrogram is None
    assert not any(block.has_sound for block in silent.blocks)
    assert all(block.map is not None for block in silent.blocks[1:])
    assert "In the sound" not in " ".join(silent.heading)
    assert not any(block.has_frames for block in unseen.blocks)
    assert all(block.sound_map is not None for block in unseen.blocks[1:])
    assert aligned.problems == {
        "no_audio": 2,
        "unreadable_video": 2,
        "empty_caption": 1,
    }
    assert alignment.write(aligned, 10, tmp_path) == 2
    aligned.assembler.source = [aligned.assembler.source[3]]
    with pytest.raises(ConfigError, match="no clip of narrated_shapes/retrieval has a phrase"):
        alignment.write(aligned, 10, tmp_path)


def test_a_model_without_text_is_an_error():
    config = shrunken(quickstart.get_config("fine=info_nce"))
    for name in list(config.objective.terms):
        if name.endswith("text"):
            del config.objective.terms[name]
    experiment = experiments.build(components.complete(config))
    with pytest.raises(ConfigError, match="text with neither video nor audio, only video_audio"):
        alignment.Alignment(experiment, state_of(), SOURCE)


def test_still_images_without_sound_or_truth():
    config = shrunken(quickstart.get_config("fine=info_nce"))
    del config.model["audio"]
    config.model.spaces.joint.modalities = ("video", "text")
    for name in list(config.objective.terms):
        if "audio" in name:
            del config.objective.terms[name]
    config.data.frames = 1
    experiment = experiments.build(components.complete(config))
    state = jax.jit(experiment.init)(0)
    aligned = alignment.Alignment(experiment, state, SOURCE)
    aligned.assembler.source = [
        dataclasses.replace(clip, grounding=())
        for clip in map(aligned.assembler.source.__getitem__, (0, 1))
    ]
    for _, sheet in aligned.sheets(2):
        assert sheet.frames.shape == (1, 16, 16, 3)
        assert list(sheet.frame_labels) == []
        assert "Box" not in " ".join(sheet.heading)
        assert all(block.peak.hit is None for block in sheet.blocks[1:])


def test_the_program(repository, tmp_path):
    experiment = built()
    checkpoints = Checkpoints(tmp_path, experiment, experiment.config.checkpoint)
    state = dataclasses.replace(state_of(), step=state_of().step + 2)
    checkpoints.save(2, state, {"next_step": 2, "problems": {}})
    checkpoints.close()
    flags = (f"--workdir={tmp_path}", "--clips=2")
    result = programs.run("fgmm.report.alignment", *flags, cwd=repository)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "alignment-2"
    assert f"2 clips of narrated_shapes/retrieval: {folder / 'index.html'}" in result.stdout
    page = (folder / "index.html").read_text()
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert page.count("<details") == 2
    assert page.count("  (narrated_shapes/retrieval, step 2)</summary>") == 2
    assert len(page) < 600_000

    wrong = programs.run("fgmm.report.alignment", flags[0], "--clips=0", cwd=repository)
    assert wrong.returncode == 2
    assert wrong.stderr.strip() == "error: --clips=0 must be at least 1"
