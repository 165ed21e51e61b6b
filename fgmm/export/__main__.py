"""Weights out of a run, in a folder that other programs open::

    python -m fgmm.export --workdir=runs/a --step=best --format=safetensors --output=exported/a

Each module of this package with ``check`` and ``write`` is a format. A model card is written too.
"""

import importlib
import pathlib
import pkgutil
import sys
from types import ModuleType

from absl import flags

from fgmm import command_line
from fgmm import export as package
from fgmm.config import ConfigError
from fgmm.export import card
from fgmm.export.folder import Run, check_output, whole


def formats() -> dict[str, ModuleType]:
    """The modules that write a format, by its name."""
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "__main__":
            imported = importlib.import_module(f"{package.__name__}.{module.name}")
            if hasattr(imported, "write"):
                found[module.name] = imported
    return found


def export(
    workdir: pathlib.Path, output: pathlib.Path, format: str, step: str, weights: str = ""
) -> list[str]:
    """Writes a checkpoint in a format.

    Args:
      workdir, step, weights: as in ``fgmm.load``.
      output: a new or empty folder.
      format: a name in ``formats()``.

    Returns:
      Lines to print: what was written, and what to know about it.

    Raises:
      ConfigError: there is no such checkpoint or format, the format has no place for the run, or
        the folder cannot be written. Nothing is written then.
    """
    known = formats()
    if format not in known:
        raise ConfigError(f"--format={format!r} is unknown; allowed: {', '.join(known)}")
    check_output(output)
    run, module = Run.opened(workdir, step, weights), known[format]
    module.check(run)
    with whole(output) as folder:
        notes = [*run.notes, *module.write(run, folder)]
        page = card.card(run, output.absolute().name, module.OPENS, notes)
        (folder / "README.md").write_text(page, "utf-8")
        files = sorted(folder.iterdir())
        size = sum(file.stat().st_size for file in files)
    names = ", ".join(file.name for file in files)
    return [f"{output}: step {run.step} as {format}, {size / 1e6:,.1f} MB: {names}", *notes]


def main(argv: list[str]) -> None:
    """Reads the flags and exports."""
    del argv
    workdir, output = (
        pathlib.Path(command_line.required(name)).expanduser() for name in ("workdir", "output")
    )
    given = flags.FLAGS
    print("\n".join(export(workdir, output, given.format, given.step, given.weights)))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose weights are written.")
    flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best or a number.")
    flags.DEFINE_string(
        "weights", "", "ema or last; by default the moving average if the run keeps one."
    )
    flags.DEFINE_string("format", "safetensors", "safetensors, huggingface or stablehlo.")
    flags.DEFINE_string("output", None, "The folder to write; new or empty.")
    sys.exit(command_line.run(main))
