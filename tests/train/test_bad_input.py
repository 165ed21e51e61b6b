"""A damaged corpus trains to the end; what was wrong with it is counted by reason."""

import json

import pytest

from configs import flickr8k
from fgmm.data.text import tokenizers
from fgmm.eval import inside_training
from fgmm.experiment import build as experiments
from fgmm.train import loop
from tests.data.flickr8k_fixture import write_flickr8k
from tests.shrunken import shrunken


@pytest.fixture
def damaged(tmp_path):
    """A corpus of 16 images for training: one truncated, one missing, one without captions."""
    root = write_flickr8k(tmp_path / "corpus", 16, 0)
    names = (root / "Flickr_8k.trainImages.txt").read_text().split()
    images = root / "Flicker8k_Dataset"
    whole = (images / names[0]).read_bytes()
    (images / names[0]).write_bytes(whole[: len(whole) // 3])
    (images / names[1]).unlink()
    tokens = root / "Flickr8k.token.txt"
    kept = [line for line in tokens.read_text().splitlines() if not line.startswith(names[2])]
    tokens.write_text("\n".join([*kept, "no tab here", f"{names[3]}#0\t "]) + "\n")
    return root


def test_training_goes_on_and_counts(damaged, tmp_path, capsys):
    model = tmp_path / "model"
    tokenizers.train(["a red circle on a green ground", "the picture shows"], model, 60)
    config = shrunken(flickr8k.get_config(f"root={damaged},tokenizer={model}"), steps=4)
    experiment = experiments.build(config)
    source = experiment.source(experiment.config.data.source, "data.source")
    evaluators = inside_training.from_config(experiment)
    state = loop.train(experiment, source, tmp_path / "run", evaluators)
    assert int(state.step) == 4

    (*_, last) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").open())
    # Four batches of eight are two epochs of sixteen.
    assert last["bad_input/unreadable_video"] == 2
    assert last["bad_input/missing_file"] == 2
    assert last["bad_input/no_captions"] == 2
    assert last["left_out/malformed_line"] == 1
    assert last["skipped"] == 0
    printed = capsys.readouterr().out
    assert "bad input, in clips read: missing_file 2, no_captions 2, unreadable_video 2" in printed
    assert "left out when the corpus was opened: " in printed
    assert "malformed_line 1" in printed
