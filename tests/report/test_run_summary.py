import json

import numpy as np
import pytest

from fgmm.report import run_summary
from fgmm.report.run_summary import Figure

RESULTS = {
    "clips": 512.0,
    "sum/text_to_video/r@1": 0.6,
    "sum/text_to_video/r@1_low": 0.5,
    "sum/text_to_video/r@1_high": 0.7,
    "sum/text_to_video/chance_r@1": 0.002,
    "sum/text_to_video/median_rank": 3.0,
    "sum/text_to_video/chance_median_rank": 256.5,
    "accuracy": 0.7,
    "chance_accuracy": 0.125,
    "untrained/accuracy": 0.2,
    "attention/object/hit": 0.9,
    "chance/object/hit": 0.1,
    "chance/object/hit_low": 0.05,
    # The skewness of a count, which no scale of shares fits.
    "video/hubness": 0.43,
    "video/hubness_low": 0.2,
    "video/hubness_high": 0.9,
    "video/spread": 0.5,
    "video/spread_low": 0.2,
    "video/spread_high": 1.9,
    "phrases/refer/weight": 0.6,
    "phrases/refer/weight_low": 0.5,
    "phrases/refer/weight_high": 0.7,
}


def write(folder, name, step, results, **more):
    report = {"evaluation": name, "step": step, "results": results, "protocol": {"a": {"b": 1}}}
    (folder / f"{name}_x-{step}.json").write_text(json.dumps(report | more))


def test_figures_have_their_interval_and_chance_wherever_it_stands(tmp_path):
    write(tmp_path, "retrieval", 10, RESULTS, weights="ema")
    (tmp_path / "no-1.json").write_text("{")
    (tmp_path / "other-1.json").write_text("[1]")
    (found,) = run_summary.evaluated(tmp_path).values()
    assert (found.label, found.step, found.weights) == ("retrieval_x", 10, "ema")
    assert found.figures == {
        "sum, text to video": {
            "r@1": Figure(0.6, 0.5, 0.7, 0.002, True),
            "median rank": Figure(3.0, None, None, 256.5, False),
        },
        "": {"accuracy": Figure(0.7, None, None, 0.125, True)},
        "untrained": {"accuracy": Figure(0.2, None, None, 0.125, True)},
        "attention, object": {"hit": Figure(0.9, None, None, 0.1, True)},
        "video": {
            "hubness": Figure(0.43, 0.2, 0.9, None, False),
            "spread": Figure(0.5, 0.2, 1.9, None, False),
        },
        "phrases, refer": {"weight": Figure(0.6, 0.5, 0.7, None, True)},
    }
    assert found.others == {"clips": 512.0}
    assert found.protocol == {"a.b": 1}


def test_shares_are_spelled_as_shares():
    share = Figure(0.605, 0.5, 0.7, 0.002, True)
    rank = Figure(3.0, None, None, 256.5, False)
    assert (share.spelled(share.value), share.spelled(share.chance)) == ("60.5%", "0.2%")
    assert (rank.spelled(3.0), rank.spelled(256.5), rank.spelled(None)) == ("3", "256.5", "")


def test_evaluations_inside_training_have_their_last_result():
    few = np.array([np.nan, 0.2, 0.4, np.nan])
    series = {"step": np.arange(1.0, 5), "x/r@1": few, "x/r@1_low": few - 0.1, "y": few}
    config = {"evals": {"x": {"name": "retrieval", "every": 1}, "z": {"name": "retrieval"}}}
    found = run_summary.inside_training(series, config)
    assert found.keys() == {"x"}
    assert found["x"].step == 3
    assert found["x"].figures == {"": {"r@1": Figure(0.4, pytest.approx(0.3), None, None, True)}}
    assert found["x"].protocol == {"name": "retrieval", "every": 1}


def test_the_latest_step_of_an_evaluation_counts(tmp_path):
    for step in (9, 10, 2):
        write(tmp_path, "probe", step, {"accuracy": step / 100, "chance_accuracy": 0.01})
    found = run_summary.evaluated(tmp_path)["probe_x"]
    assert found.step == 10
    assert found.figures[""]["accuracy"].value == 0.1


def test_what_nothing_fed_is_found():
    terms = {name: {"pair": "_".join(name.split("_")[:2])} for name in TERMS}
    config = {"batch_size": 4, "objective": {"terms": terms}}
    series = {"pairs/video_text": np.array([4.0, 2.0]), "pairs/video_audio": np.zeros(2)}
    assert run_summary.fed(series, config) == [
        run_summary.FeedShare("video and audio", ["video_audio_fine"], 0.0),
        run_summary.FeedShare("video and text", ["video_text_coarse", "video_text_fine"], 0.75),
    ]


def test_labels_feed_a_supervised_term():
    config = {
        "batch_size": 4,
        "objective": {"terms": {"action": {"classifier": "action", "weight": 1.0}}},
        "model": {"classifiers": {"action": {"modality": "video"}}},
    }
    found = run_summary.fed({"labels/video": np.array([4.0, 2.0])}, config)
    assert found == [run_summary.FeedShare("video and label", ["action"], 0.75)]


TERMS = ("video_text_fine", "video_text_coarse", "video_audio_fine", "audio_text_fine")


def test_problems_are_those_of_the_last_step():
    series = {
        "loss": np.array([1.0, 2.0]),
        "bad_input/no_audio": np.array([np.nan, 3.0]),
        "left_out/missing_file": np.array([2.0, 2.0]),
    }
    assert run_summary.problems(series) == {
        "bad input, no audio": 3,
        "left out, missing file": 2,
    }


def test_configs_are_compared_key_by_key():
    first = {"steps": 10, "model": {"width": 8}}
    second = {"steps": 20, "model": {"width": 8, "depth": 2}}
    assert run_summary.differing([first, first]) == []
    assert run_summary.differing([first, second]) == [
        ("model.depth", ["–", 2]),
        ("steps", [10, 20]),
    ]
