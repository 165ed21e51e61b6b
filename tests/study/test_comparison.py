"""Numbers of an arm, from result files."""

import json
import pathlib

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.study import comparison, outcome
from tests.study.small import result

RANKS = {"text_to_video": [1, 12, 3, 30, 30], "video_to_text": [2, 40]}
OWNER = [0, 0, 0, 1, 1]


def evaluated(folder):
    """What an evaluation writes of two clips with three and two captions."""
    report = {
        "evaluation": "retrieval",
        "step": 7,
        "by_query": {f"coarse/{way}/rank": ranks for way, ranks in RANKS.items()},
        "queries": {
            "text_to_video": {"name": list("abcde"), "group": OWNER},
            "video_to_text": {"name": ["clip 0", "clip 1"], "group": [0, 1]},
        },
    }
    (folder / "retrieval-7.json").write_text(json.dumps(report))
    names = {way: f"retrieval/coarse/{way}/r@10" for way in RANKS}
    return {
        "coordinates": {"seed": 0},
        "arm": {"score": "coarse"},
        "judged": {"text to clip": names["text_to_video"], "clip to text": names["video_to_text"]},
        "metrics": {names["text_to_video"]: 0.4, names["video_to_text"]: 0.5},
        "by_query": outcome._by_query(folder, 7),
    }


def test_captions_of_a_clip_are_one_query(tmp_path):
    run = evaluated(tmp_path)
    assert run["by_query"]["retrieval/text_to_video/group"] == OWNER
    assert "retrieval/video_to_text/group" not in run["by_query"]
    found = comparison.measured([run], "text to clip")
    np.testing.assert_allclose(found.queries[0], [2 / 3, 0])
    assert found.values == {0: 0.4}
    both = comparison.measured([run], comparison.BOTH)
    np.testing.assert_allclose(both.queries[0], [(2 / 3 + 1) / 2, 0])


def test_other_files_beside_results_hold_no_queries(tmp_path):
    (tmp_path / "notes-7.json").write_text("[1, 2]")
    (tmp_path / "half-7.json").write_text('{"by_query": {"a')
    assert "retrieval/coarse/text_to_video/rank" in evaluated(tmp_path)["by_query"]


def at_rates(**rates):
    return [
        result(arm, arm, 0, 0.5, rate=rate, temperature_times=1.0) | {"chosen": []}
        for arm, of_arm in rates.items()
        for rate in of_arm
    ]


def test_arms_with_a_rate_each_are_compared():
    ((point, arms),) = comparison.points(at_rates(coarse=[2e-3], fine=[4e-3])).items()
    assert set(arms) == {"coarse", "fine"}
    assert "rate" not in dict(point)


def test_a_rate_that_varies_for_an_arm_is_an_axis():
    points = comparison.points(at_rates(coarse=[2e-3, 4e-3], fine=[2e-3, 4e-3]))
    assert [dict(point)["rate"] for point in points] == [2e-3, 4e-3]
    assert all(set(arms) == {"coarse", "fine"} for arms in points.values())


def test_an_arm_is_judged_by_the_pair_of_video_and_text():
    names = [
        f"retrieval_{pair}/coarse/{way}/r@10"
        for pair in ("audio_text", "video_audio", "video_text")
        for way in ("{}_to_{}".format(*pair.split("_")), "{1}_to_{0}".format(*pair.split("_")))
    ]
    judged = outcome._judged(dict.fromkeys(names, 0.5), "coarse", pathlib.Path("run"))
    assert judged == {
        "text to clip": "retrieval_video_text/coarse/text_to_video/r@10",
        "clip to text": "retrieval_video_text/coarse/video_to_text/r@10",
    }


def test_results_without_an_axis_that_was_added_later_are_at_the_same_point():
    earlier = result("coarse_mean", "coarse", 0, 0.5)
    later = result("gated", "fine", 0, 0.5, added=1.0)
    (arms,) = comparison.points([earlier, later]).values()
    assert set(arms) == {"coarse_mean", "gated"}
    assert len(comparison.points([earlier, later, result("gated", "fine", 0, 0.5, added=2.0)])) == 3


def test_evaluations_at_different_steps_stay_at_their_steps():
    """One is made after each step, the other, which is judged, after every second one."""
    lines = [
        {
            "step": step,
            "clips_per_second": 1.0,
            **{f"every/fine/{way}/r@10": 0.9 for way in RANKS},
            **{f"second/fine/{way}/r@10": step / 10 for way in RANKS if step % 2 == 0},
        }
        for step in range(1, 5)
    ]
    found = outcome._curve(lines, 1)
    assert found["step"] == [1, 2, 3, 4]
    np.testing.assert_equal(found["second/fine/text_to_video/r@10"], [np.nan, 0.2, np.nan, 0.4])
    text, clip = (f"second/fine/{way}/r@10" for way in RANKS)
    run = {
        "curve": json.loads(json.dumps(found)),
        "judged": {"text to clip": text, "clip to text": clip},
        **{"examples": 4, "updates": 4, "flops": 4},
    }
    curve = comparison.curve([run])
    assert (curve["step"], curve["seconds"], curve["value"]) == ([2, 4], [1.0, 3.0], [0.2, 0.4])
    # In results of earlier versions the steps of these values are not known.
    found[text] = [0.2, 0.4]
    assert comparison.curve([run | {"curve": found}])["value"] == []


def test_nothing_is_saved_against_an_arm_without_a_curve():
    with_curve, without = result("gated", "fine", 0, 0.5), result("coarse_mean", "coarse", 0, 0.5)
    without["curve"] = {"step": [], "seconds": []}
    none = {"examples": None, "flops": None, "seconds": None}
    assert comparison.savings([with_curve], [without]) == none
    assert comparison.savings([without], [with_curve]) == none


def added(arm, seed, defaults=None, name=None, **axes):
    """A result of a study to which axes were added; earlier ones have no defaults."""
    found = result(arm, arm, seed, 0.5, **axes)
    found["name"] = name or found["name"]
    return found if defaults is None else found | {"defaults": defaults}


def test_results_without_an_axis_have_the_default_that_others_say():
    earlier = [added(arm, seed) for arm in ("coarse", "fine") for seed in (0, 1)]
    later = [added("fine", seed, {"smoothing": 0.0}, smoothing=0.1) for seed in (0, 1, 2)]
    at_default, smooth = comparison.points([*earlier, *later]).items()
    assert dict(at_default[0])["smoothing"] == 0.0
    assert {arm: len(runs) for arm, runs in at_default[1].items()} == {"coarse": 2, "fine": 2}
    assert dict(smooth[0])["smoothing"] == 0.1
    assert [run["coordinates"]["seed"] for run in smooth[1]["fine"]] == [0, 1, 2]


def test_an_axis_that_was_added_and_is_tuned_does_not_part_results():
    later = added("fine", 0, {"coarse_times": 1.0}, coarse_times=2.0)
    later["chosen"] = ["rate", "coarse_times"]
    (arms,) = comparison.points([added("coarse", 0), later]).values()
    assert set(arms) == {"coarse", "fine"}


def test_an_added_axis_without_a_default_parts_runs_of_an_arm_and_seed():
    earlier = [added(arm, 0) for arm in ("coarse", "fine")]
    without, smooth = comparison.points([*earlier, added("fine", 0, smoothing=0.1)]).items()
    assert "smoothing" not in dict(without[0])
    assert set(without[1]) == {"coarse", "fine"}
    assert dict(smooth[0])["smoothing"] == 0.1
    assert set(smooth[1]) == {"fine"}


def test_different_defaults_of_an_axis_that_a_result_lacks():
    said = [added("fine", 0, {"a": a}, name=f"cell{a}", a=a) for a in (1, 2)]
    assert len(comparison.points(said)) == 2, "none lacks it"
    message = "earlier has no value on the axis 'a', whose default is 1 in cell1 and 2 in cell2; "
    with pytest.raises(ConfigError, match=message):
        comparison.points([*said, added("coarse", 0, name="earlier")])


def test_runs_of_one_arm_and_seed_at_one_point_are_refused():
    one, other = (added("fine", 0, name=f"corpus{corpus}", corpus=corpus) for corpus in (0, 1))
    (arms,) = comparison.points([one, other]).values()
    with pytest.raises(ConfigError, match="the cells corpus0 and corpus1 are runs of one arm and"):
        comparison.measured(arms["fine"], comparison.BOTH)


def test_arms_with_several_rates_and_temperatures_share_no_point():
    runs = [added("fine", 0, rate=x, temperature_times=x) | {"chosen": []} for x in (0.5, 2.0)]
    assert [dict(point)["rate"] for point in comparison.points(runs)] == [0.5, 2.0]
