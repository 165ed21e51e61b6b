"""Takes the place of the trainer and of an evaluation, and writes what they write at once.

    python -m tests.study.fake_trainer --workdir=DIR --config=FILE:arm=...,batch=... --config.seed=0
    python -m tests.study.fake_trainer --workdir=DIR [--by_query]

The file ``FAKE_TRAINER`` of the environment holds what is to go wrong: arms and rates that fail,
and seconds that training sleeps in the middle.
"""

import json
import os
import pathlib
import sys
import time

SECONDS_OF_A_STEP = 0.5
QUERIES = 20


def score(arm: str, rate: float) -> float:
    """R@10 is the higher the nearer the rate is to 0.004; fine arms are better by a fifth."""
    return 0.4 + 0.2 * (arm == "fine_arm") - abs(rate - 0.004) * 50


def train(workdir: pathlib.Path, variants: dict[str, str], seed: int) -> None:
    plan = json.loads(pathlib.Path(os.environ["FAKE_TRAINER"]).read_text())
    batch, steps = int(variants["batch"]), int(variants["examples"]) // int(variants["batch"])
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / "starts", "a") as starts:
        print(os.getpid(), sorted(os.sched_getaffinity(0)), file=starts)
    if variants["arm"] in plan["failing"]:
        sys.exit("error: this arm always fails")
    if float(variants["rate"]) in plan["diverging"]:
        sys.exit("error: this rate is too high")
    time.sleep(plan["sleep"])
    final = score(variants["arm"], float(variants["rate"]))
    with open(workdir / "metrics.jsonl", "w") as file:
        for step in range(1, steps + 1):
            line = {"step": step, "clips_per_second": batch / SECONDS_OF_A_STEP}
            line["flops_per_second"] = 1000 * batch / SECONDS_OF_A_STEP
            if step % (steps // 4) == 0:
                for way in ("text_to_video", "video_to_text"):
                    line[f"retrieval/fine/{way}/r@10"] = final * step / steps
            print(json.dumps(line), file=file)
    run = {"seed": seed, "batch": batch, "steps": steps, "final": final, "variants": variants}
    (workdir / "trained.json").write_text(json.dumps(run))


def evaluate(workdir: pathlib.Path, by_query: bool) -> None:
    run = json.loads((workdir / "trained.json").read_text())
    ranks = [1] * round(run["final"] * QUERIES)
    ranks += [11] * (QUERIES - len(ranks))
    origin = {"commit": "abc", "cpu": "1 core", "devices": "1 x cpu", "jax": "1", "date": "today"}
    report = {
        "evaluation": "retrieval",
        "step": run["steps"],
        "trained": {
            "started": [{"from_step": 0, **origin}],
            "examples_seen": run["steps"] * run["batch"],
            "train_seconds": SECONDS_OF_A_STEP * (run["steps"] - 1),
        },
        "evaluated": origin,
        "protocol": {},
        "results": {},
        "config": {
            "seed": run["seed"],
            "batch_size": run["batch"],
            "steps": run["steps"],
            "data": {"source": {"name": "narrated_shapes"}},
        },
    }
    outcomes = {}
    for way in ("text_to_video", "video_to_text"):
        report["results"][f"fine/{way}/r@10"] = run["final"]
        report["results"][f"coarse/{way}/r@10"] = run["final"] / 2
        outcomes[f"fine/{way}/rank"] = ranks
    if by_query:
        report["by_query"] = outcomes
    (workdir / f"retrieval-{run['steps']}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
    folder = pathlib.Path(given["workdir"])
    if "config" in given:
        pairs = (part.split("=") for part in given["config"].partition(":")[2].split(","))
        train(folder, dict(pairs), int(given["config.seed"]))
    else:
        evaluate(folder, "by_query" in given)
