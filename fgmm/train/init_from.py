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
average if the run has one.

Several runs give a model its parts, such as video from one and text from another: ``also`` lists
further runs by any names, each with rules of its own. Two of them may not give the same parameter,
so each skips what another gives::

    config.init_from.update(path="runs/siglip", rules=((r"(?!model/encoders_video/).*", "skip"),))
    config.init_from.also.text = {
        "path": "runs/clip",
        "rules": (
            (r"(?!model/encoders_text/).*", "skip"),
            ("(model/heads|objective)[_/].*", "initialise"),
        ),
    }

Loaded parameters are frozen by a rule of the optimizer,
``config.optimizer.learning_rate_scale``; see ``fgmm.experiment.optimizer``.

A parameter without a rule must be in the checkpoint and in the model, in the same shape except for
axes of length 1. Adapters (``config.lora``) may be in the model alone; they then start as in a run
without ``init_from``.
"""

import collections
import functools
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from fgmm.config import Config, ConfigError, tuples
from fgmm.config.option import shortened
from fgmm.experiment import init_rules, lora
from fgmm.experiment.build import Experiment
from fgmm.experiment.init_rules import ON_CHECKPOINT, ON_MODEL, Rule, Start
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
# Options of a run that an encoder's input should have as in its training, by modality.
_CONVENTIONS = {
    "video": (
        "data.resize",
        "data.resize_filter",
        "data.resize_ratio",
        "transforms.pixel_mean",
        "transforms.pixel_spread",
    ),
    "audio": (
        "data.sample_rate",
        *(
            f"transforms.mel_{name}"
            for name in ("window", "hop", "bands", "filterbank", "mean", "spread")
        ),
    ),
}
# Parameters with a row for each token of the vocabulary.
_WORDS = "model/encoders_text/(.*/)?embedding"


class Leaf(NamedTuple):
    """The place of an array: ``"params"`` or a collection of statistics, and its path."""

    collection: str
    path: str


class Plan(NamedTuple):
    """The outcome for every array.

    Attributes:
      taken: where arrays of the model start from: the number of a run, and its array there.
      outcomes: ``(outcome, path)`` of every array; the path in the model if it has one.
      details: lines on arrays that are reshaped.
      unexplained: lines on arrays that no rule explains.
    """

    taken: dict[Leaf, tuple[int, Leaf]]
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


class _Rules:
    """The rules of a run, and which of them were used."""

    def __init__(self, start: Start):
        self.key, self._rules, self._used = f"{start.key}.rules", start.rules, set()

    def first(self, path: str, actions: tuple[str, ...]) -> Rule | None:
        """The first rule with one of these actions that matches a path; None if there is none.

        The rule counts as used from then on.
        """
        for rule in self._rules:
            if rule.action in actions and re.fullmatch(rule.regex, path):
                self._used.add(rule)
                return rule
        return None

    def check_used(self, saved: Mapping[Leaf, Any], model: Mapping[Leaf, Any]) -> None:
        """Checks that every rule was used.

        Raises:
          ConfigError: a rule matched nothing.
        """
        for rule in self._rules:
            if rule not in self._used:
                raise ConfigError(
                    f"{self.key}: {rule.regex!r} ({rule.action}) matches nothing; "
                    f"paths are such as {next(iter(saved)).path} in the checkpoint, "
                    f"{next(iter(model)).path} in the model"
                )


def plan(
    starts: Sequence[Start],
    saved: Sequence[Mapping[Leaf, Any]],
    model: Mapping[Leaf, Any],
    fresh: Collection[str] = (),
) -> Plan:
    """Decides the outcome for every array, by names and shapes.

    Args:
      starts: runs with their rules, as from ``init_rules.from_config``.
      saved: for each run, the arrays of its checkpoint, or their shapes.
      model: likewise, of the model.
      fresh: paths in the model that need no rule if no checkpoint has them.

    Raises:
      ConfigError: a rule matches nothing or renames to nothing valid, or two arrays are for the
        same place in the model.
    """
    result, everyone = Plan({}, [], [], []), [_Rules(start) for start in starts]
    for number, (rules, arrays) in enumerate(zip(everyone, saved, strict=True)):
        _plan_one(result, number, rules, arrays, model)
    for leaf in model.keys() - result.taken.keys():
        fates = [rules.first(leaf.path, ON_MODEL) for rules in everyone]
        named = any(fate is not None and fate.action == "initialise" for fate in fates)
        if named or leaf.path in fresh:
            result.outcomes.append(("initialised", leaf.path))
        else:
            result.outcomes.append(("missing", leaf.path))
            result.unexplained.append(f"{leaf.path} is only in the model")
    for rules, arrays in zip(everyone, saved, strict=True):
        rules.check_used(arrays, model)
    return result


def _plan_one(
    result: Plan,
    number: int,
    rules: _Rules,
    saved: Mapping[Leaf, Any],
    model: Mapping[Leaf, Any],
) -> None:
    """Adds the outcomes of the arrays of one run."""
    for old, array in saved.items():
        new, rule = old, rules.first(old.path, ON_CHECKPOINT)
        if rule is not None and rule.action == "skip":
            result.outcomes.append(("skipped", old.path))
            continue
        if rule is not None:
            new = old._replace(path=_renamed(rules.key, rule, old.path))
        fate = rules.first(new.path, ON_MODEL)
        if fate is not None and fate.action == "initialise":
            result.outcomes.append(("skipped", new.path))
        elif new not in model:
            result.outcomes.append(("left over", new.path))
            result.unexplained.append(f"{new.path} is only in the checkpoint")
        elif new in result.taken:
            before, other = result.taken[new]
            if before == number:
                raise ConfigError(
                    f"{rules.key}: {other.path} and {old.path} both become {new.path}"
                )
            raise ConfigError(
                f"{rules.key}: an earlier run gives {new.path} too; skip it in one of them"
            )
        else:
            result.taken[new] = (number, old)
            _compare(result, new, array.shape, model[new].shape)


def _renamed(key: str, rule: Rule, path: str) -> str:
    try:
        return re.fullmatch(rule.regex, path).expand(rule.name)
    except (re.error, IndexError) as error:
        raise ConfigError(f"{key}: rename {rule.name!r}: {error}") from error


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
    counts = collections.defaultdict(collections.Counter)
    for what, path in outcome.outcomes:
        counts["/".join(path.split("/")[:2])][what] += 1
    columns = sorted({what for what, _ in outcome.outcomes}, key=_OUTCOMES.index)
    width = max(len("part"), *map(len, counts))
    lines = [" | ".join(["part".ljust(width), *columns])]
    for part, row in sorted(counts.items()):
        cells = [str(row[column]).rjust(len(column)) for column in columns]
        lines.append(" | ".join([part.ljust(width), *cells]))
    return "\n".join([*lines, *outcome.details])


class StartingPoint(NamedTuple):
    """The checked start of a run from ``config.init_from``.

    Attributes:
      report: the table for a person.
      origin: ``path`` and ``step`` of the checkpoint; those of further ones under ``also``.
      fill: puts the loaded arrays into a state of zero steps, as numpy arrays.
    """

    report: str
    origin: dict[str, Any]
    fill: Callable[[TrainState], TrainState]


def read(experiment: Experiment) -> StartingPoint | None:
    """Reads the checkpoint of ``config.init_from``; None if there is none. Compiles nothing.

    The table is printed before an error about arrays is raised.

    Raises:
      ConfigError: there is no such checkpoint, a rule is wrong, an array without a rule is only in
        the checkpoint, only in the model or in another shape, word embeddings belong to another
        tokenizer, or adapters were trained with another ``lora.alpha``.
    """
    starts = init_rules.from_config(experiment.config.init_from)
    if not starts:
        return None
    found = [_checkpoint_of(start) for start in starts]
    saved = [leaves(one.params, one.statistics) for one in found]
    blank = experiment.abstract_state
    fresh = experiment.adapters.paths
    decided = plan(starts, saved, leaves(blank.params, blank.statistics), fresh)
    origins = [
        {"path": start.path, "step": one.step} for start, one in zip(starts, found, strict=True)
    ]
    lines = [f"init_from {origin['path']}, step {origin['step']}" for origin in origins]
    report = "\n".join([*lines, table(decided)])
    if decided.unexplained:
        distributed.say(report)
        _check_adapters_have_a_place(decided)
        paths = " and ".join(f"{start.key}.path={start.path}" for start in starts)
        raise ConfigError(
            f"{paths}: {shortened(sorted(decided.unexplained), _NAMED)}. Rename, skip or "
            "initialise by init_from.rules"
        )
    for number, (start, one) in enumerate(zip(starts, found, strict=True)):
        given = [leaf.path for leaf, (run, _) in decided.taken.items() if run == number]
        _check_tokenizer(start, given, one.config["data"], experiment.config.data)
        _check_alpha(start, given, one.config["lora"], experiment.config.lora)
        report += "".join(f"\n{line}" for line in _other_conventions(given, start, one, experiment))
    origin, *others = origins
    if others:
        origin["also"] = others
    return StartingPoint(report, origin, functools.partial(_filled, decided.taken, saved))


def _checkpoint_of(start: Start) -> checkpoint.SavedState:
    try:
        return checkpoint.read(pathlib.Path(start.path).expanduser(), start.step, start.weights)
    except ConfigError as error:
        named = str(error).replace("--workdir", f"{start.key}.path")
        raise ConfigError(re.sub("--(step|weights)", rf"{start.key}.\1", named)) from error


def _other_conventions(
    given: Sequence[str], start: Start, found: checkpoint.SavedState, experiment: Experiment
) -> list[str]:
    """A line for each option of ``_CONVENTIONS`` that differs from the run that the encoder is
    from.
    """
    lines = []
    for modality, names in _CONVENTIONS.items():
        if not any(path.startswith(f"model/encoders_{modality}/") for path in given):
            continue
        if modality == "video" and found.config["data"]["features"]:
            continue  # a run on stored features has seen no pictures
        for name in names:
            section, _, key = name.partition(".")
            theirs, ours = tuples(found.config[section])[key], experiment.config[section][key]
            if theirs != ours:
                lines.append(
                    f"{name}={ours!r}, and the {modality} encoder of {start.path} was trained with "
                    f"{theirs!r}"
                )
    return lines


def _check_tokenizer(start: Start, given: Sequence[str], theirs: Config, ours: Config) -> None:
    words = [path for path in given if re.fullmatch(_WORDS, path)]
    before, now = theirs["tokenizer_fingerprint"], ours["tokenizer_fingerprint"]
    if words and before != now:
        raise ConfigError(
            f"{start.key}.path={start.path}: {words[0]} belongs to another tokenizer "
            f"({before[:12]}, not {now[:12]}): set data.tokenizer to the one beside that "
            f"checkpoint, or initialise it by {start.key}.rules"
        )


def _check_adapters_have_a_place(outcome: Plan) -> None:
    for what, path in outcome.outcomes:
        if what == "left over" and lora.is_adapter(path):
            raise ConfigError(
                f"init_from: {path} is an adapter, but lora.rules has no rule for it: copy "
                "lora.rules from its run, or export that run with --format=safetensors, which "
                "merges adapters"
            )


def _check_alpha(start: Start, given: Sequence[str], theirs: Config, ours: Config) -> None:
    before, now = theirs["alpha"], ours["alpha"]
    if before != now and any(map(lora.is_adapter, given)):
        raise ConfigError(
            f"lora.alpha={now}, and the adapters of {start.key}.path={start.path} were trained "
            f"with {before}: set lora.alpha to that value, or initialise them by {start.key}.rules"
        )


def _filled(
    taken: Mapping[Leaf, tuple[int, Leaf]],
    saved: Sequence[Mapping[Leaf, Any]],
    state: TrainState,
) -> TrainState:
    """A state of zero steps with the loaded arrays in their places."""

    def taken_for(collection: str, tree: Any) -> Any:
        def pick(at, like):
            if (found := taken.get(Leaf(collection, path_of(at)))) is None:
                return like
            number, old = found
            return saved[number][old].astype(like.dtype).reshape(like.shape)

        return jax.tree_util.tree_map_with_path(pick, tree)

    statistics = {
        name: taken_for(name, {"model": tree})["model"] for name, tree in state.statistics.items()
    }
    return state.started(taken_for("params", state.params), statistics)
