"""Every shipped config trains one shrunken step and is evaluated."""

import importlib
import json
import math
import pathlib

import jax
import numpy as np
import pytest

from configs import prepared
from fgmm import config as configs
from fgmm.convert import clip as clip_weights
from fgmm.convert import converted, efficientnet_lite0, published, wordllama
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.task import open_task
from fgmm.data.text import tokenizers
from fgmm.eval import inside_training
from fgmm.experiment import build as experiments
from fgmm.experiment import schedules
from fgmm.train import loop
from tests.convert.published_folders import write_clip
from tests.convert.test_wordllama import write as write_words
from tests.data import corpora_fixture
from tests.data.features_fixture import write_features
from tests.data.flickr8k_fixture import write_flickr8k
from tests.data.test_prepare import written
from tests.data.video_fixture import write_howto100m, write_narrated_videos
from tests.shrunken import shrunken

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parent.parent / "configs").glob("*.py")
    if path.stem != "__init__"
)


def converted_runs(folder):
    """Small published CLIP, EfficientNet-Lite0 and WordLlama as the runs they are converted to."""
    clip, network = folder / "clip", folder / "efficientnet_lite0"
    write_clip(folder / "published")
    read = published.read(folder / "published")
    converted.write(clip_weights.as_run(read), clip, {})
    config = efficientnet_lite0.model_config(size=32)
    config.model.video.blocks = (1, 1)
    experiment = experiments.build(config)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), experiment.abstract_state)
    found = converted.Conversion(experiment, zeros)
    converted.write(found, network, {})
    words = folder / "wordllama"
    converted.write(wordllama.as_run(published.read(write_words(folder / "package"))), words, {})
    return clip, network, words


def prepared_variants(folder, narrated, model):
    """Of two corpora that were prepared: videos with narration, and the sounds of a few classes."""
    sounds = folder / "sounds"
    sounds.mkdir()
    roots = {"howto100m:validation=0.3": narrated, "esc50": corpora_fixture.write_esc50(sounds)}
    for source, root in roots.items():
        output = folder / f"prepared_{source.partition(':')[0]}"
        written(open_task(source, str(root), output, encoding=Encoding()))
    first = f"root={folder / 'prepared_howto100m'}"
    return {
        "howto100m": f"{first},tokenizer={model}",
        "both": f"{first}+{folder / 'prepared_esc50'}@whole,tokenizer={model}",
    }


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """Variants of the configs that read files, pointing to small ones made here."""
    tmp_path = tmp_path_factory.mktemp("variants")
    corpus = tmp_path / "corpus"
    write_flickr8k(corpus, 16, 0)
    source = importlib.import_module("fgmm.data.sources.flickr8k").Source(root=str(corpus))
    captions = (c.text for i in range(len(source)) for c in source[i].captions)
    model = tmp_path / "model"
    tokenizers.train(captions, model, 100)
    videos = write_narrated_videos(tmp_path / "videos", 16)
    on_videos = f"root={videos},tokenizer={model},validation=0.3"
    narrated = write_howto100m(tmp_path / "howto100m", 16)
    on_howto100m = f"root={narrated},tokenizer={model},validation=0.3"
    on_prepared = prepared_variants(tmp_path, narrated, model)
    stored = tmp_path / "stored"
    for split in ("train", "dev", "near"):
        write_features(stored / split, 16, (1, 7, 7, 1280))
    clip, network, words = converted_runs(tmp_path)
    on_pictures = f"root={corpus},tokenizer={model},weights={network}"
    on_clip = f"clip={clip},corpus=flickr8k,root={corpus}"
    msr_vtt = tmp_path / "msr_vtt"
    msr_vtt.mkdir()
    corpora_fixture.write_msr_vtt(msr_vtt, 16)
    on_msr_vtt = f"clip={clip},root={msr_vtt}"
    return {
        "corpus": [
            f"source=video_folder,{on_videos}",
            f"kind=image,source=flickr8k,root={corpus},tokenizer={model},evaluate=dev",
        ],
        "quickstart": [None, "fine=annealed", "fine=gated"],
        "narrated_shapes": [None, "arm=gated_both", "arm=coarse_bag,pairs=all"],
        "flickr8k": [
            f"root={corpus},tokenizer={model}",
            f"root={corpus},tokenizer={model},objective=coarse",
        ],
        "flickr8k_features": [
            f"root={stored},tokenizer={model}",
            f"root={stored},arm=coarse_mean,wrong=0.5,words={words}",
            f"root={stored},tokenizer={model},arm=coarse_bag,captions=4,shown=2",
        ],
        "storybook_features": [
            f"root={stored},words={words}",
            f"root={stored},tokenizer={model},arm=coarse_mean,captions=1",
        ],
        "flickr8k_pretrained": [
            f"{on_pictures},blocks=1",
            f"{on_pictures},arm=coarse_mean,wrong=0.5",
        ],
        "flickr_clip": [
            f"{on_clip},fine=fine_grained_nce,rank=2",
            on_clip,
        ],
        "msr_vtt_clip": [
            f"{on_msr_vtt},time=transformer",
            f"{on_msr_vtt},fine=fine_grained_nce",
        ],
        "howto100m_s3d": [
            f"{on_prepared['howto100m']},source=prepared",
            f"{on_howto100m},fine=none,recipe=small",
        ],
        "howto100m_tsm50": [on_howto100m],
        "finetune": [f"checkpoint={network},corpus=motion,clips=40,size=32"],
        "prepared": [f"{on_prepared['both']},fine=mil_nce,weights=1+2"],
        "video_folder": [on_videos, f"{on_videos},fine=mil_nce"],
    }


def train_one_step(name, argument, workdir):
    get_config = importlib.import_module(f"configs.{name}").get_config
    configs.check_keys(get_config(argument))
    experiment = experiments.build(shrunken(get_config(argument)))
    source = experiment.training_source()
    state = loop.train(experiment, source, workdir, inside_training.from_config(experiment))
    assert state.step == 1
    (line,) = [json.loads(text) for text in (workdir / "metrics.jsonl").open()]
    assert math.isfinite(line["loss"])
    assert line["skipped"] == 0
    measured = "accuracy@1" if name == "finetune" else "r@10"
    assert any(key.endswith(measured) for key in line)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_shrunken_step(name, variants, tmp_path):
    train_one_step(name, variants.get(name, [None])[0], tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", CONFIGS)
def test_one_shrunken_step_of_other_variants(name, variants, tmp_path):
    for number, argument in enumerate(variants.get(name, [None])[1:]):
        train_one_step(name, argument, tmp_path / f"run{number}")


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("corpus", "evaluate="),
        ("corpus", "validation=0"),
        ("flickr8k", "validation="),
        ("prepared", "validation="),
        ("video_folder", "validation=0"),
        ("howto100m_s3d", "validation=0"),
        ("howto100m_tsm50", "validation=0"),
    ],
)
def test_all_of_a_corpus_can_be_trained_on(name, argument):
    config = importlib.import_module(f"configs.{name}").get_config(argument)
    assert not config.evals
    assert config.checkpoint.best_metric == ""


def test_words_come_with_their_tokenizer():
    get_config = importlib.import_module("configs.flickr8k_features").get_config
    with pytest.raises(configs.ConfigError, match="words='run' has a tokenizer of its own"):
        get_config("words=run,tokenizer=mine.model")


@pytest.mark.parametrize(
    ("arm", "coarse", "fine"),
    [("gated_both", (0.14, 0.1), (0.07, 0.05)), ("coarse_mean", (0.07, 0.1), None)],
)
def test_the_temperatures_of_an_arm(arm, coarse, fine):
    """Of the loss and of attention, with half of the tuned one and twice that of coarse losses."""
    get_config = importlib.import_module("configs.narrated_shapes").get_config
    config = get_config(f"arm={arm},temperature_times=0.5,coarse_times=2.0")
    found = {
        entry.level: pytest.approx((entry.temperature, entry.attention_temperature))
        for entry in config.objective.terms.values()
    }
    assert found == ({"coarse": coarse, "fine": fine} if fine else {"coarse": coarse})


def test_slideshows_that_are_tuned_on_share_no_image_with_training():
    get_config = importlib.import_module("configs.flickr8k_features").get_config
    config = get_config("shown=4,captions=20,wrong=0.5,split=tune")
    trained, ranked = config.data.source, config.evals.retrieval.source
    assert [trained.name, trained.source.name] == ["slideshow", "wrong_captions"]
    assert trained.source.source.stop == ranked.source.start == 5000
    assert (config.data.frames, config.evals.retrieval.captions) == (4, 20)
    with pytest.raises(configs.ConfigError, match="shown=0 must be above 0"):
        get_config("shown=0")


def test_pages_are_ranked_by_their_own_text():
    get_config = importlib.import_module("configs.storybook_features").get_config
    for captions, folder in ((1, "train"), (3, "near")):
        config = get_config(f"captions={captions},split=tune")
        trained, ranked = config.data.source, config.evals.retrieval.source
        assert (trained.root, trained.stop) == (f"storybook_features/{folder}", 2293)
        assert (ranked.root, ranked.start, ranked.stop) == ("storybook_features/train", 2293, 2590)


def test_a_bag_of_captions_has_more_than_one():
    get_config = importlib.import_module("configs.flickr8k_features").get_config
    with pytest.raises(configs.ConfigError, match="arm='coarse_bag' needs captions above 1"):
        get_config("arm=coarse_bag")


def test_a_split_for_evaluation_that_is_asked_for():
    get_config = importlib.import_module("configs.corpus").get_config
    config = get_config("source=labelled_folder,split=train,evaluate=test")
    assert config.evals.validation.source.split == "test"
    with pytest.raises(configs.ConfigError, match="evaluate='test' names a split, and source="):
        get_config("source=esc50,evaluate=test")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_of_thirty_steps_has_a_warmup_to_match(name, variants):
    get_config = importlib.import_module(f"configs.{name}").get_config
    config = get_config(variants.get(name, [None])[0])
    rate = schedules.schedule(config.optimizer.schedule, 1.0, 30)
    assert np.max(rate(np.arange(9))) == pytest.approx(1.0, abs=0.05)


def test_folders_of_prepared_corpora_may_have_any_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("2024", "a+b", "c.d"):
        (tmp_path / name).mkdir()
    config = prepared.get_config(f"root=~/2024+{tmp_path}/a+b@whole+{tmp_path}/c.d,weights=1+2+3")
    parts = config.data.source.sources
    assert {name: (part.root, part.split, part.weight) for name, part in parts.items()} == {
        "2024": ("~/2024", "train", 1.0),
        "a_b": (f"{tmp_path}/a+b", "whole", 2.0),
        "c_d": (f"{tmp_path}/c.d", "train", 3.0),
    }
    alone = prepared.get_config(f"root={tmp_path}/a+b")
    assert alone.data.source.root == f"{tmp_path}/a+b"
