import json

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.eval import compare
from tests import programs

TEXTS = ["a red ball", "a ball rolls", "a blue box", "a box stands still"]


def report(text_ranks, clip_ranks=(1, 1), **changes):
    """Of two clips with two captions each."""
    return {
        "evaluation": "retrieval",
        "protocol": {"source": {"name": "shapes"}, "term": "fine"},
        "by_query": {
            "coarse/text_to_video/rank": list(text_ranks),
            "coarse/video_to_text/rank": list(clip_ranks),
        },
        "queries": {
            "text_to_video": {"name": TEXTS, "group": [0, 0, 1, 1]},
            "video_to_text": {"name": ["clip 0", "clip 1"], "group": [0, 1]},
        },
        **changes,
    }


def test_figures_and_who_changed_sides():
    found = compare.compared(report([1, 2, 6, 11]), report([2, 1, 1, 1]))
    figures = [f"r@{k}" for k in (1, 5, 10)]
    ways = ("text_to_video", "video_to_text")
    assert list(found) == [f"coarse/{way}/{figure}" for way in ways for figure in figures]
    first = found["coarse/text_to_video/r@1"]
    assert (first.first, first.second) == (0.25, 0.75)
    assert first.gained.tolist() == [False, True, True, True]
    assert first.lost.tolist() == [True, False, False, False]
    tenth = found["coarse/text_to_video/r@10"]
    assert (tenth.first, tenth.second) == (0.75, 1.0)
    assert found["coarse/video_to_text/r@1"].low == found["coarse/video_to_text/r@1"].high == 0


def test_what_is_hard_for_both_cancels():
    """Two runs that differ by one query in ten, on queries that are right half of the time."""
    rng = np.random.default_rng(0)
    first = np.where(rng.random(400) < 0.5, 1, 20)
    second = first.copy()
    second[np.flatnonzero(first == 20)[:20]] = 1
    each = {"text_to_video": {"name": list("q" * 400), "group": list(range(400))}}
    reports = [
        report(ranks, queries=each, by_query={"coarse/text_to_video/rank": ranks.tolist()})
        for ranks in (first, second)
    ]
    found = compare.compared(*reports)["coarse/text_to_video/r@1"]
    assert found.low > 0
    # That of two means of their own would be wider than 0.09.
    assert found.high - found.low < 0.05


def test_outcomes_of_other_evaluations():
    of_clips = {"": {"name": ["a", "b"], "group": [0, 1]}}
    probe = {"evaluation": "linear_probe", "protocol": {}, "queries": of_clips}
    zero_shot = {**probe, "evaluation": "zero_shot"}
    first, second = ({**probe, "by_query": {"correct": c}} for c in ([0, 1], [1, 1]))
    (name, found), *others = compare.compared(first, second).items()
    assert (name, found.first, found.second, others) == ("accuracy", 0.5, 1.0, [])
    first, second = ({**zero_shot, "by_query": {"fine/class_rank": r}} for r in ([2, 9], [1, 5]))
    found = compare.compared(first, second)
    assert found["fine/accuracy@1"].second == 0.5
    assert (found["fine/accuracy@5"].first, found["fine/accuracy@5"].second) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by_query": {}}, "nothing in common"),
        ({"evaluation": "zero_shot"}, "--first is of retrieval and --second of zero_shot"),
        ({"protocol": {"source": {"name": "x"}}}, "protocols differ: source is {'name': 'shapes'}"),
        (
            {"queries": {"text_to_video": {"name": TEXTS[::-1], "group": [0, 0, 1, 1]}}},
            "the queries of coarse/text_to_video/rank are not the same",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(change, message):
    with pytest.raises(ConfigError, match=message):
        compare.compared(report([1, 1, 1, 1]), report([1, 1, 1, 1], **change))


def test_another_term_of_the_run_is_no_other_protocol():
    other = {"source": {"name": "shapes"}, "term": "other"}
    assert compare.compared(report([1, 1, 1, 1]), report([1, 1, 1, 1], protocol=other))


def test_fine_tunings_of_different_checkpoints_are_compared():
    first, second = (
        report([1, 1, 1, 1], protocol={"start": {"path": path}}) for path in ("runs/a", "runs/b")
    )
    assert compare.compared(first, second)


def test_the_program(repository, tmp_path):
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path, ranks in zip(paths, ([1, 2, 6, 11], [2, 1, 1, 1]), strict=True):
        path.write_text(json.dumps(report(ranks)))
    given = [
        f"--first={paths[0]}",
        f"--second={paths[1]}",
        "--show=1",
        f"--output={tmp_path}/c.json",
    ]
    ran = programs.run("fgmm.eval.compare", *given, cwd=repository)
    assert ran.returncode == 0, ran.stderr
    assert (
        "| coarse/text_to_video/r@1 | 25.00% | 75.00% | +50.00% (+0.00% to +100.00%) " in ran.stdout
    )
    assert "coarse/text_to_video/r@1: 3 gained\n  a ball rolls\n  and 2 more" in ran.stdout
    written = json.loads((tmp_path / "c.json").read_text())["figures"]
    assert written["coarse/text_to_video/r@1"]["lost"] == ["a red ball"]
    (tmp_path / "d.json").write_text(json.dumps({"evaluation": "retrieval"}))
    for path, message in (("d", "--first holds no outcomes"), ("e", "cannot be read: No such")):
        given[0] = f"--first={tmp_path}/{path}.json"
        ran = programs.run("fgmm.eval.compare", *given, cwd=repository)
        assert ran.returncode == 2
        assert message in ran.stderr
        assert ran.stderr.count("\n") == 1
