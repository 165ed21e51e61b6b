"""One run as one file: the results of all evaluations of a checkpoint, with their origin.

    python -m fgmm.report.result --workdir=DIR --output=docs/results/NAME.json

It gathers the JSON files that the evaluations wrote into the workdir.
"""

import json
import pathlib
from typing import Any

from absl import flags

from fgmm import command_line
from fgmm.config import ConfigError
from fgmm.eval import binary

# Sources whose clips are made by a program.
SYNTHETIC = ("narrated_shapes",)


def gather(workdir: pathlib.Path, step: int | None = None) -> dict[str, Any]:
    """The evaluations of one checkpoint.

    Args:
      workdir: of the run.
      step: of the checkpoint; None for the latest that was evaluated.

    Returns:
      ``seed``; ``step``; ``data``, "synthetic" or "real", for the training corpus; ``trained``, as
      ``provenance.of_run``; ``evaluated``, as ``provenance.here``, and ``protocols``, both by label
      of the evaluation; ``results``, by label and name, such as
      ``retrieval/fine/text_to_video/r@10``; and ``config``.

    Raises:
      ConfigError: the checkpoint has no evaluation, or its evaluations have different configs.
    """
    reports = {}
    for path in sorted(workdir.glob("*-*.json")):
        report = json.loads(path.read_text())
        if "evaluation" in report:
            reports.setdefault(report["step"], {})[path.stem.rpartition("-")[0]] = report
    if not reports or (step is not None and step not in reports):
        raise ConfigError(
            f"--workdir={workdir} has no evaluation of {'any' if step is None else step} step; "
            "run an evaluation such as python -m fgmm.eval.retrieval on it first"
        )
    step = max(reports) if step is None else step
    chosen = reports[step]
    first = next(iter(chosen.values()))
    for label, report in chosen.items():
        if report["config"] != first["config"]:
            raise ConfigError(f"{workdir / label}-{step}.json is of a run with another config")
    config = first["config"]
    return {
        "seed": config["seed"],
        "step": step,
        "data": "synthetic" if config["data"]["source"]["name"] in SYNTHETIC else "real",
        "trained": first["trained"],
        "evaluated": {label: report["evaluated"] for label, report in chosen.items()},
        "protocols": {label: report["protocol"] for label, report in chosen.items()},
        "results": {
            f"{label}/{name}": value
            for label, report in chosen.items()
            for name, value in report["results"].items()
        },
        "config": config,
    }


def main(argv: list[str]) -> None:
    """Gathers the evaluations and writes the file."""
    del argv
    workdir = pathlib.Path(command_line.required("workdir"))
    output = command_line.file_to_write(command_line.required("output"))
    result = gather(workdir, flags.FLAGS.step)
    binary.write(output, result)
    print(f"{', '.join(result['protocols'])}: written to {output}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose evaluations are gathered.")
    flags.DEFINE_string("output", None, "The JSON file.")
    flags.DEFINE_integer("step", None, "Which checkpoint; the latest evaluated by default.")
    command_line.run(main)
