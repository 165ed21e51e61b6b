"""The result file of a cell: small enough to be committed, whole or not there at all.

Its keys: ``stage`` and ``coordinates`` of the cell; ``arm`` with title, family and score;
``chosen``, the axes that were tuned; ``experiment``, the config file, and ``differences`` of the
trained config from that file's own; ``trained`` as of ``fgmm.provenance.of_run``, with commit,
hardware and date of every start; ``evaluated``, the commits that evaluated; ``wall_seconds`` of
all programs; ``updates``, ``examples`` and ``flops`` of training; ``metrics``; ``judged``, the
metrics that the arm is judged by; ``curve``, R@10 at the evaluations inside training; ``by_query``,
the rank of every query or whether it was right, and the clip that each of several captions has.
"""

import json
import os
import pathlib
import re
import runpy
from collections.abc import Mapping
from typing import Any

from fgmm.config import ConfigError, as_dict, files, flat
from fgmm.report.result import gather
from fgmm.study.grid import Cell, Study

Result = dict[str, Any]

# Details of an evaluation that no table shows.
_DETAILS = re.compile(r"_fold_|class_accuracy/|inverse_strength|chance_(median|mean)_rank")
_RECALL = re.compile(r"(?P<label>[^/]+)/(?P<score>\w+)/(?P<direction>\w+)/r@10")


def gathered(
    study: Study, cell: Cell, workdir: pathlib.Path, base: Mapping[str, Any], wall_seconds: float
) -> Result:
    """The result of a cell whose programs have all ended.

    Args:
      study, cell: what was run.
      workdir: of its training.
      base: config of the experiment's file without variants, from ``base_config``.
      wall_seconds: that its programs took.

    Raises:
      ConfigError: an evaluation or a metric is missing.
    """
    found = gather(workdir)
    config, arm = flat(found["config"]), study.arms[str(cell.coordinates["arm"])]
    lines = _lines(workdir / "metrics.jsonl")
    batch, metrics = found["config"]["batch_size"], found["results"]
    return {
        "stage": cell.stage,
        "coordinates": cell.coordinates,
        "arm": arm,
        "chosen": study.tune.chosen if study.tune else (),
        "experiment": study.experiment,
        "differences": {
            key: value for key, value in config.items() if key not in base or base[key] != value
        },
        "trained": found["trained"],
        "evaluated": sorted({str(origin["commit"]) for origin in found["evaluated"].values()}),
        "wall_seconds": round(wall_seconds, 1),
        "updates": found["step"],
        "examples": found["trained"]["examples_seen"],
        "flops": found["step"] * _step_flops(lines, batch),
        "metrics": {
            name: round(value, 6) for name, value in metrics.items() if not _DETAILS.search(name)
        },
        "judged": _judged(metrics, arm["score"], workdir),
        "curve": _curve(lines, batch),
        "by_query": _by_query(workdir, found["step"]),
    }


def base_config(experiment: str) -> dict[str, Any]:
    """The values of a config file without variants, by their whole keys."""
    path = files.resolved(experiment, "experiment")
    return flat(as_dict(runpy.run_path(path)["get_config"](None)))


def _judged(metrics: Mapping[str, float], score: str, workdir: pathlib.Path) -> dict[str, str]:
    recalls = [match for name in metrics if (match := _RECALL.fullmatch(name))]
    labels = {match["label"] for match in recalls if match["score"] == score}
    if not labels:
        raise ConfigError(f"{workdir}: no evaluation has the score {score!r} of the arm")
    # If several pairs were retrieved, the pair of pictures and words counts.
    label = max(sorted(labels), key=lambda name: "video" in name)
    judged = {}
    for match in recalls:
        if (match["label"], match["score"]) == (label, score):
            of_text = match["direction"].startswith("text_to")
            judged["text to clip" if of_text else "clip to text"] = match[0]
    if (probe := "linear_probe_motion/accuracy") in metrics:
        judged["motion probe"] = probe
    return judged


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The steps of a run, each once; a kill may have left half a line."""
    steps = {}
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        steps[line["step"]] = line
    return [steps[step] for step in sorted(steps)]


def _step_flops(lines: list[dict[str, Any]], batch: int) -> int:
    """Of the last line that has them, for the first after a start has none; 0 if there is none."""
    for line in reversed(lines):
        if "flops_per_second" in line:
            return round(batch * line["flops_per_second"] / line["clips_per_second"])
    return 0


def _curve(lines: list[dict[str, Any]], batch: int) -> dict[str, list[int | float]]:
    """Step, seconds of training and R@10 at each evaluation.

    As in ``fgmm.provenance``, the first step, which compiles, takes no time.
    """
    curve: dict[str, list[int | float]] = {"step": [], "seconds": []}
    seconds = 0.0
    for line in lines:
        if line["step"] > 1:
            seconds += batch / line["clips_per_second"]
        recalls = {name: value for name, value in line.items() if _RECALL.fullmatch(name)}
        if recalls:
            curve["step"].append(line["step"])
            curve["seconds"].append(round(seconds, 1))
            for name, value in recalls.items():
                curve.setdefault(name, []).append(round(value, 6))
    return curve


def _by_query(workdir: pathlib.Path, step: int) -> dict[str, list[int]]:
    outcomes = {}
    for path in sorted(workdir.glob(f"*-{step}.json")):
        label = path.stem.rpartition("-")[0]
        report = json.loads(path.read_text())
        for name, values in report.get("by_query", {}).items():
            outcomes[f"{label}/{name}"] = values
        for name, queries in report.get("queries", {}).items():
            # Without groups each query stands alone.
            if len(set(queries["group"])) < len(queries["group"]):
                outcomes[f"{label}/{name}/group"] = queries["group"]
    return outcomes


def write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file whole or not at all, with a line for each key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    partial = path.with_name(path.name + ".partial")
    partial.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(partial, path)


def read(path: pathlib.Path) -> Result:
    """The result in a file.

    Raises:
      ConfigError: it is no result of a cell.
    """
    try:
        result = json.loads(path.read_text())
        result["coordinates"]["arm"], result["judged"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no result of a cell; remove it") from error
    return result


def read_all(folder: pathlib.Path) -> list[Result]:
    """The results in a folder, by the names of their files."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def is_done(cell: Cell, path: pathlib.Path) -> bool:
    """Whether the file holds the result of this cell.

    A cell is not done if its tuned values have been chosen again since. An axis that was added to
    the study later is not in the file, and its default holds.
    """
    if not path.exists():
        return False
    coordinates = read(path)["coordinates"]
    return all(cell.coordinates.get(axis) == value for axis, value in coordinates.items())
