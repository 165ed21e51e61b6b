"""A study of two arms whose trainer is fake, and results made up."""

import pathlib

import numpy as np

FAKE = "tests.study.fake_trainer"
DEFAULTS = {
    "pairs": "video_text",
    "batch": 4,
    "noise": 0.5,
    "rate": 0.004,
    "temperature_times": 1.0,
}
ARMS = {
    "coarse_arm": {"title": "coarse", "family": "coarse", "score": "fine"},
    "fine_arm": {"title": "fine", "family": "fine", "score": "fine"},
}


def study(tmp_path: pathlib.Path, **changes):
    """The dict of a study: two arms by two seeds, tuned over three rates."""
    experiment = tmp_path / "experiment.py"
    experiment.write_text(
        "import ml_collections\n\n\ndef get_config(argument=None):\n"
        "    return ml_collections.ConfigDict({'seed': 0, 'batch_size': 4, 'steps': 1})\n"
    )
    arms = ("coarse_arm", "fine_arm")
    return {
        "experiment": str(experiment),
        "trainer": FAKE,
        "defaults": DEFAULTS,
        "arms": ARMS,
        "tune": {
            "grids": [{"arm": arms, "examples": 32, "rate": (0.002, 0.004, 0.008), "seed": 100}],
            "by": ("arm", "batch"),
            "chosen": ("rate", "temperature_times"),
            "evaluations": ((FAKE, ""),),
        },
        "run": {
            "grids": [{"arm": arms, "examples": 32, "seed": (0, 1)}],
            "evaluations": ((FAKE, ""),),
        },
        **changes,
    }


def result(
    arm: str,
    family: str,
    seed: int,
    value: float,
    *,
    batch: int = 32,
    noise: float = 0.5,
    updates: int = 80,
    rise: float = 1.0,
    queries: int = 100,
    speed: float = 1.0,
    **coordinates,
):
    """A result file in which R@10 is ``value`` both ways.

    Its learning curve comes to the end's value after ``rise`` of the updates in a straight line.
    """
    ways = ("text_to_video", "video_to_text")
    names = [f"retrieval_video_text/{family}/{way}" for way in ways]
    steps = [updates * i // 8 for i in range(1, 9)]
    right = round(value * queries)
    ranks = [1] * right + [50] * (queries - right)
    start = {"commit": "abc", "cpu": "1 core", "devices": "1 x cpu", "jax": "1", "date": "today"}
    curve = [round(value * min(1, step / updates / rise), 6) for step in steps]
    return {
        "name": f"{arm}-batch{batch}-noise{noise}-updates{updates}-seed{seed}",
        "stage": "run",
        "coordinates": {
            **{"arm": arm, "pairs": "video_text", "batch": batch, "noise": noise, "seed": seed},
            **{"examples": updates * batch, "rate": 0.004 + seed * 0, **coordinates},
        },
        "arm": {"title": arm.replace("_", " "), "family": family, "score": family},
        "chosen": ["rate"],
        "experiment": "narrated_shapes",
        "trained": {"started": [start]},
        "wall_seconds": 60.0,
        "updates": updates,
        "examples": updates * batch,
        "flops": 1e9 * updates * batch,
        "metrics": {
            **{f"{name}/r@10": value for name in names},
            **{f"retrieval_video_text/coarse/{way}/r@10": value for way in ways},
        },
        "judged": {
            "text to clip": f"{names[0]}/r@10",
            "clip to text": f"{names[1]}/r@10",
        },
        "curve": {
            "step": steps,
            "seconds": [step / speed for step in steps],
            **{f"{name}/r@10": curve for name in names},
        },
        "by_query": {f"{name}/rank": ranks for name in names},
    }


def spread(values, seed: int = 0):
    """The values with a little chance of their own."""
    return np.clip(values + np.random.default_rng(seed).normal(0, 0.01, np.shape(values)), 0, 1)
