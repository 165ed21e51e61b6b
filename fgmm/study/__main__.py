"""Runs a study: ``python -m fgmm.study --config=configs/study/X.py --output=DIR``.

Tuning comes first; its choice is written to ``DIR/results/choice.json``. Results of cells are
``DIR/results/{tune,run}/NAME.json``. Finished cells are not run again, so the same command
continues after a kill at any moment. One command at a time works in ``DIR``.

Exit codes: 0 all cells are done; 1 some cells failed or were not tuned; 2 the command or the config
is wrong; 130 and 143 stopped by Ctrl-C or SIGTERM.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from fgmm import command_line, folder_lock, remote
from fgmm.config import ConfigError, files
from fgmm.interruption import Interrupted
from fgmm.study import grid, outcome, programs, tuning
from fgmm.study.estimate import Estimate
from fgmm.study.grid import Cell, Study
from fgmm.study.schedule import Places, ProgressLine, Schedule, duration


def main(argv: list[str]) -> None:
    """Tunes, runs the cells, and with ``--page`` makes the page."""
    del argv
    study = grid.read(command_line.required("config"))
    output = pathlib.Path(command_line.required("output"))
    remote.refuse(output, "--output")
    jobs = flags.FLAGS.jobs or len(programs.cores())
    if not pathlib.Path(files.resolved(study.experiment, "experiment")).exists():
        raise ConfigError(f"experiment={study.experiment!r}: there is no such file")
    tune, run = grid.select(study, flags.FLAGS.select)
    if flags.FLAGS.dry_run:
        print(_plan(study, output, tune, run, jobs))
        return
    with folder_lock.locked(output, "--output"):
        schedule = Schedule(
            *(study, output),
            jobs=jobs,
            estimate=_estimate(output),
            keep=flags.FLAGS.keep,
            say=ProgressLine(),
        )
        try:
            failed = _carried_out(study, schedule, output, tune, run)
        except Interrupted as stopped:
            print(f"\n{stopped}", file=sys.stderr)
            sys.exit(stopped.exit_code)
        print(file=sys.stderr)
        if flags.FLAGS.page:
            # SciPy and matplotlib take seconds to import.
            from fgmm.study import page

            page.make(output / "results", pathlib.Path(flags.FLAGS.page))
    if failed:
        sys.exit(f"error: {len(failed)} cells failed: {', '.join(failed)}")


def _carried_out(
    study: Study, schedule: Schedule, output: pathlib.Path, tune: list[Cell], run: list[Cell]
) -> list[str]:
    """Tunes and runs the cells; returns the names of those that failed or were not tuned."""
    failed = schedule.run("tune", tune) if tune else []
    if study.tune:
        untuned = failed if tune else tuning.failed(_choice(output), study.tune)
        wanted, run = run, tuning.applied(run, study.tune, _chosen(study, output, untuned))
        ready = {cell.name for cell in run}
        failed += [f"{cell.name} (not tuned)" for cell in wanted if cell.name not in ready]
    return failed + schedule.run("run", run)


def _chosen(study: Study, output: pathlib.Path, failed: list[str]) -> list[dict]:
    """Chooses from all results of tuning, of this command and of earlier ones, and writes it."""
    choices = tuning.choose(study.tune, _tuned(study, output), failed)
    tuning.write(_choice(output), study.tune, choices)
    return choices


def _choice(output: pathlib.Path) -> pathlib.Path:
    return output / "results" / tuning.CHOICE


def _tuned(study: Study, output: pathlib.Path) -> dict[str, outcome.Result]:
    places = Places.of(output, "tune")
    return {
        cell.name: outcome.read(places.result(cell))
        for cell in study.tune.cells
        if places.is_done(cell)
    }


def _estimate(output: pathlib.Path) -> Estimate:
    folders = [Places.of(output, stage).results for stage in ("tune", "run")]
    return Estimate(result for folder in folders for result in outcome.read_all(folder))


def _plan(study: Study, output: pathlib.Path, tune: list[Cell], run: list[Cell], jobs: int) -> str:
    """The cells with their state, and the time that is left, as text."""
    if study.tune:
        failed = tuning.failed(_choice(output), study.tune)
        choices = tuning.choose(study.tune, _tuned(study, output), failed)
        chosen = {cell.name: cell for cell in tuning.applied(run, study.tune, choices)}
        # A cell without a choice has no values on the tuned axes. It is not done, since an earlier
        # result may be of another choice.
        run = [chosen.get(cell.name, cell) for cell in run]
    lines, left = [], []
    for cell in [*tune, *run]:
        done = Places.of(output, cell.stage).is_done(cell)
        if not done:
            left.append(cell)
        lines.append(f"{cell.stage} {cell.name}{' (done)' if done else ''}")
    seconds = _estimate(output).seconds(left, jobs)
    time = (
        "nothing has ended yet, so there is no estimate"
        if seconds is None
        else f"about {duration(seconds)}, {jobs} at a time"
    )
    lines.append(f"{len(tune)} cells to tune, {len(run)} to run, {len(left)} of them left: {time}")
    return "\n".join(lines)


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The study, configs/study/X.py[:k=v,...].")
    flags.DEFINE_string("output", None, "Its folder.")
    flags.DEFINE_integer("jobs", 0, "Cells at a time; 0 for one a core.", lower_bound=0)
    flags.DEFINE_string("select", "", "key=value,...: run a part of the grid; values joined by +.")
    flags.DEFINE_bool("dry_run", False, "Print the cells and how long they will take.")
    flags.DEFINE_bool("keep", False, "Keep the folders of runs, with their checkpoints.")
    flags.DEFINE_string("page", "", "Also make this page of the results, PAGE.md.")
    command_line.run(main)
