"""The command line of an evaluation: a checkpoint in, a JSON file and a table out."""

import json
import pathlib
from typing import Any

from absl import flags
from ml_collections import config_flags

from fgmm import command_line, components, xla_flags
from fgmm.config import ConfigError, as_dict

_WORKDIR = flags.DEFINE_string("workdir", None, "The run whose checkpoint is evaluated.")
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best or a step.")
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The protocol, configs/eval/X.py; without it, the run's own entries in evals."
)
_OUTPUT = flags.DEFINE_string("output", None, "The JSON file; by default in the workdir.")


def run(name: str) -> None:
    """Runs the evaluation ``fgmm.eval.<name>`` as a program."""
    command_line.run(lambda argv: _evaluate(name))


def _evaluate(name: str) -> None:
    workdir = pathlib.Path(command_line.required(_WORKDIR))
    xla_flags.configure()
    command_line.use_compilation_cache()
    from fgmm.train import checkpoint

    experiment, state = checkpoint.load(workdir, _STEP.value)
    for label, entry in _protocols(name, experiment.config.evals).items():
        evaluation = components.build("eval", entry, key=label)
        result = evaluation.bind(experiment)(state)
        step = int(state.step)
        output = pathlib.Path(_OUTPUT.value or workdir / f"{label}-{step}.json")
        report = {
            "evaluation": label,
            "step": step,
            "protocol": as_dict(entry),
            "results": result,
            "config": as_dict(experiment.config),
        }
        output.write_text(json.dumps(report, indent=2) + "\n")
        print(f"{label}, step {step}\n{evaluation.table(result)}\nwritten to {output}")


def _protocols(name: str, trained_with: Any) -> dict[str, dict[str, Any]]:
    if _CONFIG.value is not None:
        entry = as_dict(_CONFIG.value)
        if entry.get("name") != name:
            raise ConfigError(f"--config: name={entry.get('name')!r} must be {name!r} here")
        return {name: entry}
    entries = {
        label: {option: value for option, value in as_dict(entry).items() if option != "every"}
        for label, entry in trained_with.items()
        if entry.name == name
    }
    if not entries:
        raise ConfigError(
            f"the run was trained without an evaluation {name!r}; give --config=configs/eval/X.py"
        )
    return entries
