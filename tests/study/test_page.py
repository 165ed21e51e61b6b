"""The page of results that are made up."""

import re

import pytest

from configs.study import narrated_shapes
from fgmm.config import ConfigError
from fgmm.study import comparison, figures, grid, outcome, page, ratio_table, tuning
from tests.study.small import result, spread

BATCHES = {8: 0.3, 32: 0.5, 128: 0.7}


def write(folder, results):
    for number, content in enumerate(results):
        outcome.write(folder / "run" / f"{number}.json", content)


def made(noise=0.5, updates=80, coarse_rise=0.8):
    """Coarse gains with the batch; fine is at 0.55 and there in half the updates."""
    return [
        result(
            arm, family, seed, float(value), batch=batch, noise=noise, updates=updates, rise=rise
        )
        for batch, coarse in BATCHES.items()
        for arm, family, mean, rise in (
            ("coarse_mean", "coarse", coarse, coarse_rise),
            ("gated", "fine", 0.55, 0.4),
        )
        for seed, value in enumerate(spread([mean] * 3, seed=batch))
    ]


def rows(tables, *starts):
    """Cells of the rows that begin so."""
    split = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.splitlines()]
    return [cells for cells in split if tuple(cells[: len(starts)]) == starts]


def test_a_page(tmp_path):
    write(tmp_path, [*made(), *made(noise=0.0)])
    tables = page.make(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert tables in text
    assert "36 cells of narrated_shapes; seeds 0, 1, 2; 36 min on one core" in text
    assert re.search(r"\. All have [a-z]+=\S+(, [a-z]+=\S+)*\.\n", text)
    coarse, fine = rows(tables, "32", "0.5", "80")
    assert coarse[3] == "coarse mean"
    assert coarse[7] == "–", "it is the best coarse arm itself"
    assert fine[3] == "gated"
    less = comparison.points(made())
    (at_32,) = [arms for point, arms in less.items() if dict(point)["batch"] == 32]
    expected = sum(
        a["metrics"][a["judged"]["text to clip"]] - b["metrics"][b["judged"]["text to clip"]]
        for a, b in zip(at_32["gated"], at_32["coarse_mean"], strict=True)
    )
    assert fine[7].startswith(f"{100 * expected / 3:+.1f} ± ")
    assert fine[-1] == "3"
    for name in ("batch_at_equal_updates", "noise", "curves_video_text"):
        assert f"page_figures/{name}.svg" in text
        for ending in ("svg", "png"):
            assert (tmp_path / "page_figures" / f"{name}.{ending}").stat().st_size > 5000


def test_pairs_that_are_retrieved_beside_the_judged_one(tmp_path):
    """Sound with words stands 0.2 above pictures with words."""
    found = made()
    for one in found:
        for name in list(one["metrics"]):
            if name.startswith("retrieval_video_text/"):
                other = name.replace("video", "audio")
                one["metrics"][other] = one["metrics"][name] + 0.2
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md")
    (head,) = rows(tables, "batch", "noise", "updates")
    assert head[8:11] == ["coarse score", "audio_text", "motion probe"]
    coarse, fine = rows(tables, "32", "0.5", "80")

    def mean(cell):
        return float(cell.partition("%")[0])

    assert mean(coarse[9]) == pytest.approx(mean(coarse[6]) + 20, abs=0.11)
    assert mean(fine[9]) == pytest.approx(mean(fine[6]) + 20, abs=0.11)
    assert "(" not in coarse[9]
    assert f"({fine[7].partition(' ')[0]}" in fine[9], "the same lead as of pictures"


CHOICES = {
    "metric": tuning.METRIC,
    "by": ["arm", "batch"],
    "chosen": ["rate", "temperature_times", "coarse_times"],
    "choices": [
        {
            "at": ["gated", 32],
            "chosen": {"rate": 0.004, "temperature_times": 1.0, "coarse_times": 1.0},
            "quality": 0.5,
            "tried": [
                [0.002, 1.0, 1.0, 0.25],
                [0.004, 1.0, 1.0, 0.5],
                [0.004, 1.0, 2.0, 0.5],
                [0.004, 2.0, 1.0, None],
            ],
        }
    ],
}


def test_what_was_tried_in_tuning(tmp_path):
    write(tmp_path, made())
    outcome.write(tmp_path / tuning.CHOICE, CHOICES)
    tables = page.make(tmp_path, tmp_path / "page.md")
    assert "Columns: rate, temperature times, coarse times." in tables
    (head,) = rows(tables, "arm", "batch", "0.002, 1.0, 1.0")
    assert head[3:] == ["0.004, 1.0, 1.0", "0.004, 1.0, 2.0", "0.004, 2.0, 1.0"]
    (tried,) = rows(tables, "gated", "32", "25.0%")
    assert tried[3:] == ["50.0%*", "50.0%", "failed"], "of equal cells the first is chosen"


def test_cells_with_other_values_than_the_chosen_ones_are_named(tmp_path):
    found = made()
    for one in found:
        one["coordinates"]["rate"] = {0: 0.004, 1: 0.002, 2: 0.004}[one["coordinates"]["seed"]]
    write(tmp_path, found)
    outcome.write(tmp_path / tuning.CHOICE, CHOICES)
    at_32 = [
        number
        for number, one in enumerate(found)
        if (one["coordinates"]["arm"], one["coordinates"]["batch"]) == ("gated", 32)
    ]
    tables = page.make(tmp_path, tmp_path / "page.md")
    assert tables.startswith(f"**Cells without the values that tuning chose:** {at_32[1]}. The")
    found[at_32[1]]["coordinates"]["rate"] = 0.004
    write(tmp_path, found)
    assert "without the values" not in page.make(tmp_path, tmp_path / "page.md")


def test_an_earlier_result_has_the_default_of_a_tuned_axis(tmp_path):
    found = made()
    found.append(result("other", "fine", 0, 0.5, coarse_times=1.0))
    found[-1]["defaults"] = {"coarse_times": 1.0}
    write(tmp_path, found)
    at_32 = CHOICES["choices"][0]
    twice = at_32 | {"chosen": at_32["chosen"] | {"coarse_times": 2.0}}
    outcome.write(tmp_path / tuning.CHOICE, CHOICES | {"choices": [twice]})
    tables = page.make(tmp_path, tmp_path / "page.md")
    numbers = [n for n, one in enumerate(found) if one["coordinates"]["batch"] == 32]
    of_gated = [str(n) for n in numbers if found[n]["coordinates"]["arm"] == "gated"]
    assert f"chose:** {', '.join(sorted(of_gated))}. The rows" in tables


@pytest.mark.parametrize("text", ["{", "[]", '{"by": ["arm"]}'])
def test_choices_that_cannot_be_read(tmp_path, text):
    write(tmp_path, made())
    (tmp_path / tuning.CHOICE).write_text(text)
    with pytest.raises(ConfigError, match="holds no choices of a study; remove it"):
        page.make(tmp_path, tmp_path / "page.md")


def test_a_study_without_choices_has_no_part_on_tuning(tmp_path):
    write(tmp_path, made())
    outcome.write(tmp_path / tuning.CHOICE, CHOICES | {"choices": []})
    assert "Tuning" not in page.make(tmp_path, tmp_path / "page.md")


def test_a_study_without_noise_whose_curves_are_points(tmp_path):
    found = []
    for one in made():
        del one["coordinates"]["noise"]
        one["curve"] = {name: values[-1:] for name, values in one["curve"].items()}
        found.append(one)
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md")
    coarse, _ = rows(tables, "32", "80")
    assert coarse[2] == "coarse mean"
    assert "curves" not in (tmp_path / "page.md").read_text()


@pytest.mark.parametrize("words", [("own", "near"), ("", "near"), (5, "near"), (5, 0.5, "")])
def test_an_axis_of_text_is_in_the_tables_alone(tmp_path, words):
    found = [one for word in words for one in made()]
    for number, one in enumerate(found):
        one["coordinates"]["words"] = words[number * len(words) // len(found)]
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md")
    (head,) = rows(tables, "batch", "noise", "updates")
    assert head[3] == "words"
    of_fine = [cells[3] for cells in rows(tables, "32", "0.5", "80") if cells[4] == "gated"]
    assert sorted(of_fine) == sorted(map(str, words))
    drawn = {path.stem for path in (tmp_path / "page_figures").iterdir()}
    assert "batch_at_equal_updates" in drawn
    assert "words" not in drawn


@pytest.mark.parametrize("smoothing", [(0.1,), (0.1, 0.2)])
@pytest.mark.parametrize("says_default", [True, False])
def test_an_axis_that_was_added_has_rows_of_its_own(tmp_path, smoothing, says_default):
    found = made()
    for value in smoothing:
        for one in made():
            one["coordinates"]["smoothing"] = value
            one["metrics"] = dict.fromkeys(one["metrics"], 0.01)
            found.append(one | ({"defaults": {"smoothing": 0.0}} if says_default else {}))
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md")
    (head,) = rows(tables, "batch", "noise", "updates")
    assert head[3] == "smoothing"
    of_fine = {
        cells[3]: (cells[7], cells[-1])
        for cells in rows(tables, "32", "0.5", "80")
        if cells[4] == "gated"
    }
    default = of_fine.pop("0.0" if says_default else "–")
    assert default[0].startswith("5")
    assert default[1] == "3"
    assert set(of_fine) == set(map(str, smoothing))
    for both, seeds in of_fine.values():
        assert both.startswith("1.0%")
        assert seeds == "3"


def test_noise_may_be_a_number_or_text(tmp_path):
    found = [*made(noise=0.5), *made(noise="half")]
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md")
    assert len(rows(tables, "32", "half", "80")) == 2


def test_a_study_without_batches(tmp_path):
    found = [one for one in made() if one["coordinates"]["batch"] == 32]
    for one in found:
        del one["coordinates"]["batch"]
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md")
    assert "No fine arm shares a batch" in tables
    assert len(rows(tables, "0.5", "80")) == 2


def no_evaluation(one):
    one["curve"] = {"step": [], "seconds": []}


def another_label(one):
    """The evaluation after training has a config of its own, and so a label of its own."""
    names = {name: name.replace("video_text", "other") for name in one["metrics"]}
    one["metrics"] = {names[name]: value for name, value in one["metrics"].items()}
    one["judged"] = {way: names[name] for way, name in one["judged"].items()}


@pytest.mark.parametrize("change", [no_evaluation, another_label])
@pytest.mark.parametrize("changed", [("coarse_mean",), ("gated",), ("coarse_mean", "gated")])
def test_arms_without_a_learning_curve(tmp_path, change, changed):
    found = made()
    for one in found:
        if one["coordinates"]["arm"] in changed:
            change(one)
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md")
    _, fine = rows(tables, "32", "0.5", "80")
    assert fine[10:13] == ["–", "–", "–"]
    drawn = "curves_video_text.svg" in (tmp_path / "page.md").read_text()
    assert drawn == (len(changed) == 1)


def test_the_page_of_the_short_study(tmp_path):
    study = grid.read(narrated_shapes.get_config("part=short"))
    found = []
    for cell in study.run.cells:
        coordinates, arm = dict(cell.coordinates), study.arms[cell.coordinates["arm"]]
        value = {"coarse": 0.5, "fine": 0.6}[arm["family"]]
        of_cell = result(arm["title"], arm["score"], coordinates["seed"], value)
        found.append(of_cell | {"coordinates": coordinates, "arm": arm, "chosen": []})
    write(tmp_path, found)
    coarse, fine = rows(page.make(tmp_path, tmp_path / "page.md"), "32", "0.5", "80")
    assert coarse[7:] == ["–", "50.0% ± 9.8", "–", "–", "–", "–", "50.0% ± 0.0", "3"]
    assert fine[7].startswith("+10.0 ± ")
    assert fine[10:12] == ["1.2×", "1.2×"], "0.5 of 0.6 is reached after 5/6 of the clips"


def test_the_same_results_give_the_same_page(tmp_path):
    write(tmp_path, made())
    page.make(tmp_path, tmp_path / "page.md")
    files = [tmp_path / "page.md", *(tmp_path / "page_figures").iterdir()]
    before = {path: path.read_bytes() for path in files}
    page.make(tmp_path, tmp_path / "page.md")
    assert before == {path: path.read_bytes() for path in files}


def test_the_ratio_on_the_page(tmp_path):
    write(tmp_path, made())
    tables = page.make(tmp_path, tmp_path / "page.md")
    (row,) = rows(tables, "video_text", "0.5", "80 updates", "gated", "8")
    assert row[5].startswith("4 (+")
    assert row[7:] == ["–", "4"], "there is no probe; the ratio is that of both directions"
    (row,) = rows(tables, "video_text", "0.5", "80 updates", "gated", "32")
    assert row[5].startswith("behind coarse at 128 (-")
    assert row[-1] == "–"


def test_the_ratio_of_widths(tmp_path):
    """Coarse gains with the width; fine at a width of 1 is as good as coarse at 2."""
    found = [
        result(arm, family, seed, float(value), width=width)
        for width, coarse in ((1.0, 0.3), (2.0, 0.5))
        for arm, family, mean in (("coarse_mean", "coarse", coarse), ("gated", "fine", 0.55))
        for seed, value in enumerate(spread([mean] * 3, seed=int(width)))
    ]
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md")
    assert "No fine arm shares a batch" in tables
    _, _, of_widths = tables.partition("## The ratio of widths")
    (row,) = rows(of_widths, "video_text", "0.5", "80 updates", "gated", "1.0")
    assert row[5].startswith("2 (+")
    assert row[7:] == ["–", "2"]
    write(tmp_path, made())
    assert "ratio of widths" not in page.make(tmp_path, tmp_path / "page.md")


def test_a_plateau_counts_only_where_it_is_one(tmp_path):
    points = comparison.points(made(coarse_rise=0.5))
    assert set(ratio_table.rules(points)["plateau"]["coarse_mean"]) == set(BATCHES)
    # Coarse is still rising everywhere, so there is none.
    assert (
        ratio_table.rules(comparison.points(made(coarse_rise=1.0)))["plateau"]["coarse_mean"] == {}
    )
    longer = [*made(coarse_rise=1.0), *made(updates=160, coarse_rise=0.5)]
    plateau = ratio_table.rules(comparison.points(longer))["plateau"]
    assert plateau["coarse_mean"][8][0]["updates"] == 160


def test_how_many_times_fewer_examples():
    coarse = [result("coarse_mean", "coarse", 0, 0.5, rise=1.0)]
    fine = [result("gated", "fine", 0, 0.5, rise=0.5, speed=0.5)]
    saved = comparison.savings(fine, coarse)
    assert saved["examples"] == pytest.approx(2)
    assert saved["flops"] == pytest.approx(2)
    assert saved["seconds"] == pytest.approx(1), "half the steps, each twice as long"
    worse = [result("gated", "fine", 0, 0.4)]
    assert comparison.savings(worse, coarse)["examples"] is None


def test_at_equal_cost():
    """Coarse takes 80 seconds and fine 160; at 80 fine is half way up its straight curve."""
    coarse = [result("coarse_mean", "coarse", seed, 0.5) for seed in range(2)]
    fine = [result("gated", "fine", seed, 0.6 + 0.2 * seed, speed=0.5) for seed in range(2)]
    arms = {"coarse_mean": coarse, "gated": fine}
    assert comparison.least_cost(arms, "seconds") == 80
    assert comparison.least_cost(arms, "flops") == coarse[0]["flops"]
    found = comparison.at_cost(fine, "seconds", 80)
    assert found.values == pytest.approx({0: 0.3, 1: 0.4})
    assert comparison.at_cost(fine, "seconds", 85).values[0] == pytest.approx(0.6 * 85 / 160)
    level = comparison.at_cost(fine, "seconds", 1000)
    assert level.values[1] == pytest.approx(0.8), "level after the end"
    assert comparison.at_cost(fine, "seconds", 19) is None, "before the first evaluation"
    assert comparison.at_cost(fine, "flops", fine[0]["flops"] / 4).mean == pytest.approx(0.7 / 4)
    for one in coarse:
        no_evaluation(one)
    assert comparison.least_cost(arms, "seconds") == 160
    assert comparison.at_cost(coarse, "seconds", 80) is None


def test_arms_are_compared_with_the_baseline(tmp_path):
    """Without a coarse arm there is nothing to say of the ratio of batches."""
    found = [result("gated", "fine", seed, 0.5 + 0.01 * seed) for seed in range(3)]
    found += [result("hardest", "fine", seed, 0.4 + 0.01 * seed) for seed in range(3)]
    write(tmp_path, found)
    tables = page.make(tmp_path, tmp_path / "page.md", title="Fewer negatives", baseline="gated")
    assert (tmp_path / "page.md").read_text().startswith("# Fewer negatives\n")
    assert "ratio of batches" not in tables
    assert "the difference from the arm *gated* of the same rows" in " ".join(tables.split())
    (head,) = rows(tables, "batch", "noise", "updates")
    assert head[7] == "less gated"
    gated, hardest = rows(tables, "32", "0.5", "80")
    assert (gated[7], hardest[7][:5]) == ("–", "-10.0")
    with pytest.raises(ConfigError, match=r"--baseline=gate is no arm .*\['gated', 'hardest'\]"):
        page.make(tmp_path, tmp_path / "page.md", baseline="gate")
    none = page.make(tmp_path, tmp_path / "page.md", unit="seconds")
    assert "at equal seconds" in none
    assert [cells[7] for cells in rows(none, "32", "0.5", "80")] == ["–", "–"]


def test_an_axis_with_a_zero_is_not_logarithmic():
    def panels(*xs):
        return [figures.Panel("", [figures.Line("a", "fine", xs, xs, xs)])]

    assert page._logarithmic("batch", panels(8, 32))
    assert not page._logarithmic("wrong", panels(0.0, 0.25, 0.5))
    assert not page._logarithmic("noise", panels(0.5, 0.75))


def test_what_is_no_result(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no run/\*.json"):
        page.make(tmp_path, tmp_path / "page.md")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"x\.json is no result of a cell"):
        page.make(tmp_path, tmp_path / "page.md")
