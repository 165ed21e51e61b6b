"""Configs of earlier versions get the keys of today."""

import copy
import json
import pathlib
import tarfile

import pytest

from fgmm import components
from fgmm.config import check_keys, with_new_keys
from fgmm.config.earlier_keys import brought_over
from fgmm.data.opening import check_lengths


def saved(source, evals=None, *, audio=True, seconds=2.0):
    """What an earlier version saved, as far as windows go."""
    model = {"video": {"name": "s3d"}} | ({"audio": {"name": "ast"}} if audio else {})
    data = {"source": source, "frames": 8, "audio_seconds": seconds}
    return {"data": data, "model": model, "evals": evals or {}}


VIDEOS = {"name": "video_folder", "root": "videos", "fps": 4.0, "size": 64, "candidates": 2}


def test_pictures_and_sound_of_one_length_are_said_once():
    before = saved({**VIDEOS, "seconds": 3.0}, seconds=3.0)
    kept = copy.deepcopy(before)
    data = brought_over(before)["data"]
    assert before == kept
    assert data == {
        "source": {"name": "video_folder", "root": "videos", "candidates": 2},
        "frames": 8,
        "seconds": 3.0,
    }
    check_lengths(data["source"], "data.source", data["seconds"])


def test_without_sound_the_pictures_say_how_long_a_window_is():
    source = {"name": "howto100m", "root": "h", "seconds": 3.2, "fps": 10.0, "size": 200}
    data = brought_over(saved(source, audio=False))["data"]
    assert data["seconds"] == 3.2
    assert data["source"] == {"name": "howto100m", "root": "h"}


def test_lengths_that_differed_stay_and_cannot_be_trained_on():
    data = brought_over(saved({**VIDEOS, "seconds": 4.0}))["data"]
    assert (data["seconds"], data["source"]["seconds"]) == (2.0, 4.0)


def test_whole_recordings_stay_whole():
    source = {"name": "msr_vtt", "root": "m", "seconds": 0.0, "frames": 32, "size": 224}
    assert brought_over(saved(source))["data"]["source"] == {
        "name": "msr_vtt",
        "root": "m",
        "seconds": 0.0,
    }


def test_parts_of_a_mixture_are_brought_over():
    parts = {
        "a": {"name": "prepared", "root": "a", "weight": 3.0, "fps": 4.0, "seconds": 2.0},
        "b": {"name": "image_sequence", "root": "b", "frames": 3, "size": 224},
        "c": {"name": "narrated_shapes", "size": 48, "frames": 8, "fps": 4.0},
        "d": {"name": "my_lab.corpus", "size": 48, "frames": 8, "fps": 4.0},
    }
    data = brought_over(saved({"name": "mixture", "sources": parts}))["data"]
    assert data["source"]["sources"] == {
        "a": {"name": "prepared", "root": "a", "weight": 3.0},
        "b": {"name": "image_sequence", "root": "b", "pages": 3},
        "c": parts["c"],
        "d": parts["d"],
    }


def test_evaluations_keep_the_windows_that_they_had():
    ucf101 = {"name": "ucf101", "root": "u", "fold": 1, "windows": 10, "fps": 4.0, "size": 112}
    evals = {
        "probe": {
            "name": "linear_probe",
            "source": {**ucf101, "seconds": 1.0, "split": "train"},
            "test_source": {**ucf101, "split": "test"},
            "label": "action",
        },
        "retrieval": {"name": "retrieval", "source": {"name": "msr_vtt", "root": "m", "frames": 8}},
        "folds": {"name": "linear_probe", "source": {"name": "esc50"}, "test_source": {}},
    }
    found = brought_over(saved(VIDEOS, evals))["evals"]
    kept = {"name": "ucf101", "root": "u", "fold": 1, "windows": 10}
    assert found["probe"]["source"] == {**kept, "seconds": 1.0, "split": "train"}
    # What an entry does not say is what its source took then, not what a batch takes now.
    assert found["probe"]["test_source"] == {**kept, "seconds": 2.0, "split": "test"}
    assert found["retrieval"]["source"] == {"name": "msr_vtt", "root": "m", "seconds": 0.0}
    assert found["folds"]["test_source"] == {}
    for entry in (*found["probe"].values(), *found["retrieval"].values()):
        if isinstance(entry, dict):
            known = components.options(components.find("data.sources", entry["name"]))
            assert entry.keys() - {"name"} <= known.keys()


def test_a_config_of_today_stays_what_it_is():
    config = {"data": {"source": {"name": "esc50"}, "seconds": 2.0}, "model": {}, "evals": {}}
    assert brought_over(config) == config


def test_the_result_has_the_keys_of_today():
    complete = with_new_keys(saved({**VIDEOS, "seconds": 2.0}))
    check_keys(complete)
    assert complete["data"]["seconds"] == 2.0


ARCHIVES = sorted((pathlib.Path(__file__).parent.parent / "experiment/earlier_runs").glob("*.xz"))


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def test_sources_of_earlier_runs_have_the_options_of_today(path):
    with tarfile.open(path) as archive:
        name = next(n for n in archive.getnames() if n.endswith("config/metadata"))
        config = with_new_keys(json.load(archive.extractfile(name)))
    check_keys(config)
    data, run = config["data"], path.name.partition(".")[0]
    # In seconds of the batch and of the source. Without sound the source said it; some had pictures
    # of a longer window than their sound.
    lengths = {
        "howto100m_s3d": (3.2, None),
        "howto100m_tsm50": (0.5, 3.2),
        "video_folder": (0.5, 2.0),
    }
    assert (data["seconds"], data["source"].get("seconds")) == lengths.get(run, (0.5, None))
    entries = [config["data"]["source"]]
    for evaluation in config["evals"].values():
        entries += [evaluation[key] for key in ("source", "test_source") if evaluation.get(key)]
    assert len(entries) >= 2
    for entry in entries:
        options = {key: value for key, value in entry.items() if key != "name"}
        components.check(components.find("data.sources", entry["name"]), options, key="source")


def test_a_number_for_pixels_is_that_of_all_colours():
    before = saved({"name": "video_folder"}) | {"transforms": {"pixel_mean": 127, "flip": True}}
    assert brought_over(before)["transforms"] == {"pixel_mean": (127.0,) * 3, "flip": True}
    now = before | {"transforms": {"pixel_mean": [1.0, 2.0, 3.0]}}
    assert brought_over(now)["transforms"] == {"pixel_mean": [1.0, 2.0, 3.0]}
