"""The result file of a cell: small enough to be committed, and written atomically.

Its keys:

- ``stage`` and ``coordinates`` of the cell;
- ``defaults`` of the study, by axis;
- ``arm``, with title, family and score;
- ``chosen``, the axes that were tuned;
- ``experiment``, the config file, and ``differences``, the values of the trained config that differ
  from that file without variants;
- ``trained``, as ``fgmm.provenance.of_run``, with commit, hardware and date of every start;
- ``evaluated``, the commits of the evaluations;
- ``wall_seconds`` of all programs together;
- ``updates``, ``examples`` and ``flops`` of training;
- ``metrics`` by name, and ``judged``, the names of those by which the arm is judged;
- ``curve``, R@10 at the evaluations inside training, NaN at those that do not give it;
- ``by_query``, for each query its rank or whether it was right, and for captions the clip of each.
"""

import json
import pathlib
import re
import runpy
from collections.abc import Mapping
from typing import Any

from fgmm import atomic
from fgmm.config import ConfigError, as_dict, files, flat
from fgmm.report.result import gather, reports
from fgmm.study.grid import Cell, Study

Result = dict[str, Any]

# Details of an evaluation that no table shows.
_DETAILS = re.compile(r"_fold_|class_accuracy/|inverse_strength|chance_(median|mean)_rank")
# R@10 of one score and direction in one evaluation of retrieval.
RECALL = re.compile(r"(?P<label>[^/]+)/(?P<score>\w+)/(?P<direction>\w+)/r@10")


def gathered(
    study: Study, cell: Cell, workdir: pathlib.Path, base: Mapping[str, Any], wall_seconds: float
) -> Result:
    """The result of a cell whose programs have all ended.

    Args:
      study, cell: the study, and one of its cells.
      workdir: of the cell's training.
      base: config of the experiment's file without variants, from ``base_config``.
      wall_seconds: seconds that the cell's programs took.

    Raises:
      ConfigError: there is no evaluation, or none with the score of the arm.
    """
    found = gather(workdir)
    config, arm = flat(found["config"]), study.arms[str(cell.coordinates["arm"])]
    lines = _lines(workdir / "metrics.jsonl")
    batch, metrics = found["config"]["batch_size"], found["results"]
    return {
        "stage": cell.stage,
        "coordinates": cell.coordinates,
        "defaults": cell.defaults,
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
    """The values of the config that a file makes without variants, by whole key."""
    path = files.resolved(experiment, "experiment")
    return flat(as_dict(runpy.run_path(path)["get_config"](None)))


def _judged(metrics: Mapping[str, float], score: str, workdir: pathlib.Path) -> dict[str, str]:
    recalls = [match for name in metrics if (match := RECALL.fullmatch(name))]
    by_text = {
        match["label"]: match["direction"]
        for match in recalls
        if match["score"] == score and match["direction"].startswith("text_to")
    }
    if not by_text:
        raise ConfigError(f"{workdir}: no retrieval by text has the score {score!r} of the arm")
    # If several pairs were retrieved, that with video counts.
    label = max(sorted(by_text), key=lambda name: "video" in by_text[name])
    judged = {}
    for match in recalls:
        if (match["label"], match["score"]) == (label, score):
            of_text = match["direction"].startswith("text_to")
            judged["text to clip" if of_text else "clip to text"] = match[0]
    if (probe := "linear_probe_motion/accuracy") in metrics:
        judged["motion probe"] = probe
    return judged


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The metrics of a run, the last line of each step; a kill may have left half a line."""
    steps = {}
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        steps[line["step"]] = line
    return [steps[step] for step in sorted(steps)]


def _step_flops(lines: list[dict[str, Any]], batch: int) -> int:
    """FLOPs of a step, from the last line that has them; 0 if no line has them.

    The first lines after a start have none.
    """
    for line in reversed(lines):
        if "flops_per_second" in line:
            return round(batch * line["flops_per_second"] / line["clips_per_second"])
    return 0


def _curve(lines: list[dict[str, Any]], batch: int) -> dict[str, list[int | float]]:
    """Step, seconds of training and R@10 at each evaluation; NaN where an evaluation lacks it.

    As in ``fgmm.provenance``, the time of the first step, which compiles, is not counted.
    """
    curve: dict[str, list[int | float]] = {"step": [], "seconds": []}
    names = dict.fromkeys(name for line in lines for name in line if RECALL.fullmatch(name))
    seconds = 0.0
    for line in lines:
        if line["step"] > 1:
            seconds += batch / line["clips_per_second"]
        if any(name in line for name in names):
            curve["step"].append(line["step"])
            curve["seconds"].append(round(seconds, 1))
            for name in names:
                curve.setdefault(name, []).append(round(line.get(name, float("nan")), 6))
    return curve


def _by_query(workdir: pathlib.Path, step: int) -> dict[str, list[int]]:
    outcomes = {}
    for label, report in reports(workdir):
        if report["step"] != step:
            continue
        for name, values in report.get("by_query", {}).items():
            outcomes[f"{label}/{name}"] = values
        for name, queries in report.get("queries", {}).items():
            # Groups of single queries are left out.
            if len(set(queries["group"])) < len(queries["group"]):
                outcomes[f"{label}/{name}/group"] = queries["group"]
    return outcomes


def write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file atomically, with a line for each key; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    atomic.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read(path: pathlib.Path) -> Result:
    """The result in a file, and ``name``, that of the cell.

    Raises:
      ConfigError: the file holds no result of a cell.
    """
    try:
        result = json.loads(path.read_text())
        result["coordinates"]["arm"], result["judged"]
        result["name"] = path.stem
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no result of a cell; remove it") from error
    return result


def read_all(folder: pathlib.Path) -> list[Result]:
    """The results in a folder, in the order of the names of their files.

    Raises:
      ConfigError: as ``read``.
    """
    return [read(path) for path in sorted(folder.glob("*.json"))]


def is_done(cell: Cell, path: pathlib.Path) -> bool:
    """Whether the file holds the result of this cell.

    A cell is not done if other values have been chosen for it since. An axis that was added to the
    study later is not in the file, whose result is that of the axis's default.

    Raises:
      ConfigError: the file holds no result of a cell.
    """
    if not path.exists():
        return False
    return cell.defaults | read(path)["coordinates"] == cell.coordinates
