"""The command line of an evaluation: a checkpoint in, a JSON file and a table out."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from absl import flags

from fgmm import atomic, command_line, components, xla_flags
from fgmm.config import ConfigError, as_dict, differences, variants


def run(name: str) -> None:
    """Runs the evaluation ``fgmm.eval.<name>`` as a program."""
    flags.DEFINE_string("workdir", None, "The run whose checkpoint is evaluated.")
    flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best or a step.")
    flags.DEFINE_string(
        "weights",
        "",
        "Which parameters: ema, their moving average, or last, those of the last step; by default "
        "the average where the run has one.",
    )
    flags.DEFINE_string("output", None, "The JSON file or a folder for it, by default the workdir.")
    define_embeddings()
    flags.DEFINE_bool("by_query", False, "Also write the outcome of every single query.")
    command_line.define_config(
        "The protocol, eval/NAME:corpus=CORPUS[,k=v,...] or PATH.py; without it, the run's own "
        "entries in evals.",
        components.find("eval", name),
    )
    command_line.run(lambda argv: _evaluate(name))


def begin() -> pathlib.Path:
    """Readies XLA for an evaluation, says which flags are left out, and returns ``--workdir``."""
    workdir = pathlib.Path(command_line.required("workdir"))
    for line in command_line.left_out():
        print(line)
    xla_flags.configure()
    command_line.use_compilation_cache()
    return workdir


def _evaluate(name: str) -> None:
    workdir = begin()
    from fgmm.train import checkpoint

    experiment, state = checkpoint.load(workdir, flags.FLAGS.step, flags.FLAGS.weights)
    experiment = keeping_embeddings(experiment, workdir)
    state = on_all_devices(state)
    weights = checkpoint.weights_of(workdir, experiment, flags.FLAGS.weights)
    protocols = _protocols(name, experiment.config.evals)
    which = which_weights(experiment, flags.FLAGS.weights)
    outputs = _outputs(workdir, list(protocols), f"{which}-{int(state.step)}")
    for label, entry in protocols.items():
        evaluation = components.build("eval", entry, key=label)
        bound = evaluation.bind(experiment)
        if flags.FLAGS.by_query:
            check_outcomes(name, bound)
        step = int(state.step)
        # Flushed, since the evaluation may take long.
        print(f"{label}, step {step}, {weights} weights", flush=True)
        result = bound(state)
        # Printed before it is written, since writing may fail.
        print(evaluation.table(result), flush=True)
        protocol = as_dict(bound.protocol)
        for line in differences_from(outputs[label], protocol):
            print(line)
        written = origin(name, workdir, experiment, step, weights)
        written |= {"protocol": protocol, "results": result}
        if flags.FLAGS.by_query:
            written |= {"by_query": bound.by_query, "queries": bound.queries}
        write(outputs[label], written)
        print(f"written to {outputs[label]}")


def origin(
    name: str, workdir: pathlib.Path, experiment: Any, step: int, weights: str
) -> dict[str, Any]:
    """What the file of a result says of the evaluation and of the checkpoint."""
    from fgmm import provenance

    return {
        "evaluation": name,
        "step": step,
        "weights": weights,
        "trained": provenance.of_run(workdir, step, experiment.config.batch_size),
        "evaluated": provenance.here(),
        "config": as_dict(experiment.config),
    }


def define_embeddings() -> None:
    """Defines ``--embeddings``, for ``keeping_embeddings``."""
    flags.DEFINE_string(
        "embeddings",
        "",
        "Folder where embeddings of a corpus are kept, for this and other evaluations of the same "
        "checkpoint; by default WORKDIR/embeddings, none keeps nothing.",
    )


def keeping_embeddings(experiment: Any, workdir: pathlib.Path) -> Any:
    """The experiment with the ``embeddings_folder`` that ``--embeddings`` names.

    Unchanged for ``none``, and without the flag if the workdir cannot be written.
    """
    given = flags.FLAGS.embeddings
    if given == "none" or (not given and not os.access(workdir, os.W_OK)):
        return experiment
    folder = pathlib.Path(given) if given else workdir / "embeddings"
    return dataclasses.replace(experiment, embeddings_folder=folder)


def on_all_devices(state: Any) -> Any:
    """The state, replicated on a mesh of all devices, so that they share the work."""
    import jax

    from fgmm.train import mesh

    return jax.device_put(state, mesh.everywhere(mesh.make_mesh()))


def check_outcomes(name: str, bound: Any) -> None:
    """Checks that a bound evaluation keeps outcomes of single queries; see ``fgmm.eval.compare``.

    ``by_query`` has the outcomes by name, ``queries`` the names and groups of the queries.

    Raises:
      ConfigError: the evaluation lacks them.
    """
    if not (hasattr(bound, "by_query") and hasattr(bound, "queries")):
        raise ConfigError(f"--by_query: {name} keeps no outcomes of single queries; drop it")


def which_weights(experiment: Any, weights: str) -> str:
    """Part of the name of a result: ``_last`` if the run also has an average, otherwise empty."""
    return "_last" if weights == "last" and experiment.optimizer.ema else ""


def _outputs(workdir: pathlib.Path, labels: list[str], end: str) -> dict[str, pathlib.Path]:
    """The JSON file of each evaluation, in a folder that exists and can be written.

    Args:
      end: of the names of the files, after the label.

    Raises:
      ConfigError: ``--output`` is one file for several evaluations, or cannot be written.
    """
    given = flags.FLAGS.output
    if given and not pathlib.Path(given).is_dir():
        if len(labels) > 1:
            raise ConfigError(
                f"--output={given}: the run has several such evaluations ({', '.join(labels)}); "
                "give one by --config, or a folder that exists"
            )
        return {labels[0]: command_line.file_to_write(given)}
    folder = pathlib.Path(given or workdir)
    return {label: command_line.file_to_write(folder / f"{label}{end}.json") for label in labels}


def differences_from(path: pathlib.Path, protocol: Mapping[str, Any]) -> list[str]:
    """A line if a file holds a result of another protocol, with the first keys that differ."""
    try:
        before = json.loads(path.read_text())["protocol"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    found = differences(before, protocol)
    if not found:
        return []
    more = f"; and {len(found) - 3} more" if found[3:] else ""
    return [
        f"{path} held a result of another protocol ({'; '.join(found[:3])}{more}); it is replaced. "
        "Give each an --output of its own to keep both"
    ]


def check_name(config: Any, name: str) -> None:
    """Checks that ``--config`` describes the evaluation of this program.

    Raises:
      ConfigError: it describes another one, or none.
    """
    given = config.get("name")
    if given != name:
        what = f"run python -m fgmm.eval.{given}" if given else f"it must have name={name!r}"
        raise ConfigError(f"--config describes {given!r}; {what}")


def _protocols(name: str, trained_with: Any) -> dict[str, dict[str, Any]]:
    config = flags.FLAGS.config
    if config is not None:
        check_name(config, name)
        return {label_of(command_line.given("config")): as_dict(config)}
    entries = {
        label: {option: value for option, value in as_dict(entry).items() if option != "every"}
        for label, entry in trained_with.items()
        if entry.name == name
    }
    if not entries:
        raise ConfigError(
            f"the run was trained without an evaluation {name!r}; give one by --config, such as "
            f"--config=eval/{name}:corpus=NAME"
        )
    return entries


def label_of(config: str) -> str:
    """The name of a protocol's result, such as ``linear_probe_motion``.

    It joins the name of the config file, the corpus and the pair of modalities, as far as given.

    Args:
      config: the value of ``--config``.
    """
    path, _, argument = config.partition(":")
    given = (re.sub(r"\W+", "_", variants.given(argument, key)) for key in ("corpus", "pair"))
    return "_".join(filter(None, (pathlib.Path(path).stem, *given)))


def write(path: pathlib.Path, report: dict[str, Any]) -> None:
    """Writes a JSON file atomically: whole or not at all."""
    atomic.write_text(path, json.dumps(report, indent=2) + "\n")
