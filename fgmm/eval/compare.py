"""Compares two results of one protocol query by query: which is better, which queries changed.

    python -m fgmm.eval.retrieval --workdir=runs/a --config=PROTOCOL --by_query
    python -m fgmm.eval.retrieval --workdir=runs/b --config=PROTOCOL --by_query
    python -m fgmm.eval.compare --first=runs/a/retrieval-9.json --second=runs/b/retrieval-9.json

The interval of a difference is a bootstrap over the queries that both share, with whole clips
resampled (``metrics.bootstrap_interval``), so that queries that are hard for both cancel out. It
does not cover other seeds of training; ``fgmm.study`` does.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from jaxtyping import Bool, Float, Int

from fgmm import command_line
from fgmm.config import ConfigError
from fgmm.eval import binary, metrics
from fgmm.eval.time_spans import RECALL_AT

# How figures follow from the outcome of each query, by the last part of the outcome's name. A
# figure is the mean over queries of the number, from 0 to 1, that the function returns.
FIGURES = {
    "rank": {f"r@{k}": lambda rank, k=k: rank <= k for k in metrics.RECALL_AT},
    "class_rank": {f"accuracy@{k}": lambda rank, k=k: rank <= k for k in (1, 5)},
    "correct": {"accuracy": lambda correct: correct > 0},
    "hit": {"hit": lambda hit: hit},
    "iou": {
        **{f"r@1_iou_{at}": lambda iou, at=at: iou >= at for at in RECALL_AT},
        "mean_iou": lambda iou: iou,
    },
}
# Keys in which the two protocols may differ: they depend on the run.
_OF_THE_RUN = ("space", "term", "scores", "coarse_then", "maps", "untrained_seed", "start")


class Queries(NamedTuple):
    """The queries of some outcomes.

    Attributes:
      name: the text of each query, or the id of its clip.
      group: of each query, as in ``metrics.bootstrap_interval``.
    """

    name: list[str]
    group: Int[np.ndarray, "Q"]


class Change(NamedTuple):
    """One figure of both evaluations.

    Attributes:
      first, second: the figure of each evaluation.
      low, high: ends of the 95% interval of second - first.
      gained, lost: which queries have a higher outcome in the second, and in the first.
    """

    first: float
    second: float
    low: float
    high: float
    gained: Bool[np.ndarray, "Q"]
    lost: Bool[np.ndarray, "Q"]


def change(
    first: Float[np.ndarray, "Q"], second: Float[np.ndarray, "Q"], group: Int[np.ndarray, "Q"]
) -> Change:
    """Compares the outcomes of the same queries, from 0 to 1; 1 is right."""
    low, high = metrics.bootstrap_interval(second - first, group)
    ends = float(first.mean()), float(second.mean()), float(low), float(high)
    return Change(*ends, gained=second > first, lost=second < first)


def compared(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Change]:
    """Compares every figure of ``FIGURES`` for which both reports have outcomes.

    Args:
      first, second: results that an evaluation wrote with ``--by_query``.

    Returns:
      The changes by name of the figure, such as ``"fine/text_to_video/r@10"``.

    Raises:
      ConfigError: a report has no outcomes, or the reports differ in evaluation, protocol or
        queries, or have no outcome in common.
    """
    for which, report in (("first", first), ("second", second)):
        if "by_query" not in report or "queries" not in report:
            raise ConfigError(
                f"--{which} holds no outcomes of queries; run its evaluation again with --by_query"
            )
    if first["evaluation"] != second["evaluation"]:
        raise ConfigError(
            f"--first is of {first['evaluation']} and --second of {second['evaluation']}; "
            "give two results of one evaluation"
        )
    of_first, of_second = (
        {k: v for k, v in report["protocol"].items() if k not in _OF_THE_RUN}
        for report in (first, second)
    )
    for key in sorted(of_first.keys() | of_second.keys()):
        if of_first.get(key) != of_second.get(key):
            raise ConfigError(
                f"the protocols differ: {key} is {of_first.get(key)!r} in --first and "
                f"{of_second.get(key)!r} in --second; evaluate both with one --config"
            )
    found = {}
    for name in first["by_query"]:
        if name not in second["by_query"] or name.rpartition("/")[2] not in FIGURES:
            continue
        queries = queries_of(first, name)
        if queries.name != queries_of(second, name).name:
            raise ConfigError(
                f"the queries of {name} are not the same in --first and --second; has the corpus "
                "changed, or could files not be read?"
            )
        prefix, _, outcome = name.rpartition("/")
        for figure, share in FIGURES[outcome].items():
            given = (np.asarray(report["by_query"][name], float) for report in (first, second))
            shares = [np.asarray(share(values), np.float64) for values in given]
            found[f"{prefix}/{figure}".lstrip("/")] = change(*shares, queries.group)
    if not found:
        raise ConfigError(
            f"--first has {', '.join(first['by_query'])} and --second "
            f"{', '.join(second['by_query'])}: nothing in common"
        )
    return found


def queries_of(report: Mapping[str, Any], name: str) -> Queries:
    """The queries of an outcome: those of its direction, otherwise those that all outcomes share.

    Args:
      report: as in ``compared``.
      name: of the outcome, such as ``"fine/text_to_video/rank"``, or of a figure of it.
    """
    known = report["queries"]
    parts = name.split("/")[:-1]
    entry = next((known[part] for part in reversed(parts) if part in known), known.get(""))
    return Queries(entry["name"], np.asarray(entry["group"], np.int64))


def table(changes: Mapping[str, Change]) -> str:
    """All figures as a Markdown table; a star marks a difference whose interval excludes zero."""
    lines = ["| | first | second | second - first, 95% | gained | lost |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, found in changes.items():
        star = "" if found.low <= 0 <= found.high else " *"
        apart = f"{found.second - found.first:+.2%} ({found.low:+.2%} to {found.high:+.2%}){star}"
        lines.append(
            f"| {name} | {found.first:.2%} | {found.second:.2%} | {apart} "
            f"| {found.gained.sum()} | {found.lost.sum()} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Reads both results, prints the table and the changed queries, and writes ``--output``."""
    del argv
    reports = [_read(which) for which in ("first", "second")]
    output = flags.FLAGS.output and command_line.file_to_write(flags.FLAGS.output)
    changes = compared(*reports)
    metric = flags.FLAGS.metric or next(iter(changes))
    if metric not in changes:
        raise ConfigError(f"--metric={metric} is unknown; allowed: {', '.join(changes)}")
    print(table(changes))
    names = queries_of(reports[0], metric).name
    for title, which in (("gained", changes[metric].gained), ("lost", changes[metric].lost)):
        changed = [names[i] for i in np.flatnonzero(which)]
        print(f"\n{metric}: {len(changed)} {title}")
        for name in changed[: flags.FLAGS.show]:
            print(f"  {name}")
        if len(changed) > flags.FLAGS.show:
            print(f"  and {len(changed) - flags.FLAGS.show} more; --show lists more")
    if output:
        written = {}
        for name, found in changes.items():
            of_queries = queries_of(reports[0], name).name
            written[name] = found._asdict() | {
                side: [of_queries[i] for i in np.flatnonzero(getattr(found, side))]
                for side in ("gained", "lost")
            }
        binary.write(output, {"figures": written})
        print(f"written to {output}")


def _read(which: str) -> dict[str, Any]:
    path = pathlib.Path(command_line.required(which))
    try:
        report = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"--{which}={path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--{which}={path} is no JSON: {error}") from error
    if not isinstance(report, dict) or "evaluation" not in report:
        raise ConfigError(f"--{which}={path} is no result of an evaluation")
    return report


if __name__ == "__main__":
    flags.DEFINE_string("first", None, "The result that is compared with, a JSON file.")
    flags.DEFINE_string("second", None, "The other result.")
    flags.DEFINE_string("metric", "", "The figure whose queries are listed; the first by default.")
    flags.DEFINE_integer("show", 10, "At most so many queries that changed sides.", lower_bound=0)
    flags.DEFINE_string("output", None, "A JSON file for all figures and all queries.")
    command_line.run(main)
