"""One run as one file: the results of all evaluations of a checkpoint, with their origin.

    python -m fgmm.report.result --workdir=DIR --output=docs/results/NAME.json

It gathers the JSON files that the evaluations wrote into the workdir.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

from fgmm import command_line
from fgmm.config import ConfigError
from fgmm.data.opening import within
from fgmm.eval import binary

# Sources whose clips are made by a program.
SYNTHETIC = ("narrated_shapes",)


def reports(workdir: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The label and the content of each result of an evaluation; other files are passed over."""
    for path in sorted(workdir.glob("*-*.json")):
        try:
            report = json.loads(path.read_text())
        except ValueError:
            continue
        if isinstance(report, dict) and "evaluation" in report:
            yield path.stem.rpartition("-")[0], report


def gather(workdir: pathlib.Path, step: int | None = None) -> dict[str, Any]:
    """The evaluations of one checkpoint.

    Args:
      workdir: of the run.
      step: of the checkpoint; None for the latest that was evaluated.

    Returns:
      ``seed``; ``step``; ``data``, "synthetic", "real" or "mixed", for the training corpus;
      ``trained``, as ``provenance.of_run``; ``weights``, "ema" or "last", ``evaluated``, as
      ``provenance.here``, and ``protocols``, all by label of the evaluation; ``results``, by label
      and name, such as ``retrieval/fine/text_to_video/r@10``; and ``config``.

    Raises:
      ConfigError: the checkpoint has no evaluation, or its evaluations have different configs.
    """
    by_step: dict[int, dict[str, dict[str, Any]]] = {}
    for label, report in reports(workdir):
        by_step.setdefault(report["step"], {})[label] = report
    if not by_step or (step is not None and step not in by_step):
        raise ConfigError(
            f"--workdir={workdir} has no evaluation{'' if step is None else f' of step {step}'}; "
            "run an evaluation such as python -m fgmm.eval.retrieval on it first"
        )
    step = max(by_step) if step is None else step
    chosen = by_step[step]
    first = next(iter(chosen.values()))
    for label, report in chosen.items():
        if report["config"] != first["config"]:
            raise ConfigError(f"{workdir / label}-{step}.json is of a run with another config")
    config = first["config"]
    return {
        "seed": config["seed"],
        "step": step,
        "data": kind_of(config["data"]["source"]),
        "trained": first["trained"],
        "weights": {label: report.get("weights", "") for label, report in chosen.items()},
        "evaluated": {label: report["evaluated"] for label, report in chosen.items()},
        "protocols": {label: report["protocol"] for label, report in chosen.items()},
        "results": {
            f"{label}/{name}": value
            for label, report in chosen.items()
            for name, value in report["results"].items()
        },
        "config": config,
    }


def _corpora(source: Mapping[str, Any]) -> Iterator[str]:
    """The names of a source, or of the sources within it."""
    entries = within(source)
    if not entries:
        yield source["name"]
    for entry in entries:
        yield from _corpora(entry)


def kind_of(source: Mapping[str, Any]) -> str:
    """ "synthetic", "real" or "mixed": whether a program makes the clips of a corpus."""
    synthetic = {name in SYNTHETIC for name in _corpora(source)}
    if len(synthetic) > 1:
        return "mixed"
    return "synthetic" if True in synthetic else "real"


def check_weights(result: Mapping[str, Any]) -> None:
    """Checks that all evaluations that ``gather`` found are of the same weights.

    Raises:
      ConfigError: some are of the moving average and some of the last step.
    """
    first, *others = result["weights"].items()
    for label, weights in others:
        if weights != first[1]:
            raise ConfigError(
                f"{first[0]} was evaluated with the weights {first[1]!r} and {label} with "
                f"{weights!r}; move the result files of one of them to another folder"
            )


def main(argv: list[str]) -> None:
    """Gathers the evaluations and writes the file."""
    del argv
    workdir = pathlib.Path(command_line.required("workdir"))
    output = command_line.file_to_write(command_line.required("output"))
    result = gather(workdir, flags.FLAGS.step)
    check_weights(result)
    binary.write(output, result)
    print(f"{', '.join(result['protocols'])}: written to {output}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose evaluations are gathered.")
    flags.DEFINE_string("output", None, "The JSON file.")
    flags.DEFINE_integer("step", None, "Which checkpoint; the latest evaluated by default.")
    command_line.run(main)
