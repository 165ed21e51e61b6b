"""The page on a run, from the program, and what is said of runs that cannot be shown."""

import re
import shutil

import pytest

from fgmm.config import ConfigError
from fgmm.report import build
from fgmm.report.build import CheckpointView
from fgmm.report.strips import Block, Drawn, Sheet
from tests import programs
from tests.report import pages_fixture


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pages_fixture.write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run, request):
    repository = request.config.rootpath
    flags = (f"--workdir={run}", "--clips=1", "--gallery=4")
    result = programs.run("fgmm.report.build", *flags, cwd=repository)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"report: {run / 'report' / 'index.html'}"
    return (run / "report" / "index.html").read_text()


def test_the_page_has_every_part(page):
    assert re.findall(r'<h2 id="(\w+)"', page) == [
        *("curves", "results", "alignment", "gates", "neighbours", "failures", "fed", "config")
    ]
    keys = re.findall(r'data-key="([^"]+)"', page)
    assert keys[0] == "loss"
    assert {"loss/coarse_video_text", "loss/fine_video_text", "skipped", "data_wait"} <= set(keys)
    assert page.count("<polyline") == len(keys)
    assert "50.0%" in page
    assert "25.0 to 75.0%" in page
    assert "chance 12.5%" in page
    assert "retrieval/000000/0" in page
    assert "Turned down most" in page
    assert "learned weights of cells" in page
    assert "text to video" in page
    assert "among 4 clips of narrated_shapes/retrieval" in page
    assert "none: these terms learned nothing" in page
    assert "bad input, no video" in page
    assert "<code>abc</code>" in page


def test_everything_is_in_the_page(page):
    addresses = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert addresses
    assert {address.partition(",")[0] for address in addresses} <= {
        "data:",
        "data:image/webp;base64",
    }
    assert "@import" not in page
    assert "url(" not in page


def test_two_runs_share_axes_and_a_run_without_a_checkpoint_has_curves(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(run / "metrics.jsonl", other)
    runs = [
        build.read(run, "a", lambda workdir: CheckpointView(2, "shapes")),
        build.read(other, "b", lambda workdir: CheckpointView(2, "shapes")),
    ]
    text = build.page(runs)
    keys = re.findall(r'data-key="([^"]+)"', text)
    assert text.count("<polyline") == 2 * len(keys)
    assert 'class="curve run1"' in text
    assert "no checkpoint to look at: " in text
    assert "The run has not counted them." in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--workdir is missing; The folder of a run"),
        (("--workdir=nowhere",), "--workdir=nowhere is no run that has trained"),
        (("--workdir=.",) * 5, "--workdir is given 5 times; at most 4 fit"),
        (("--workdir=.", "--gallery=0"), "--gallery=0 must be at least 1"),
    ],
)
def test_bad_flags_are_one_line(flags, message, repository):
    result = programs.run("fgmm.report.build", *flags, cwd=repository)
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(f"error: {message}")


def test_what_is_not_known_of_gates_is_not_said(run):
    sheet = Drawn(Sheet(["clip"], None, [], None, 1.0, [], []), 1, 1, [], [], [])
    said = {
        "No clip is drawn above": CheckpointView(2, "shapes", gated=True),
        "Fewer than two phrases": CheckpointView(2, "shapes", [sheet], gated=True),
        "No learned gates": CheckpointView(2, "shapes", [sheet]),
    }
    for words, shown in said.items():
        text = build.page([build.read(run, "a", lambda _, shown=shown: shown)])
        assert [other for other in said if other in text] == [words]


def test_names_tell_runs_apart(tmp_path):
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run"]
    assert build.names(folders) == ["x/run", "y/run"]
    assert build.names(folders[:1]) == ["run"]
    with pytest.raises(ConfigError, match=r"--workdir=\S+/x/run is given twice"):
        build.names([*folders, folders[0]])


def test_gates_list_the_least_and_the_most_weight():
    weights = [0.7, 0.1, 0.2]
    blocks = [Block(f"phrase {i}", weights={"video_text": w}) for i, w in enumerate(weights)]
    sheet = Sheet(["clip  (x)"], None, [], None, 1.0, [], [Block("the clip"), *blocks])
    silenced, heeded = build.gated([sheet], ["video_text"])
    assert [(row.phrase, row.clip, round(row.times, 3)) for row in silenced] == [
        ("phrase 1", "clip", 0.3)
    ]
    assert [row.phrase for row in heeded] == ["phrase 0"]
    assert silenced[0].pair == "video and text"
    assert build.gated([sheet], []) == ([], [])
