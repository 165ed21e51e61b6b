"""What the README shows works."""

import ast
import contextlib
import importlib
import json
import os
import re
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fgmm
from fgmm import components
from fgmm.config import as_dict
from fgmm.data import pipeline, tokenizer
from fgmm.eval import finetune, inside_training
from fgmm.experiment import build as experiments
from fgmm.train import loop
from tests import compilation
from tests.conftest import REPOSITORY
from tests.data import pairs_fixture
from tests.data.flickr8k_fixture import write_flickr8k
from tests.data.video_fixture import write_narrated_videos
from tests.shrunken import shrunken

# What a test changes of a command that trains: it takes a few steps.
FEW = ("--config.steps=30", "--config.batch_size=8", "--config.data.height=32")
FEW += ("--config.data.width=32", "--config.data.frames=2", "--config.model.video.widths=(8,)")
FEW += ("--config.model.video.temporal_strides=(1,)", "--config.model.audio.widths=(8,8,8)")


@pytest.fixture
def readme(repository):
    return (repository / "README.md").read_text()


def test_the_loss_example_runs(readme):
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (example,) = [block for block in blocks if "losses" in block]
    assert len(example.splitlines()) <= 20
    names = {}
    exec(example, names)
    key_x, key_y = jax.random.split(jax.random.key(0))
    cells, phrases = jax.random.normal(key_x, (4, 9, 8)), jax.random.normal(key_y, (4, 3, 8))
    mask = jnp.ones((4, 3), bool).at[0, 2].set(False)
    gradient = names["gradient"](cells, phrases, mask, 0.07)
    assert gradient.shape == cells.shape
    assert np.abs(gradient).max() > 0
    candidates = jnp.array([[b, (b + 1) % 4] for b in range(4)])
    of_two = names["gradient"](cells, phrases, mask, 0.07, candidates)
    assert np.all(np.abs(of_two).max((1, 2)) > 0)
    assert np.abs(of_two - gradient).max() > 0


def test_paths_and_links_exist(readme, repository):
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (repository / link).exists(), link
    for path in re.findall(r"--config=(configs/[\w/]+\.py)", readme):
        assert (repository / path).exists(), path


def test_commands_are_there(readme, repository):
    for command in re.findall(r"bash (launch/[\w.]+)", readme):
        assert (repository / command).exists(), command
    assert "launch/test.sh" in (repository / ".ci" / "run").read_text()


def test_the_table_of_extras_has_those_of_the_package(readme, repository):
    calls = ast.walk(ast.parse((repository / "setup.py").read_text()))
    keywords = [
        keyword for call in calls if isinstance(call, ast.Call) for keyword in call.keywords
    ]
    (extras,) = [keyword.value for keyword in keywords if keyword.arg == "extras_require"]
    table = re.search(r"\| extra \|.*?\n\n", readme, re.DOTALL)[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(key.value for key in extras.keys)


def test_the_changelog_has_the_version(repository):
    versions = re.findall(r"^## \[(.+?)\]", (repository / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", fgmm.__version__]
    numbers = [tuple(map(int, version.split("."))) for version in versions[1:]]
    assert numbers == sorted(numbers, reverse=True)


def test_each_protocol_fits_the_run_that_was_trained_before(readme):
    def config_of(name):
        module, _, argument = name.partition(":")
        return importlib.import_module(module.replace("/", ".")).get_config(argument)

    trained = re.findall(r"--config=(configs/\S+) --workdir=runs/(\w+)", readme)
    runs = {run: config.replace(".py", "") for config, run in trained}
    commands = re.findall(
        r"python -m fgmm\.eval\.(\w+) --workdir=runs/(\w+) +--config=(\S+)", readme
    )
    assert {name for name, _, _ in commands} >= {"retrieval", "linear_probe", "gates"}
    built = {}
    for name, run, protocol in commands:
        if run not in built:
            built[run] = experiments.build(config_of(runs[run]))
        entry = config_of(f"configs/{protocol}")
        assert name in (entry.name, "watch")
        evaluation = components.build("eval", entry, key=name)
        if name == "finetune":  # It starts from a checkpoint on disk.
            first, *_ = finetune.parts(evaluation)
            config = as_dict(built[run].config)
            experiments.build(finetune.training_config(evaluation, config, None, first)[0])
        else:
            evaluation.bind(built[run])


@pytest.fixture
def corpora(repository, tmp_path):
    """Six videos and eight pictures of one's own, in a folder from which configs are found."""
    write_narrated_videos(tmp_path / "my_videos", 6)
    write_flickr8k(tmp_path / "my_images", 8, 0)
    (tmp_path / "configs").symlink_to(repository / "configs")
    return tmp_path


def rows(text):
    """The commands of the table of what one may have, by the names of their runs."""
    table = re.search(r"### On what you have\n(.*?)\n\n[^|]", text, re.DOTALL)[1]
    found = re.findall(r"`(python -m fgmm\.main [^`]+)`", table)
    return {command.rpartition("runs/")[2]: shlex.split(command) for command in found}


@pytest.fixture(scope="module")
def what_one_has(tmp_path_factory):
    """A corpus in each form of the table, of a dozen clips, and a tokenizer by the command."""
    folder = tmp_path_factory.mktemp("corpora")
    readme = (REPOSITORY / "README.md").read_text()
    pictures = pairs_fixture.write_pictures(folder, 15)
    pairs_fixture.write_list(folder / "pairs.csv", pictures)
    for shard, members in enumerate(pairs_fixture.clips_of_tars(12)):
        pairs_fixture.write_shard(folder / "tars" / f"{shard:05d}.tar", members)
    pairs_fixture.write_shard(folder / "shards" / "0.tar", pairs_fixture.img2dataset(12))
    stored = pairs_fixture.img2dataset(15)
    keys = [name.removesuffix(".jpg") for name in stored if name.endswith(".jpg")]
    parts = [{"key": k, "jpg": stored[f"{k}.jpg"], "txt": stored[f"{k}.txt"]} for k in keys]
    pairs_fixture.write_list(folder / "parts" / "0.parquet", parts)
    saved = [{"image": {"bytes": p["jpg"], "path": None}, "caption": p["txt"]} for p in parts]
    pairs_fixture.write_saved(folder / "saved", saved, {})
    times = {"start": 0.0, "end": 1.0}
    videos = write_narrated_videos(folder / "downloads", 12)
    for captions in videos.rglob("*.vtt"):
        captions.rename(captions.with_suffix(".en.vtt"))
    told = [
        {"path": str(path.relative_to(folder)), "caption": f"video {i} begins", **times}
        for i, path in enumerate(sorted(videos.rglob("*.mp4")))
    ]
    pairs_fixture.write_list(folder / "narrated.tsv", told)
    heard = [{"path": f"{i}.wav", "caption": f"a rising tone {i}"} for i in range(12)]
    for row in heard:
        (folder / row["path"]).write_bytes(pairs_fixture.sound())
    pairs_fixture.write_list(folder / "sounds.jsonl", heard)
    command = re.search(r"### On what you have.*?```bash\npython (.*?)\npython", readme, re.DOTALL)[
        1
    ]
    with contextlib.chdir(folder):
        words = shlex.split(command.replace("\\\n", " "))
        assert words[:3] == ["-m", "fgmm.data.tokenizer", "train"]
        assert tokenizer.main(words[1:]) == 0
    return folder


def built(run, words):
    """The experiment of a row, small: one term, and an evaluation that does not run."""
    assert f"--workdir=runs/{run}" in words
    (config,) = [word for word in words if word.startswith("--config=")]
    name, _, argument = config.removeprefix("--config=").partition(":")
    config = shrunken(importlib.import_module(f"configs.{name}").get_config(argument), steps=2)
    terms = config.objective.terms
    for term in sorted(terms)[1:]:
        del terms[term]
    config.checkpoint.best_metric = ""
    return experiments.build(config)


ROWS = rows((REPOSITORY / "README.md").read_text())


@pytest.mark.parametrize("run", ROWS)
def test_what_one_has_makes_batches_by_its_row(run, what_one_has, monkeypatch):
    monkeypatch.chdir(what_one_has)
    experiment = built(run, ROWS[run])
    assert inside_training.from_config(experiment).keys() == {"validation"}
    assembler = experiment.assembler(experiment.training_source())
    assert len(assembler.source) >= 8
    batch = assembler.batch([pipeline.Draw(i) for i in range(8)])
    problems = pipeline.count_problems(batch["problems"])
    # The tokenizer was trained on the captions of one corpus.
    assert problems.keys() <= {"unknown_words"}
    masks = [name for name in batch if name.endswith("_mask") and name != "text_mask"]
    assert masks
    assert all(batch[name].all() for name in masks)


# A row differs from others of the same kind of files in its batches alone.
@pytest.mark.parametrize(
    "run", [run if run == "pairs" else pytest.param(run, marks=pytest.mark.long) for run in ROWS]
)
def test_what_one_has_trains_by_its_row(run, what_one_has, monkeypatch):
    monkeypatch.chdir(what_one_has)
    experiment = built(run, ROWS[run])
    state = loop.train(experiment, experiment.training_source(), what_one_has / "runs" / run)
    assert state.step == 2
    metrics = (what_one_has / "runs" / run / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in metrics.splitlines()]
    assert np.isfinite([line["loss"] for line in lines]).all()
    assert not any(key.startswith("bad_input/unreadable") for line in lines for key in line)


@pytest.mark.long
@pytest.mark.parametrize(
    ("title", "workdir"),
    [("On your own videos", "my_videos"), ("On several corpora at once", "both")],
)
def test_a_section_runs_on_six_small_videos_as_it_stands(
    title, workdir, readme, corpora, repository
):
    section = re.search(rf"### {title}\n(.*?)\n##", readme, re.DOTALL)[1]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1].replace("\\\n", " ")
    for command in block.splitlines():
        python, *words = shlex.split(command)
        assert python == "python"
        ran = subprocess.run(
            [sys.executable, *words, *(FEW if "fgmm.main" in words else ())],
            env=os.environ | {"PYTHONPATH": str(repository), "XLA_FLAGS": compilation.FLAGS},
            cwd=corpora,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
    assert (corpora / "runs" / workdir / "checkpoints" / "30").is_dir()
