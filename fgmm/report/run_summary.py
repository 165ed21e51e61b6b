"""What the files of a run tell without its weights: results, clips of its terms, origin, config."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgmm import components, provenance
from fgmm.config import Config, as_dict, flat
from fgmm.report.curves import Series
from fgmm.report.result import reports

# Numbers whose names have one of these parts are no shares, though they may lie in [0, 1].
_NO_SHARES = ("hubness", "rank")


class Figure(NamedTuple):
    """A number of an evaluation, with its 95% interval and its chance level; None where unknown.

    ``is_share`` says whether it can be drawn on a scale from 0 to 1.
    """

    value: float
    low: float | None
    high: float | None
    chance: float | None
    is_share: bool

    def spelled(self, x: float | None) -> str:
        """One of its numbers as text: a share in percent; empty for None."""
        if x is None:
            return ""
        return f"{100 * x:.1f}%" if self.is_share else f"{x:,.4g}"


class EvaluationResult(NamedTuple):
    """The result of an evaluation.

    Attributes:
      label: its name, from that of its file.
      step, weights: of the checkpoint; ``weights`` is empty if unknown.
      figures: numbers with an interval or chance, by group, such as ``sum, text to video``, and by
        name.
      others: numbers that have neither, by name.
      protocol: its options, by whole key.
    """

    label: str
    step: int
    weights: str
    figures: dict[str, dict[str, Figure]]
    others: dict[str, float]
    protocol: Mapping[str, Any]


def evaluated(workdir: pathlib.Path) -> dict[str, EvaluationResult]:
    """The evaluations whose result files are in the folder of a run, by label; the latest step."""
    found: dict[str, EvaluationResult] = {}
    for label, report in reports(workdir):
        if label not in found or report["step"] > found[label].step:
            figures, others = _figures(report["results"])
            found[label] = EvaluationResult(
                *(label, report["step"], report.get("weights", ""), figures, others),
                protocol=flat(report["protocol"]),
            )
    return found


def inside_training(series: Series, config: Config) -> dict[str, EvaluationResult]:
    """The last results of the evaluations that ran inside training, by label.

    Args:
      series: the metrics of the run, from ``curves.read``.
      config: of the run.
    """
    found = {}
    for name, entry in config["evals"].items():
        of_entry = {
            key.removeprefix(f"{name}/"): values
            for key, values in series.items()
            if key.startswith(f"{name}/") and np.isfinite(values).any()
        }
        if of_entry:
            last = {key: float(v[np.isfinite(v)][-1]) for key, v in of_entry.items()}
            at = max(int(series["step"][np.isfinite(v)][-1]) for v in of_entry.values())
            found[name] = EvaluationResult(
                name, at, "", *_figures(last), protocol=flat(as_dict(entry))
            )
    return found


def _figures(
    results: Mapping[str, float],
) -> tuple[dict[str, dict[str, Figure]], dict[str, float]]:
    groups: dict[str, dict[str, Figure]] = {}
    others = {}
    for name, value in results.items():
        group, _, metric = name.rpartition("/")
        if metric.endswith(("_low", "_high")) or re.match(r"(.*/)?chance[_/]", name):
            continue
        chance = next((results[key] for key in _chances(name) if key in results), None)
        low, high = (results.get(f"{name}_{end}") for end in ("low", "high"))
        if low is None and chance is None:
            others[name] = value
        else:
            words = ", ".join(part.replace("_", " ") for part in group.split("/") if part)
            numbers = value, low, high, chance
            within = all(0 <= x <= 1 for x in numbers if x is not None)
            is_share = within and not any(part in metric for part in _NO_SHARES)
            found = Figure(*numbers, is_share)
            groups.setdefault(words, {})[metric.replace("_", " ")] = found
    return groups, others


def _chances(name: str) -> list[str]:
    """The names under which the chance of a figure may stand: in its group, for all groups, or in a
    group ``chance``.
    """
    group, _, metric = name.rpartition("/")
    first, _, rest = name.partition("/")
    beside = f"{group}/chance_{metric}".lstrip("/")
    return [beside, f"chance_{metric}", *([f"chance/{rest}"] if first != "chance" else [])]


class FeedShare(NamedTuple):
    """How many clips of the batches terms could use.

    Attributes:
      what: a pair, or a modality and ``label``, in words.
      terms: names of the terms that need both.
      share: of all clips, those that had both.
    """

    what: str
    terms: list[str]
    share: float


def fed(series: Series, config: Config) -> list[FeedShare]:
    """The share of clips that each term could use, over all steps; see ``fgmm.train.feed``.

    Args:
      series: the metrics of the run, from ``curves.read``.
      config: of the run.
    """
    terms: dict[str, list[str]] = {}
    for name, term in config["objective"]["terms"].items():
        if "pair" in term:
            key = f"pairs/{term['pair']}"
        else:
            key = f"labels/{config['model']['classifiers'][term['classifier']]['modality']}"
        terms.setdefault(key, []).append(name)
    found = []
    for key, names in sorted(terms.items()):
        if key in series:
            kind, _, sides = key.partition("/")
            what = sides.replace("_", " and ") if kind == "pairs" else f"{sides} and label"
            share = float(np.nanmean(series[key])) / config["batch_size"]
            found.append(FeedShare(what, sorted(names), share))
    return found


def problems(series: Series) -> dict[str, int]:
    """The counts of inputs masked or left out up to the last step, by reason in words."""
    counts = {}
    for name, values in series.items():
        kind, _, reason = name.partition("/")
        known = values[np.isfinite(values)]
        if kind in ("bad_input", "left_out") and len(known):
            counts[f"{kind}, {reason}".replace("_", " ")] = int(known[-1])
    return counts


def starts(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """One entry for each start of the run: its first step, hardware, code and date."""
    return provenance.of_run(workdir, 2**62, 0)["started"]


def settings(config: Config) -> list[tuple[str, str]]:
    """What a config sets that is not the default: (section, ``key=value, ...``)."""
    return [tuple(line.split(": ", 1)) for line in components.settings(config)]


def differing(configs: Sequence[Config]) -> list[tuple[str, list[Any]]]:
    """The keys in which configs differ, each with its value in every config."""
    every = [flat(as_dict(config)) for config in configs]
    keys = sorted({key for config in every for key in config})
    rows = [(key, [config.get(key, "–") for config in every]) for key in keys]
    return [(key, values) for key, values in rows if any(v != values[0] for v in values)]
