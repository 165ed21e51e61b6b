"""A run goes on with the corpus that it began with."""

import json
import os
import shutil

import pytest

from configs import flickr8k
from fgmm.config import ConfigError
from fgmm.data.text import tokenizers
from fgmm.experiment import build as experiments
from fgmm.train import corpus, distributed, loop
from tests.data.flickr8k_fixture import write_flickr8k
from tests.data.numbered_source import Source as Numbered
from tests.shrunken import shrunken


@pytest.fixture
def images(tmp_path):
    return write_flickr8k(tmp_path / "corpus", 16, 0)


def train(images, workdir, **data):
    """Trains four steps; a checkpoint after two."""
    model = workdir.parent / "model"
    tokenizers.train(["a red circle on a green ground", "the picture shows"], model, 60)
    config = shrunken(flickr8k.get_config(f"root={images},tokenizer={model}"), steps=4)
    config.evals, config.checkpoint.best_metric = {}, ""
    config.checkpoint.every_steps = 2
    config.data.update(data)
    experiment = experiments.build(config)
    state = loop.train(experiment, experiment.training_source(), workdir)
    assert state.step == 4


def forget_the_end(workdir):
    """As if the run had been killed after its second step."""
    shutil.rmtree(workdir / "checkpoints" / "4")


def remove_an_image(images):
    listing = images / "Flickr_8k.trainImages.txt"
    listing.write_text("\n".join(listing.read_text().split()[1:]) + "\n")


def test_a_corpus_that_changed_is_refused_with_the_way_on(images, tmp_path, capsys):
    workdir = tmp_path / "run"
    train(images, workdir)
    # A finished run needs no corpus.
    whole = (images / "Flickr_8k.trainImages.txt").read_text()
    remove_an_image(images)
    train(images, workdir)
    forget_the_end(workdir)
    before = (workdir / "metrics.jsonl").read_text()
    with pytest.raises(ConfigError) as error:
        train(images, workdir)
    assert "data.source has changed since step 2 (16 clips then, 15 now)" in str(error.value)
    assert "--config.data.accept_changes=True" in str(error.value)
    assert f"--config.init_from.path={workdir}" in str(error.value)
    assert (workdir / "metrics.jsonl").read_text() == before

    (images / "Flickr_8k.trainImages.txt").write_text(whole)
    os.utime(next((images / "Flicker8k_Dataset").iterdir()), (1, 1))
    capsys.readouterr()
    train(images, workdir)
    assert "were written again since step 2" in capsys.readouterr().out

    forget_the_end(workdir)
    remove_an_image(images)
    train(images, workdir, accept_changes=True)
    assert "16 clips then, 15 now); going on with it" in capsys.readouterr().out
    position = json.loads((workdir / "checkpoints" / "4" / "position" / "metadata").read_text())
    assert position[corpus.KEY]["clips"] == 15


@pytest.mark.long
def test_a_checkpoint_without_a_fingerprint_goes_on_with_a_notice(images, tmp_path, capsys):
    workdir = tmp_path / "run"
    train(images, workdir)
    forget_the_end(workdir)
    path = workdir / "checkpoints" / "2" / "position" / "metadata"
    position = json.loads(path.read_text())
    del position[corpus.KEY]
    path.write_text(json.dumps(position))
    train(images, workdir)
    printed = capsys.readouterr().out
    assert "step 2 does not say which clips it was trained on" in printed
    assert "going on with the 16 of data.source" in printed


def test_processes_that_see_other_clips_are_told(monkeypatch):
    source = Numbered(clips=7)
    assert corpus.same_everywhere(source)["clips"] == 7
    elsewhere = Numbered(clips=8)
    there = corpus.same_everywhere(elsewhere)
    monkeypatch.setattr(distributed, "from_primary", lambda compute: there)
    with pytest.raises(ConfigError, match="8 clips on process 0, 7 here"):
        corpus.same_everywhere(source)
