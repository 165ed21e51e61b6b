import importlib
import re

import ml_collections
import pytest

from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError


def quickstart(argument=None):
    return importlib.import_module("configs.quickstart").get_config(argument)


def test_defaults_satisfy_their_own_check():
    configs.check_keys(configs.defaults())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bath_size", 3, "bath_size=3 is unknown; allowed: .*; did you mean batch_size\\?$"),
        ("data.frame", 3, "data.frame=3 is unknown; allowed: .*; did you mean frames\\?$"),
        ("steps", "many", "steps='many' is not of type int"),
        ("optimizer.learning_rate", "high", "optimizer.learning_rate='high' is not of type float"),
        ("data", 3, "data=3 must be a dict"),
        ("data.frames", 0, "data.frames=0 must be at least 1"),
        ("optimizer.ema", 1.5, "optimizer.ema=1.5 must be from 0.0 to 1.0"),
        ("optimizer.learning_rate", float("nan"), "optimizer.learning_rate=nan must be finite"),
        ("exchange", "rings", "exchange='rings' is unknown; allowed: gather, ring; did you mean"),
        ("transforms.hue", 0.6, "transforms.hue=0.6 must be from 0 to 0.5"),
        ("objective", {"term": {}}, "objective.term={} is unknown; allowed: score, terms"),
        ("patience_nonfinite", 0, "patience_nonfinite=0 must be at least 1"),
    ],
)
def test_wrong_keys_and_types_are_named(key, value, message):
    config = quickstart().unlock()
    *path, last = key.split(".")
    node = config
    for part in path:
        node = node[part]
    with node.ignore_type():
        node[last] = value
    with pytest.raises(ConfigError, match=message):
        configs.check_keys(config)


def test_a_missing_key_is_named():
    config = quickstart().unlock()
    del config.data["frames"]
    with pytest.raises(ConfigError, match=r"data\.frames is missing"):
        configs.check_keys(config)


def test_what_is_no_section_is_named():
    config = configs.defaults().unlock()
    with config.ignore_type():
        config.mesh = 3
    with pytest.raises(ConfigError, match="mesh=3 must be a dict of keys"):
        configs.check_keys(configs.completed(config))


def test_a_dict_in_the_place_of_a_section_has_the_defaults_of_what_it_leaves_out():
    config = configs.plain(configs.defaults()) | {"init_from": {"path": "runs/a"}}
    completed = configs.completed(config)
    configs.check_keys(completed)
    assert completed["init_from"] == {
        **configs.plain(configs.defaults().init_from),
        "path": "runs/a",
    }


def test_complete_writes_the_defaults_of_every_component():
    config = quickstart()
    assert config.model.text.depth == 2
    assert config.data.source.distractors == 1
    assert config.evals.retrieval.captions == 5
    assert config.objective.terms.coarse_video_text.direction == "y_to_x"
    assert config.objective.terms.coarse_video_text.weight == 1.0
    assert config.evals.retrieval.every == 0
    assert config.model.spaces.joint.hidden == 0


def test_complete_needs_a_known_name():
    config = configs.defaults()
    config.model.video = {"name": "nope"}
    with pytest.raises(ConfigError, match=r"model\.video\.name='nope' is unknown"):
        components.complete(config)
    config.model.video = {"widths": (8,)}
    with pytest.raises(ConfigError, match=r"model\.video\.name='' is unknown"):
        components.complete(config)


def test_differences_leave_out_what_does_not_change_a_run():
    saved, current = quickstart(), quickstart().unlock()
    current.checkpoint.every_steps = 7
    current.data.workers = 3
    assert configs.differences(saved, current) == []
    current.optimizer.learning_rate = 1.0
    current.model.text.width = 8
    assert configs.differences(saved, current) == [
        "model.text.width: 64 -> 8",
        "optimizer.learning_rate: 0.004 -> 1.0",
    ]


def test_as_dict_is_the_same_after_json():
    config = ml_collections.ConfigDict({"a": (1, (2, 3)), "b": {"c": [4]}})
    assert configs.as_dict(config) == {"a": [1, [2, 3]], "b": {"c": [4]}}


def test_a_saved_config_gains_the_keys_that_are_new():
    saved = configs.plain(configs.defaults())
    del saved["grad_cache"], saved["transforms"]["mel_hop"]
    saved["seed"] = 5
    saved["model"] = {"video": {"name": "mine"}, "spaces": {}}
    complete = configs.with_new_keys(saved)
    assert complete["grad_cache"] == 1
    assert complete["transforms"]["mel_hop"] == configs.defaults().transforms.mel_hop
    assert complete["seed"] == 5
    # What a config file fills in by itself is nobody else's to add to.
    assert complete["model"] == saved["model"]
    saved["model"]["spaces"] = {"joint": {"width": 3, "pool": "max"}}
    joint = configs.with_new_keys(saved)["model"]["spaces"]["joint"]
    assert joint == {
        **{"width": 3, "pool": "max", "hidden": 0, "gate": "none"},
        **{"bias": False, "unit_length": True, "dtype": "float32", "through": ""},
    }
    assert "grad_cache" not in saved


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.video", "s3d", 'must be a dict of keys, such as {"name": "s3d"}'),
        ("objective.terms.x", 3, "must be a dict of keys, such as"),
        ("evals.x", "retrieval", 'must be a dict of keys, such as {"name": "retrieval"}'),
        ("evals.x", {"name": "retrieval", "source": "esc50"}, "must be a dict of keys, such as"),
        ("loggers.x", ("wandb",), "must be a dict of keys"),
        ("data.source", {"name": "folds", "source": "esc50"}, "must be a dict of keys, such as"),
        ("model.video", {"name": 3}, ".name=3 must be text"),
        ("data.source", {"name": "folds", "source": {"name": 3}}, ".source.name=3 must be text"),
        ("model.classifiers", 3, "must be a dict of entries"),
    ],
)
def test_an_entry_that_is_no_dict_is_named(key, value, message):
    config = configs.plain(quickstart())
    *above, name = key.split(".")
    configs.at(config, ".".join(above))[name] = value
    with pytest.raises(ConfigError, match=rf"^{key}.*{re.escape(message)}"):
        list(
            components._entries_with_sources(components.complete(ml_collections.ConfigDict(config)))
        )
