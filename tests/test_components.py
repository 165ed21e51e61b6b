import dataclasses
import importlib

import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError


def test_a_room_lists_its_components_only():
    assert "retrieval" in components.names("eval")
    assert "metrics" not in components.names("eval")
    assert {"narrated_shapes", "flickr8k"} <= set(components.names("data.sources"))


def test_an_unknown_name_lists_the_allowed_ones():
    with pytest.raises(ConfigError, match=r"model\.video\.name='nope' is unknown; .*resnet2plus1d"):
        components.find("models.video", "nope", key="model.video.name")


def test_an_entry_that_is_missing_is_named():
    config = quickstart.get_config()
    config.data = {"frames": 4}
    with pytest.raises(ConfigError, match=r"^data\.source is missing from the config$"):
        components.complete(config)


def test_a_component_may_live_elsewhere(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "corpus.py").write_text(
        "class Source:\n  def __init__(self, *, split: str): self.split = split"
    )
    entry = {"name": "lab.corpus", "split": "x"}
    assert components.build("data.sources", entry, key="data.source").split == "x"


def test_a_class_elsewhere_is_named_with_its_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab_sources.py").write_text(
        "class Numbers:\n  def __init__(self, *, split: str): self.split = split"
    )
    entry = {"name": "lab_sources:Numbers", "split": "x"}
    assert components.build("data.sources", entry, key="data.source").split == "x"


@pytest.mark.parametrize("name", ["fgmm.config:Nope", "nowhere:Source", "fgmm.config:at", ":"])
def test_a_class_that_is_not_there_is_named(name):
    module, _, attribute = name.partition(":")
    with pytest.raises(ConfigError) as caught:
        components.find("data.sources", name, key="data.source.name")
    assert str(caught.value) == (
        f"data.source.name={name!r} is unknown: there is no class {attribute!r} in a module "
        f"{module!r}"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, r"model\.video\.width=3 is unknown; allowed: blocks, dtype, remat, "),
        ({"blocks": "two"}, r"model\.video\.blocks='two' is not of type int"),
        ({"blocks": True}, r"model\.video\.blocks=True is not of type int"),
        ({"widths": (8, "x", 8)}, r"model\.video\.widths=.* is not of type tuple\[int"),
        ({"widths": (8,)}, r"temporal_strides=\(1, 2, 1\) must have one entry for each"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        components.build("models.video", {"name": "resnet2plus1d", **options}, key="model.video")


def test_required_and_fixed_options():
    entry = {"name": "phrase_transformer"}
    with pytest.raises(ConfigError, match=r"model\.text\.vocabulary is required"):
        components.build("models.text", entry, key="model.text", phrases=4)
    with pytest.raises(ConfigError, match=r"model\.text\.phrases cannot be set here"):
        components.build("models.text", {**entry, "phrases": 3}, key="model.text", phrases=4)


def test_lists_become_tuples_and_defaults_fill_in():
    entry = {"name": "resnet2plus1d", "widths": [8], "temporal_strides": [1]}
    encoder = components.build("models.video", entry, key="model.video")
    assert (encoder.widths, encoder.blocks) == ((8,), 1)


def test_options_of_dataclasses_and_functions():
    @dataclasses.dataclass
    class Options:
        a: int
        b: tuple = (1,)

    def function(*, c: int, d: float = 2.0):
        del c, d

    assert components.options(Options) == {"a": dataclasses.MISSING, "b": (1,)}
    assert components.options(function) == {"c": dataclasses.MISSING, "d": 2.0}


def test_what_differs_from_the_defaults_is_few_lines():
    config = quickstart.get_config()
    lines = components.settings(config)
    assert len(lines) < 30
    assert len(lines) < len(configs.flat(config)) / 5
    (data,) = [line for line in lines if line.startswith("data: ")]
    assert f"sample_rate={config.data.sample_rate}" not in data  # the default
    (schedule,) = [line for line in lines if line.startswith("optimizer.schedule: ")]
    assert schedule == f"optimizer.schedule: warmup={config.optimizer.schedule.warmup!r}"
    config.optimizer.b1 = 0.5
    (optimizer,) = [line for line in components.settings(config) if line.startswith("optimizer: ")]
    assert "b1=0.5" in optimizer


@pytest.mark.parametrize(
    ("name", "corpus"),
    [
        ("retrieval", "narrated_shapes"),
        ("pointing_game", "narrated_shapes"),
        ("linear_probe", "motion"),
        ("zero_shot", "motion"),
    ],
)
def test_a_flag_sets_an_option_that_a_shipped_protocol_leaves_out(name, corpus):
    protocol = importlib.import_module(f"configs.eval.{name}").get_config(f"corpus={corpus}")
    assert components.renamed(protocol, {"batch_size": "8"}) == []
    assert isinstance(protocol.batch_size, int)
