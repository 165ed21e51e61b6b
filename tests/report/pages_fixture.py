"""A small run with gates, a checkpoint and results, and its page."""

import dataclasses
import functools
import json

import jax
import numpy as np

from configs import quickstart
from fgmm.experiment import build as experiments
from fgmm.train.checkpoint import Checkpoints
from tests.shrunken import shrunken

STEP = 2


@functools.cache
def experiment():
    config = shrunken(quickstart.get_config("fine=gated"), pair="video_text")
    config.evals.retrieval.source.update(clips=6, captions=(2, 3))
    return experiments.build(config)


@functools.cache
def state():
    made = jax.jit(experiment().init)(3)
    return dataclasses.replace(made, step=made.step + STEP)


def write_run(folder):
    """A run that trained two steps, as its folder is afterwards."""
    checkpoints = Checkpoints(folder, experiment(), experiment().config.checkpoint)
    checkpoints.save(STEP, state(), {"next_step": STEP, "problems": {}})
    checkpoints.close()
    terms = list(experiment().objective.terms)
    lines = [
        {
            "step": step,
            "loss": 3.0 / step,
            **{f"loss/{term}": 1.0 / step for term in terms},
            "learning_rate": 0.1,
            "clips_per_second": 7.0,
            "data_wait": 0.25,
            "skipped": float(step == 2),
            "pairs/video_text": 0.0,
            "bad_input/no_video": 4.0,
        }
        for step in (1, 2)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = {"r@1": 0.5, "r@1_low": 0.25, "r@1_high": 0.75, "chance_r@1": 0.125}
    results = {f"sum/text_to_video/{name}": value for name, value in figure.items()}
    report = {"evaluation": "retrieval", "step": STEP, "weights": "last", "results": results}
    report["protocol"] = {"pair": "video_text"}
    (folder / f"retrieval-{STEP}.json").write_text(json.dumps(report))
    start = {"from_step": 0, "commit": "abc", "jax": "1", "devices": "1 x cpu", "cpu": "x"}
    start |= {"processes": 1, "date": "2024-01-01"}
    (folder / "provenance.jsonl").write_text(json.dumps(start) + "\n")
    return folder


def picture():
    """The first clip of the corpus, as a picture."""
    source = experiment().source(experiment().config.evals.retrieval.source, "source")
    return np.asarray(source[0].video())[0]
