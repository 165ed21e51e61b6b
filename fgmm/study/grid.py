"""The cells of a study, expanded from its grids.

A grid gives one value or a tuple of values for each axis; its cells are all combinations. An axis
is a variant of the experiment's config file, or ``seed``. A grid may give ``updates`` instead of
``examples``: a cell then sees ``updates`` times ``batch`` clips.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fgmm.config import Config, ConfigError, plain

Value = str | int | float
Coordinates = dict[str, Value]

_STAGE_KEYS = ("grids", "evaluations", "by", "chosen")
_STUDY_KEYS = ("experiment", "defaults", "arms", "tune", "run", "trainer")
# The axes that have no default.
_OWN_AXES = ("arm", "examples", "seed")
_ARM_KEYS = {"title", "family", "score"}
FAMILIES = ("coarse", "fine")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training run with its evaluations.

    Attributes:
      stage: "tune" or "run".
      name: of its files; it tells the arm, the values that differ from the defaults, and the seed.
      coordinates: the value on every axis.
      defaults: of the study, by axis.
    """

    stage: str
    name: str
    coordinates: Coordinates
    defaults: Coordinates = dataclasses.field(default_factory=dict)

    @property
    def examples(self) -> int:
        """Clips seen in training."""
        return int(self.coordinates["examples"])

    def at(self, axes: Iterable[str]) -> tuple[Value, ...]:
        """The values on some axes."""
        return tuple(self.coordinates[axis] for axis in axes)


@dataclasses.dataclass(frozen=True)
class Stage:
    """The cells of the stage "tune" or "run".

    Attributes:
      cells: without duplicates, in the order of the grids.
      evaluations: (program, config of the protocol) after training. A program is a name in
        ``fgmm.eval``, or a dotted module name. An empty config stands for the run's own entries.
      by, chosen: axes, of the stage "tune" alone. For all cells that agree on the axes ``by``, one
        value on each of the axes ``chosen`` is chosen.
    """

    cells: tuple[Cell, ...]
    evaluations: tuple[tuple[str, str], ...]
    by: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Study:
    """The config of a study (``configs/study/X.py``), checked and expanded.

    Attributes:
      experiment: config of a cell's training, by name or path; axes are its variants.
      arms: ``title``, ``family`` ("coarse" or "fine") and ``score`` (by which retrieval is judged)
        of each arm, by name.
      run: the stage that is reported. Its cells have no values yet on the axes that are tuned.
      tune: the stage before it; None if nothing is tuned.
      trainer: module of the program that trains.
    """

    experiment: str
    arms: dict[str, dict[str, str]]
    run: Stage
    tune: Stage | None = None
    trainer: str = "fgmm.main"


def read(config: Config) -> Study:
    """The study that a config describes.

    Raises:
      ConfigError: a key, an axis or an arm is unknown or missing, two cells have one name, or
        nothing is tuned for a cell of ``run``.
    """
    config = plain(config)
    _known(config, _STUDY_KEYS, "the study", required=("experiment", "arms", "run"))
    arms = {name: plain(arm) for name, arm in config["arms"].items()}
    for name, arm in arms.items():
        if set(arm) != _ARM_KEYS or arm["family"] not in FAMILIES:
            raise ConfigError(
                f"arms.{name}={arm!r} must have title, score and family, which is coarse or fine"
            )
    tune = None
    if "tune" in config:
        tune = _stage("tune", config, arms, left_out=())
        if not tune.by or not tune.chosen:
            raise ConfigError("tune needs by, the axes of a choice, and chosen, what is chosen")
        defaults = plain(config.get("defaults", {}))
        agreeing = [axis for axis in (*defaults, *_OWN_AXES) if axis not in tune.chosen]
        _axes("tune.chosen", tune.chosen, allowed=defaults)
        _axes("tune.by", tune.by, allowed=agreeing)
    run = _stage("run", config, arms, left_out=tune.chosen if tune else ())
    if tune:
        tuned = {cell.at(tune.by) for cell in tune.cells}
        for cell in run.cells:
            if cell.at(tune.by) not in tuned:
                where = ", ".join(f"{axis}={cell.coordinates[axis]}" for axis in tune.by)
                raise ConfigError(f"run: nothing is tuned for {where}; add it to tune.grids")
    trainer = config.get("trainer", Study.trainer)
    return Study(config["experiment"], arms, run, tune, trainer)


def _stage(name: str, config: Mapping, arms: Mapping, left_out: Sequence[str]) -> Stage:
    """Expands the grids of a stage. The axes ``left_out`` get their values later, by tuning."""
    entry = plain(config[name])
    _known(entry, _STAGE_KEYS, name, required=("grids", "evaluations"))
    every = plain(config.get("defaults", {}))
    defaults = {axis: value for axis, value in every.items() if axis not in left_out}
    cells: dict[tuple, Cell] = {}
    for grid in entry["grids"]:
        for coordinates in _expanded(plain(grid), defaults, name, left_out):
            if coordinates["arm"] not in arms:
                raise ConfigError(
                    f"{name}: arm={coordinates['arm']!r} is unknown; allowed: {', '.join(arms)}"
                )
            cell = Cell(name, _name(coordinates, defaults), coordinates, every)
            cells.setdefault(tuple(sorted(coordinates.items())), cell)
    _names_differ(name, cells.values())
    return Stage(
        cells=tuple(cells.values()),
        evaluations=tuple((program, protocol) for program, protocol in entry["evaluations"]),
        by=tuple(entry.get("by", ())),
        chosen=tuple(entry.get("chosen", ())),
    )


def _expanded(
    grid: Mapping[str, Any], defaults: Coordinates, stage: str, left_out: Sequence[str]
) -> Iterable[Coordinates]:
    allowed = {*_OWN_AXES, "updates", *defaults}
    for axis in grid:
        if axis not in allowed:
            why = "is tuned" if axis in left_out else "is unknown"
            raise ConfigError(
                f"{stage}: the axis {axis!r} {why}; allowed: {', '.join(sorted(allowed))}"
            )
    for axis in ("arm", "seed"):
        if axis not in grid:
            raise ConfigError(f"{stage}: a grid has no {axis!r}; give it one value or several")
    if ("examples" in grid) == ("updates" in grid):
        raise ConfigError(f"{stage}: a grid needs either 'examples' or 'updates'")
    choices = {
        axis: tuple(value) if isinstance(value, tuple | list) else (value,)
        for axis, value in {**grid, **{a: v for a, v in defaults.items() if a not in grid}}.items()
    }
    for values in itertools.product(*choices.values()):
        coordinates = dict(zip(choices, values, strict=True))
        if "updates" in coordinates:
            if "batch" not in coordinates:
                raise ConfigError(f"{stage}: 'updates' needs the axis 'batch'")
            coordinates["examples"] = coordinates.pop("updates") * coordinates["batch"]
        # In a fixed order, whatever that of the grid, since the names of cells depend on it.
        yield {axis: coordinates[axis] for axis in (*defaults, *_OWN_AXES)}


def _name(coordinates: Coordinates, defaults: Coordinates) -> str:
    """The name of a cell: the arm, the values that differ from the defaults, and the seed."""
    parts = [str(coordinates["arm"])]
    for axis, value in coordinates.items():
        if axis not in ("arm", "seed") and defaults.get(axis) != value:
            # A value may be a path, and the name is that of a file.
            text = value.replace("/", "_") if isinstance(value, str) else f"{axis}{value}"
            parts.append(text)
    return "-".join([*parts, f"seed{coordinates['seed']}"])


def _names_differ(stage: str, cells: Iterable[Cell]) -> None:
    """Checks that no two cells have one name, since the name is that of the result file."""
    named: dict[str, Cell] = {}
    for cell in cells:
        other = named.setdefault(cell.name, cell)
        axes = [a for a, value in cell.coordinates.items() if other.coordinates[a] != value]
        if axes:
            one, two = (
                ", ".join(f"{axis}={value!r}" for axis, value in zip(axes, c.at(axes), strict=True))
                for c in (other, cell)
            )
            raise ConfigError(
                f"{stage}: the cells with {one} and with {two} have one name, {cell.name!r}, and "
                "so one result file; give an axis other values"
            )


def select(study: Study, text: str) -> tuple[list[Cell], list[Cell]]:
    """Selects a part of a study.

    Args:
      study: the whole study.
      text: ``"key=value,key=value"``, with several values joined by ``+``; empty for all cells. A
        key is an axis, or ``stage``, "tune" or "run" for one stage alone.

    Returns:
      The cells to tune with and the cells to run. With the stage "tune" alone, the axes select
      cells to tune with. Otherwise they select cells to run, and the cells to tune with are those
      that the cells to run need, or none with the stage "run" alone.

    Raises:
      ConfigError: an axis is unknown, or no cell is left.
    """
    wanted: dict[str, list[str]] = {}
    for part in filter(None, text.split(",")):
        key, equals, values = part.partition("=")
        if not equals:
            raise ConfigError(f"--select: {part!r} is not of the form key=value")
        wanted[key] = values.split("+")
    stages = wanted.pop("stage", ["tune", "run"])
    unknown = set(stages) - {"tune", "run"}
    if unknown:
        raise ConfigError(f"--select: stage={unknown.pop()!r} is unknown; allowed: tune, run")
    tuning = study.tune.cells if study.tune else ()
    if "run" not in stages:
        return _fitting(tuning, wanted), []
    run = _fitting(study.run.cells, wanted)
    needed = {cell.at(study.tune.by) for cell in run} if study.tune else set()
    tune = [cell for cell in tuning if cell.at(study.tune.by) in needed]
    return (tune if "tune" in stages else []), run


def _fitting(cells: Sequence[Cell], wanted: Mapping[str, Sequence[str]]) -> list[Cell]:
    for key in wanted:
        if cells and key not in cells[0].coordinates:
            allowed = ", ".join(["stage", *cells[0].coordinates])
            raise ConfigError(f"--select: {key!r} is no axis; allowed: {allowed}")
    chosen = [
        cell
        for cell in cells
        if all(
            any(_equal(cell.coordinates[key], text) for text in texts)
            for key, texts in wanted.items()
        )
    ]
    if not chosen:
        asked = ",".join(f"{key}={'+'.join(texts)}" for key, texts in wanted.items())
        raise ConfigError(f"--select={asked}: no cell of the study fits; see --dry_run")
    return chosen


def _equal(value: Value, text: str) -> bool:
    if isinstance(value, str):
        return value == text
    try:
        return value == float(text)
    except ValueError:
        return False


def _axes(key: str, axes: Sequence[str], allowed: Iterable[str]) -> None:
    for axis in axes:
        if axis not in allowed:
            raise ConfigError(
                f"{key}: {axis!r} is none of the axes allowed there: {', '.join(allowed)}"
            )


def _known(entry: Mapping, allowed: Sequence[str], where: str, required: Sequence[str]) -> None:
    for key in entry:
        if key not in allowed:
            raise ConfigError(f"{where}: {key!r} is unknown; allowed: {', '.join(allowed)}")
    for key in required:
        if key not in entry:
            raise ConfigError(f"{where}: {key!r} is missing")
