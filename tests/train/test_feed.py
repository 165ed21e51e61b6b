import json

import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.data.schema import Caption, Clip
from fgmm.data.sources import mixture
from fgmm.experiment import build as experiments
from fgmm.losses import LabelEntry, Objective
from fgmm.losses.terms import softmax_cross_entropy
from fgmm.train import loop, startup
from fgmm.train.feed import Feed, too_few
from tests.data.numbered_source import Source as Numbered
from tests.shrunken import shrunken

NUMBERED = "tests.data.numbered_source:Source"


@pytest.fixture(scope="module")
def experiment():
    config = shrunken(quickstart.get_config("fine=none"), steps=2)
    config.evals, config.checkpoint.best_metric = {}, ""
    config.data.source = {"name": NUMBERED, "clips": 6, "audio": False}
    return experiments.build(components.complete(config))


def test_clips_with_both_sides_are_counted(experiment):
    feed = Feed(experiment.objective)
    assert feed.names[0] == "repeated_clips"
    batch = {
        "record": np.array([3, 4, 3, 3]),
        "video_mask": np.array([True, True, True, False]),
        "audio_mask": np.zeros(4, bool),
        "text_mask": np.array([[True, False], [False, False], [False, True], [True, True]]),
    }
    counts = dict(zip(feed.names, feed.counts(batch), strict=True))
    assert counts["repeated_clips"] == 2
    assert counts["pairs/video_text"] == 2
    assert counts["pairs/video_audio"] == 0
    feed.add(counts)
    lines = feed.starved()
    assert "no clip so far has both video and audio: " in lines[-1]
    assert not any("video and text" in line for line in lines)
    feed.add({name: 1 for name in feed.names})
    assert feed.starved() == []


def test_clips_with_a_label_and_what_it_is_told_from_are_counted():
    entry = LabelEntry(term=softmax_cross_entropy.Term(), classifier="kind", modality="audio")
    feed = Feed(Objective({"kind": entry}))
    assert feed.names == ("repeated_clips", "labels/audio")
    batch = {
        "record": np.arange(3),
        "audio_mask": np.array([True, True, False]),
        "labels_mask": np.array([False, True, True]),
    }
    assert feed.counts(batch) == [0, 1]
    assert feed.starved() == ["no clip so far has both labels and audio: kind learned nothing"]
    feed.add({"labels/audio": 1})
    assert feed.starved() == []


def test_a_batch_larger_than_the_corpus_is_named():
    assert too_few(Numbered(clips=8), 8) == []
    (line,) = too_few(Numbered(clips=6), 8)
    assert line.startswith("data.source has 6 clips for the 8 of a batch")
    parts = {
        "a": {"name": NUMBERED, "clips": 1},
        "b": {"name": NUMBERED, "clips": 9, "weight": 3.0},
    }
    (line,) = too_few(mixture.Source(sources=parts), 8)
    assert line.startswith("part 1 of data.source has 1 clips for the 2 of a batch")


@pytest.mark.long
def test_a_run_says_so_at_its_start_at_its_first_step_and_in_its_metrics(
    experiment, tmp_path, capsys
):
    loop.train(experiment, experiment.training_source(), tmp_path)
    printed = capsys.readouterr().out
    assert "data.source has 6 clips for the 8 of a batch" in printed
    # After the first step, and at the end.
    assert printed.count("no clip so far has both video and audio") == 2
    first, second = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert (first["pairs/video_text"], first["pairs/video_audio"]) == (8, 0)
    assert first["repeated_clips"] + second["repeated_clips"] >= 4


def test_the_share_of_unknown_pieces_is_counted(experiment):
    feed = Feed(experiment.objective, experiment.tokenizer)
    space, unknown = experiment.tokenizer.empty_ids[2], experiment.tokenizer.unknown_id
    masks = {name: np.ones(1, bool) for name in ("video_mask", "audio_mask", "text_mask")}
    tokens = np.array([[[space, unknown, 5, 6, 7, 0, 0]]], np.int32)
    counts = feed.counts({"record": np.array([0]), "tokens": tokens, **masks})
    named = dict(zip(feed.names, counts, strict=True))
    assert (named["pieces"], named["unknown_pieces"]) == (4, 1)
    assert feed.metrics(named)["unknown_pieces"] == 0.25
    assert "pieces" not in feed.metrics(named)


class Spoken(list):
    """Clips with one caption each."""

    def __init__(self, *texts):
        super().__init__(Clip(text, captions=(Caption(text),)) for text in texts)


def test_the_share_of_unknown_pieces_is_said_and_nothing_but_unknown_is_refused(experiment):
    def said(*texts):
        return "\n".join(startup.text_lines(experiment.assembler(Spoken(*texts))))

    assert "0.0% of" in said("a red circle moves left")
    assert said("a red circle", "红球").endswith("captions of 2 clips are unknown to the tokenizer")
    assert said("") == ""
    with pytest.raises(ConfigError, match="knows nothing of the captions of 2 clips"):
        said("红球滚动", "红球")
