"""A page on one run, or on several runs side by side.

    python -m fgmm.report.build --workdir=RUN [--workdir=OTHER]

It writes ``RUN/report/index.html``, one file that opens from disk: curves of training, results with
intervals and chance, what phrases attend to, the weights of gates, neighbours across modalities,
the hardest failures, how many clips each term had, config and environment. The curves of several
runs share their axes. For a run without a checkpoint, only curves, results and starts are shown.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from fgmm import command_line, xla_flags
from fgmm.config import ConfigError, as_dict
from fgmm.report import alignment, curves, pages, run_summary

# The number of colours for runs in page.css.
_MOST_RUNS = 4
_SILENCED = 8  # phrases in each of the two lists


class GatedPhrase(NamedTuple):
    """A phrase with its learned weight.

    Attributes:
      phrase: its text.
      clip: the ``clip_id`` of its clip.
      pair: of the term, in words.
      times: its weight, as a multiple of the weight that all phrases have under equal weights.
    """

    phrase: str
    clip: str
    pair: str
    times: float


class CheckpointView(NamedTuple):
    """What a checkpoint shows of a corpus.

    Attributes:
      step: of the checkpoint.
      corpus: its name, with its split.
      sheets: drawn clips, of ``strips.Drawn``.
      silenced, heeded: phrases with the least and with the most learned weight; both are empty
        without learned weights, and with fewer than two phrases.
      gated: whether the weights of phrases are learned.
      directions: of ``fgmm.report.neighbours.Direction``.
      notes: why parts of the page are missing.
    """

    step: int
    corpus: str
    sheets: Sequence[Any] = ()
    silenced: Sequence[GatedPhrase] = ()
    heeded: Sequence[GatedPhrase] = ()
    gated: bool = False
    directions: Sequence[Any] = ()
    notes: Sequence[str] = ()


class RunPage(NamedTuple):
    """One run as the page shows it.

    Attributes:
      name: shown to people.
      workdir: its folder.
      series: its metrics, from ``curves.read``.
      config: that of its latest checkpoint; None if there is no checkpoint.
      results: of its evaluations, by label.
      starts: one entry for each start of the run.
      shown: what its checkpoint shows.
    """

    name: str
    workdir: pathlib.Path
    series: curves.Series
    config: Mapping[str, Any] | None
    results: Mapping[str, run_summary.EvaluationResult]
    starts: Sequence[Mapping[str, Any]]
    shown: CheckpointView

    @property
    def steps(self) -> int:
        """The number of finished steps."""
        return int(self.series["step"][-1])

    @property
    def last_loss(self) -> str:
        """The loss of the last step, as text."""
        loss = self.series.get("loss")
        return "–" if loss is None else f"{loss[-1]:.4g}"

    @property
    def skipped(self) -> str:
        """The number of skipped steps, as text."""
        skipped = self.series.get("skipped")
        return "–" if skipped is None else f"{np.nansum(skipped):.0f}"

    @property
    def fed(self) -> list[run_summary.FeedShare]:
        """How many clips each pair had both sides of."""
        return run_summary.fed(self.series, self.config) if self.config else []

    @property
    def problems(self) -> dict[str, int]:
        """The counts of bad input, by reason."""
        return run_summary.problems(self.series)

    @property
    def settings(self) -> list[tuple[str, str]]:
        """What the config sets that is not the default, by section."""
        return run_summary.settings(self.config) if self.config else []


def read(
    workdir: pathlib.Path, name: str, show: Callable[[pathlib.Path], CheckpointView]
) -> RunPage:
    """Reads a run.

    Args:
      workdir: of the run.
      name: of the run on the page.
      show: called with the workdir if there is a checkpoint, such as ``look``.

    Raises:
      ConfigError: the run has trained no step.
    """
    from fgmm.train import checkpoint

    series = curves.read(workdir)
    try:
        config = as_dict(checkpoint.config_of(workdir))
    except ConfigError as error:
        config, shown = None, CheckpointView(0, "", notes=[f"no checkpoint to look at: {error}"])
    else:
        shown = show(workdir)
    results = run_summary.inside_training(series, config) if config else {}
    results |= run_summary.evaluated(workdir)
    starts = run_summary.starts(workdir)
    return RunPage(name, workdir, series, config, results, starts, shown)


def look(workdir: pathlib.Path, step: str, clips: int, gallery: int) -> CheckpointView:
    """What a checkpoint shows; for each part that cannot be shown there is a note.

    Args:
      workdir: of the run.
      step: of the checkpoint, as ``checkpoint.load`` takes it.
      clips: how many clips are drawn with the attention of their phrases.
      gallery: how many clips are retrieved by each other.

    Raises:
      ConfigError: there is no such checkpoint, or ``--config`` names no corpus.
    """
    from fgmm.report import neighbours
    from fgmm.report.gallery import Gallery
    from fgmm.report.strips import drawn
    from fgmm.train import checkpoint

    experiment, state = checkpoint.load(workdir, step)
    entry = alignment.source_of(experiment)
    notes: list[str] = []
    sheets, silenced, heeded, learned, directions = [], [], [], False, []
    try:
        aligned = alignment.Alignment(experiment, state, entry)
        learned = bool(aligned.gated)
        sheets = [drawn(sheet) for _, sheet in aligned.sheets(clips)]
        notes += [] if sheets else [aligned.why_nothing]
        silenced, heeded = gated([d.sheet for d in sheets], aligned.gated)
    except ConfigError as error:
        notes.append(str(error))
    try:
        source = experiment.source(entry, "source")
        roomy = with_room_of_retrieval(experiment)
        directions = neighbours.directions(Gallery(roomy, state, source, gallery))
    except ConfigError as error:
        notes.append(str(error))
    about = int(state.step), alignment.name_of(entry)
    return CheckpointView(*about, sheets, silenced, heeded, learned, directions, notes)


def with_room_of_retrieval(experiment: Any) -> Any:
    """The experiment with the room for captions of the run's first retrieval, if it has one."""
    evals = experiment.config.evals.values()
    room = next((entry for entry in evals if entry.name == "retrieval"), {})
    return experiment.with_room(room.get("phrases", 0), room.get("tokens", 0))


def gated(
    sheets: Sequence[Any], pairs: Sequence[str]
) -> tuple[list[GatedPhrase], list[GatedPhrase]]:
    """The phrases with the least and with the most learned weight in all sheets.

    Args:
      sheets: of ``strips.Sheet``.
      pairs: those whose weights of phrases are learned.
    """
    found = []
    for sheet in sheets:
        of_clip = [block for block in sheet.blocks if block.weights]
        for block in of_clip:
            for pair in pairs:
                if pair in block.weights:
                    times = block.weights[pair] * len(of_clip)
                    clip = sheet.heading[0].partition("  (")[0]
                    found.append(GatedPhrase(block.title, clip, pair.replace("_", " and "), times))
    found.sort(key=lambda entry: entry.times)
    half = min(_SILENCED, len(found) // 2)
    return found[:half], found[::-1][:half]


def page(runs: Sequence[RunPage]) -> str:
    """The page on some runs, as HTML."""
    configs = [run.config for run in runs if run.config]
    return pages.render(
        "report.html",
        title=" and ".join(run.name for run in runs),
        runs=runs,
        panels=curves.panels([run.series for run in runs]),
        frame=curves,
        results=_side_by_side(runs),
        differing=run_summary.differing(configs) if len(configs) > 1 else [],
    )


def _side_by_side(runs: Sequence[RunPage]) -> dict[str, dict[str, dict[str, dict[int, Any]]]]:
    """Figures by label of the evaluation, group, name, and number of the run."""
    joined: dict[str, dict[str, dict[str, dict[int, Any]]]] = {}
    for number, run in enumerate(runs):
        for label, result in run.results.items():
            for group, figures in result.figures.items():
                for name, figure in figures.items():
                    of_group = joined.setdefault(label, {}).setdefault(group, {})
                    of_group.setdefault(name, {})[number] = figure
    return joined


def names(workdirs: Sequence[pathlib.Path]) -> list[str]:
    """A name for each run: its folder, with as many parent folders as tell the runs apart.

    Raises:
      ConfigError: two of the workdirs are the same.
    """
    paths = [workdir.absolute().parts for workdir in workdirs]
    for depth in range(1, max(map(len, paths)) + 1):
        found = ["/".join(parts[-depth:]).lstrip("/") for parts in paths]
        if len(set(found)) == len(found):
            return found
    twice = next(path for i, path in enumerate(workdirs) if paths[i] in paths[:i])
    raise ConfigError(f"--workdir={twice} is given twice")


def main(argv: list[str]) -> None:
    """Reads the runs and writes the page."""
    del argv
    given = command_line.required("workdir")
    workdirs = [pathlib.Path(workdir) for workdir in given]
    if len(workdirs) > _MOST_RUNS:
        raise ConfigError(f"--workdir is given {len(workdirs)} times; at most {_MOST_RUNS} fit")
    for flag in ("clips", "gallery"):
        if flags.FLAGS[flag].value < 1:
            raise ConfigError(f"--{flag}={flags.FLAGS[flag].value} must be at least 1")
    for workdir in workdirs:
        curves.read(workdir)  # Errors come before the checkpoints are read, which takes long.
    titles = names(workdirs)
    output = command_line.folder_to_write(flags.FLAGS.output or workdirs[0] / "report")
    xla_flags.configure()
    command_line.use_compilation_cache()

    def show(workdir: pathlib.Path) -> CheckpointView:
        return look(workdir, flags.FLAGS.step, flags.FLAGS.clips, flags.FLAGS.gallery)

    runs = [read(*run, show) for run in zip(workdirs, titles, strict=True)]
    for run in runs:
        for note in run.shown.notes:
            print(f"{run.name}: {note}")
    path = output / "index.html"
    path.write_text(page(runs))
    print(f"report: {path}")


if __name__ == "__main__":
    flags.DEFINE_multi_string("workdir", None, "The folder of a run; several for one page on all.")
    flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best or a step.")
    flags.DEFINE_string("output", None, "The folder of the page; by default report in the first.")
    flags.DEFINE_integer("clips", 4, "How many clips are drawn with what phrases look at.")
    flags.DEFINE_integer("gallery", 256, "How many clips find each other.")
    command_line.define_config(
        "Whose source is shown: a protocol, eval/NAME:corpus=CORPUS[,k=v,...] or PATH.py."
    )
    command_line.run(main)
