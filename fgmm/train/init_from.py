"""Starting a run from the parameters of another, or from converted weights.

``config.init_from`` names a run's folder, which of its checkpoints, and rules::

    config.init_from = {
        "path": "runs/pretrained",
        "step": "latest",
        "weights": "",
        "rules": (
            ("model/encoders_audio/.*", "skip"),
            ("model/trunk/(.*)", r"rename model/encoders_video/\\1"),
            ("model/encoders_video/.*", "load"),
            ("(model/heads|objective)[_/].*", "initialise"),
        ),
    }

A regex must match the whole of a path, such as ``model/encoders_video/Conv_0/kernel``. Running
statistics have paths beside the parameters of their layer, ``.../BatchNorm_0/mean``. There are two
kinds of rules. The first matching rule of each kind applies:

- on names in the checkpoint: ``skip`` leaves a parameter out; ``rename NEW`` gives it another name,
  with ``\\1`` for what the first group matched;
- on names in the model, and those in the checkpoint after renaming: ``initialise`` keeps the random
  values, whatever the checkpoint has; ``load`` loads a parameter, whatever later rules say.

``weights`` are ``"ema"``, the moving average of the parameters, or ``"last"``; by default the
average if the run has one. Loaded parameters are frozen by a rule of the optimizer,
``config.optimizer.learning_rate_scale``; see ``fgmm.experiment.optimizer``.

A parameter without a rule must be on both sides, in the same shape except for axes of length 1.
"""

import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax

from fgmm.config import Config, ConfigError
from fgmm.experiment import init_rules
from fgmm.experiment.build import Experiment
from fgmm.experiment.init_rules import ON_CHECKPOINT, ON_MODEL, Rule
from fgmm.experiment.rules import path_of
from fgmm.experiment.state import TrainState
from fgmm.train import checkpoint, distributed

# The outcomes for an array, in the order of the table.
_OUTCOMES = [
    "loaded",
    "loaded, reshaped",
    "initialised",
    "skipped",
    "left over",
    "missing",
    "of another shape",
]
# The most arrays that an error names; the table counts all.
_NAMED = 6
# Parameters with a row for each token of the vocabulary.
_WORDS = "model/encoders_text/(.*/)?embedding"


class Leaf(NamedTuple):
    """The place of an array: ``"params"`` or a collection of statistics, and its path."""

    collection: str
    path: str


class Plan(NamedTuple):
    """The outcome for every array.

    Attributes:
      taken: for arrays of the model, the one of the checkpoint from which they start.
      outcomes: ``(outcome, path)`` of every array; the path in the model if it has one.
      details: lines on arrays that need one.
      unexplained: lines on arrays that no rule explains.
    """

    taken: dict[Leaf, Leaf]
    outcomes: list[tuple[str, str]]
    details: list[str]
    unexplained: list[str]


def leaves(params: Any, statistics: Mapping[str, Any]) -> dict[Leaf, Any]:
    """All arrays of a state by their places, without the optimizer's.

    Args:
      params: ``{"model": ..., "objective": ...}``.
      statistics: the model's mutable collections.
    """
    collections = {"params": params} | {
        name: {"model": collection} for name, collection in statistics.items()
    }
    return {
        Leaf(name, path_of(at)): array
        for name, collection in collections.items()
        for at, array in jax.tree_util.tree_leaves_with_path(collection)
    }


def plan(rules: Iterable[Rule], saved: Mapping[Leaf, Any], model: Mapping[Leaf, Any]) -> Plan:
    """Decides the outcome for every array, by names and shapes.

    Args:
      rules: as from ``init_rules.from_config``.
      saved, model: arrays, or their shapes, of the checkpoint and of the model.

    Raises:
      ConfigError: a rule matches nothing, or two arrays are given the same name.
    """
    rules, used = tuple(rules), set()

    def first(path: str, actions: tuple[str, ...]) -> Rule | None:
        for rule in rules:
            if rule.action in actions and re.fullmatch(rule.regex, path):
                used.add(rule)
                return rule
        return None

    result = Plan({}, [], [], [])
    for old, array in saved.items():
        new, rule = old, first(old.path, ON_CHECKPOINT)
        if rule is not None and rule.action == "skip":
            result.outcomes.append(("skipped", old.path))
            continue
        if rule is not None:
            new = old._replace(path=_renamed(rule, old.path))
        fate = first(new.path, ON_MODEL)
        if fate is not None and fate.action == "initialise":
            result.outcomes.append(("skipped", new.path))
        elif new not in model:
            result.outcomes.append(("left over", new.path))
            result.unexplained.append(f"{new.path} is only in the checkpoint")
        elif new in result.taken:
            other = result.taken[new].path
            raise ConfigError(f"init_from.rules: {other} and {old.path} both become {new.path}")
        else:
            result.taken[new] = old
            _compare(result, new, array.shape, model[new].shape)
    for leaf in model.keys() - result.taken.keys():
        fate = first(leaf.path, ON_MODEL)
        if fate is not None and fate.action == "initialise":
            result.outcomes.append(("initialised", leaf.path))
        else:
            result.outcomes.append(("missing", leaf.path))
            result.unexplained.append(f"{leaf.path} is only in the model")
    for rule in rules:
        if rule not in used:
            raise ConfigError(
                f"init_from.rules: {rule.regex!r} ({rule.action}) matches nothing; paths are such "
                f"as {next(iter(saved)).path} in the checkpoint, {next(iter(model)).path} in the "
                "model"
            )
    return result


def _renamed(rule: Rule, path: str) -> str:
    try:
        return re.fullmatch(rule.regex, path).expand(rule.name)
    except (re.error, IndexError) as error:
        raise ConfigError(f"init_from.rules: rename {rule.name!r}: {error}") from error


def _compare(result: Plan, leaf: Leaf, had: tuple, needed: tuple) -> None:
    if had == needed:
        result.outcomes.append(("loaded", leaf.path))
    elif [n for n in had if n != 1] == [n for n in needed if n != 1]:
        result.outcomes.append(("loaded, reshaped", leaf.path))
        result.details.append(f"reshaped: {leaf.path} {had} -> {needed}")
    else:
        result.outcomes.append(("of another shape", leaf.path))
        result.unexplained.append(
            f"{leaf.path} has shape {had} in the checkpoint, {needed} in the model"
        )


def table(outcome: Plan) -> str:
    """The numbers of arrays by outcome, for each part of the model."""
    counts: dict[str, dict[str, int]] = {}
    for what, path in outcome.outcomes:
        part = "/".join(path.split("/")[:2])
        row = counts.setdefault(part, {})
        row[what] = row.get(what, 0) + 1
    columns = sorted({what for what, _ in outcome.outcomes}, key=_OUTCOMES.index)
    width = max(len("part"), *map(len, counts))
    lines = [" | ".join(["part".ljust(width), *columns])]
    for part, row in sorted(counts.items()):
        cells = [str(row.get(column, 0)).rjust(len(column)) for column in columns]
        lines.append(" | ".join([part.ljust(width), *cells]))
    return "\n".join([*lines, *outcome.details])


class StartingPoint(NamedTuple):
    """The checked start of a run from ``config.init_from``.

    Attributes:
      report: the table for a person.
      origin: ``path`` and ``step`` of the checkpoint.
      fill: puts the loaded arrays into a state of zero steps, as numpy arrays.
    """

    report: str
    origin: dict[str, Any]
    fill: Callable[[TrainState], TrainState]


def read(experiment: Experiment) -> StartingPoint | None:
    """Reads the checkpoint of ``config.init_from``; None if there is none. Compiles nothing.

    The table is printed before an error about arrays is raised.

    Raises:
      ConfigError: there is no such checkpoint, a rule is wrong, an array without a rule is on one
        side only or in another shape, or word embeddings belong to another tokenizer.
    """
    config, entry = experiment.config, experiment.config.init_from
    rules = init_rules.from_config(entry)
    if not entry.path:
        return None
    try:
        found = checkpoint.read(pathlib.Path(entry.path).expanduser(), entry.step, entry.weights)
    except ConfigError as error:
        named = str(error).replace("--workdir", "init_from.path")
        for flag in ("step", "weights"):
            named = named.replace(f"--{flag}", f"init_from.{flag}")
        raise ConfigError(named) from error
    saved = leaves(found.params, found.statistics)
    blank = experiment.abstract_state
    decided = plan(rules, saved, leaves(blank.params, blank.statistics))
    report = f"init_from {entry.path}, step {found.step}\n{table(decided)}"
    if decided.unexplained:
        distributed.say(report)
        raise ConfigError(f"init_from.path={entry.path}: {_shown(decided.unexplained)}")
    _check_tokenizer(entry, decided, found.config["data"], config.data)

    def fill(state: TrainState) -> TrainState:
        params, statistics = _filled(decided.taken, saved, state.params, state.statistics)
        return state.started(params, statistics)

    return StartingPoint(report, {"path": entry.path, "step": found.step}, fill)


def _shown(unexplained: list[str]) -> str:
    lines = sorted(unexplained)
    more = f"; and {len(lines) - _NAMED} more" if lines[_NAMED:] else ""
    return f"{'; '.join(lines[:_NAMED])}{more}. Rename, skip or initialise by init_from.rules"


def _check_tokenizer(entry: Config, decided: Plan, theirs: Config, ours: Config) -> None:
    words = [leaf.path for leaf in decided.taken if re.fullmatch(_WORDS, leaf.path)]
    before, now = theirs["tokenizer_fingerprint"], ours["tokenizer_fingerprint"]
    if words and before != now:
        raise ConfigError(
            f"init_from.path={entry.path}: {words[0]} belongs to another tokenizer "
            f"({before[:12]}, not {now[:12]}): set data.tokenizer to the one beside that "
            "checkpoint, or initialise it by init_from.rules"
        )


def _filled(
    taken: Mapping[Leaf, Leaf], saved: Mapping[Leaf, Any], params: Any, statistics: Any
) -> tuple[Any, Any]:
    """Parameters and statistics of a model with the loaded arrays in their places."""

    def taken_for(collection: str, tree: Any) -> Any:
        def pick(at, like):
            old = taken.get(Leaf(collection, path_of(at)))
            return like if old is None else saved[old].astype(like.dtype).reshape(like.shape)

        return jax.tree_util.tree_map_with_path(pick, tree)

    return taken_for("params", params), {
        name: taken_for(name, {"model": tree})["model"] for name, tree in statistics.items()
    }
