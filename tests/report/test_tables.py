"""Tables of a page from result files."""

import json
import re
import statistics

import pytest

from fgmm.config import ConfigError
from fgmm.report import tables

PAGE = """# Results

Before.

<!-- table
rows = [["coarse", "coarse-*.json"], ["fine", "fine-*.json"]]
columns = [
  ["R@10", "retrieval/r@10"],
  ["only fine", "fine/r@10"],
  ["time", "train_seconds", "{:.0f} s"],
]
-->
old numbers
<!-- end -->

After.
"""


def write(folder, name, seed, results, clips=8, **config):
    started = {"commit": "abc", "cpu": "2 cores", "devices": "1 x cpu", "jax": "1", "date": "d"}
    run = {
        "seed": seed,
        "data": "synthetic",
        "trained": {"started": [started], "examples_seen": 12_800, "train_seconds": 61.2},
        "results": results,
        "protocols": {"retrieval": {"clips": clips}},
        "config": {"seed": seed, "optimizer": {"learning_rate": 1.0}, **config},
    }
    (folder / f"{name}-{seed}.json").write_text(json.dumps(run))


@pytest.fixture
def results(tmp_path):
    for seed, value in enumerate((0.1, 0.2, 0.3)):
        write(tmp_path, "coarse", seed, {"retrieval/r@10": value})
    write(tmp_path, "fine", 0, {"retrieval/r@10": 0.25, "fine/r@10": 0.125})
    return tmp_path


def test_a_table(results):
    filled = tables.fill(PAGE, results)
    assert "old numbers" not in filled
    assert filled.startswith("# Results\n\nBefore.")
    assert filled.endswith("After.\n")
    # 4.303 is Student's 97.5% quantile with two degrees of freedom.
    half_width = 4.3027 * statistics.stdev((0.1, 0.2, 0.3)) / 3**0.5
    assert f"| coarse | 20.0% ± {100 * half_width:.1f} | – | 61 s |" in filled
    assert "| fine | 25.0% | 12.5% | 61 s |" in filled
    assert "| synthetic | R@10 | only fine | time |" in filled
    assert "Seeds 0, 1, 2; 12,800 clips seen; commit abc; 2 cores, 1 x cpu, jax 1; d." in filled
    assert tables.fill(filled, results) == filled


def test_runs_of_a_row_differ_in_seed_alone(results):
    write(results, "coarse", 3, {"retrieval/r@10": 1.0}, optimizer={"learning_rate": 2.0})
    with pytest.raises(ConfigError, match=r"coarse-\*.*optimizer\.learning_rate: 1.0 -> 2.0"):
        tables.fill(PAGE, results)


def test_runs_of_a_row_start_from_runs_of_their_seeds(results):
    for seed in (1, 2):
        write(results, "start", seed, {}, init_from={"path": f"runs/a-seed{seed}"})
    page = '<!-- table\nrows = [["a", "start-*.json"]]\ncolumns = []\n-->\n<!-- end -->'
    assert "Seeds 1, 2" in tables.fill(page, results)
    write(results, "start", 2, {}, init_from={"path": "runs/b-seed2"})
    with pytest.raises(ConfigError, match=r"differ by more than their seed: init_from\.path"):
        tables.fill(page, results)


def test_runs_of_a_row_were_asked_the_same(results):
    write(results, "coarse", 3, {"retrieval/r@10": 1.0}, clips=16)
    with pytest.raises(ConfigError, match=r"coarse-\*.*different protocols"):
        tables.fill(PAGE, results)


def test_a_number_nobody_has(results):
    with pytest.raises(ConfigError, match="'retrieval/r@11'"):
        tables.fill(PAGE.replace("retrieval/r@10", "retrieval/r@11"), results)


def test_a_row_without_files(results):
    with pytest.raises(ConfigError, match=r"'fin-\*.json' matches no file"):
        tables.fill(PAGE.replace("fine-*", "fin-*"), results)


def test_the_page_of_results_is_what_its_files_say(repository):
    path = repository / "docs" / "results.md"
    page = path.read_text()
    assert tables.fill(page, path.parent / "results") == page
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", page):
        assert (path.parent / name).exists(), name
