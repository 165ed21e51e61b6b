"""Loggers that work, and ones that fail, which cost a run nothing but a line."""

import dataclasses
import json
import threading
from typing import ClassVar

import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.train import log_sinks, metrics_writer
from fgmm.train.log_sinks import LogSinks
from fgmm.train.loggers import Run
from fgmm.train.speed import Speed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remembering:
    """Remembers what it is told, and fails where it is asked to."""

    fails_at: str = ""
    told: ClassVar[list] = []

    def open(self, run):
        self._call("open", run)
        return self

    def write(self, step, metrics):
        self._call("write", step, dict(metrics))

    def close(self):
        self._call("close")

    def _call(self, what, *given):
        if what == self.fails_at:
            raise OSError(f"no network\nfor {what}")
        self.told.append((what, *given))


@pytest.fixture(autouse=True)
def told():
    Remembering.told.clear()
    return Remembering.told


def test_metrics_reach_a_logger_from_its_config_entry(tmp_path, told):
    entry = {"name": f"{__name__}:Remembering"}
    loggers = log_sinks.from_config({"loggers": {"mine": entry}})
    sinks = LogSinks(loggers, Run(tmp_path, {"sizes": (1, 2)}, 3))
    sinks.write(4, {"loss": 0.5})
    sinks.close()
    # The config as JSON has it.
    begun = Run(tmp_path, {"sizes": [1, 2]}, 3)
    assert told == [("open", begun), ("write", 4, {"loss": 0.5}), ("close",)]


@pytest.mark.parametrize("when", ["open", "write", "close"])
def test_one_that_fails_is_said_once_and_the_others_go_on(tmp_path, told, capsys, when):
    loggers = {"bad": Remembering(fails_at=when), "good": Remembering()}
    sinks = LogSinks(loggers, Run(tmp_path, {}, 0))
    for step in (1, 2):
        sinks.write(step, {"loss": 1.0})
    sinks.close()
    line = f"logger bad failed and is left out from here on: OSError: no network for {when}\n"
    assert capsys.readouterr().out == line
    assert told.count(("write", 2, {"loss": 1.0})) == (2 if when == "close" else 1)
    assert told.count(("close",)) == 1


def test_one_that_does_not_end_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log_sinks, "CLOSING_SECONDS", 0.05)
    stuck = threading.Event()

    class Stuck(Remembering):
        def close(self):
            stuck.wait(60)

    sinks = LogSinks({"slow": Stuck()}, Run(tmp_path, {}, 0))
    sinks.close()
    stuck.set()
    assert "logger slow has not ended in 0 s; the run ends without it" in capsys.readouterr().out


def test_the_writer_of_metrics_hands_them_on(tmp_path, told):
    sinks = LogSinks({"mine": Remembering()}, Run(tmp_path, {}, 0))
    speed = Speed(batch_size=4, total=2, flops=lambda: 8e9, peak=None)
    writer = metrics_writer.MetricsWriter(tmp_path, 0, 2, speed, False, sinks)
    writer.write(1, {"loss": 1.0, **speed.finished(1)})
    writer.close()
    (_, (_, step, metrics), ended) = told
    assert {"step": step, **metrics} == json.loads((tmp_path / "metrics.jsonl").read_text())
    assert ended == ("close",)


def test_a_flag_makes_an_entry():
    config = quickstart.get_config()
    flags = {"loggers.mine.name": f"{__name__}:Remembering", "loggers.mine.fails_at": "open"}
    components.renamed(config, flags)
    entry = {"name": flags["loggers.mine.name"], "fails_at": ""}
    assert config.loggers.to_dict() == {"mine": entry}


def test_a_wrong_entry_is_named():
    message = r"loggers\.x\.name='nope' is unknown; allowed: trackio, wandb"
    with pytest.raises(ConfigError, match=message):
        log_sinks.from_config({"loggers": {"x": {"name": "nope"}}})
    entry = {"name": "wandb", "mode": "never"}
    with pytest.raises(ConfigError, match=r"loggers\.x\.mode='never' is unknown; allowed: online"):
        log_sinks.from_config({"loggers": {"x": entry}})


def test_a_package_that_is_missing_is_named_before_anything_starts(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        log_sinks.from_config({"loggers": {"mine": {"name": "trackio"}}})
    assert str(caught.value) == (
        "loggers.mine: the package 'trackio' is missing: pip install 'fgmm[trackio]', or leave "
        "this logger out"
    )
