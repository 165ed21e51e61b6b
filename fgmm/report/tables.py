"""The tables of a page, filled in from result files.

    python -m fgmm.report.tables --page=docs/results.md

A comment in TOML, which readers of the page do not see, says what the table after it holds::

    <!-- table
    rows = [["coarse", "evidence/coarse-*.json"], ["fine", "evidence/fine-*.json"]]
    columns = [["R@10", "retrieval/fine/text_to_video/r@10"]]
    -->
    <!-- end -->

A row has a title and the files of the runs of one config with different seeds, relative to the
folder ``results`` beside the page. A column has a title and the name of a number of
``fgmm.report.result``; a number that is no share has its format as a third entry, such as
``"{:.0f} s"``. A cell is the mean over seeds ± half the width of Student's 95% interval of the
mean. The first cell of the table says whether the corpus is synthetic. A line below the table names
seeds, clips seen, commits, hardware and dates.
"""

import json
import pathlib
import re
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from fgmm import command_line, provenance
from fgmm.config import ConfigError, differences

_TABLE = re.compile(r"(<!-- table\n(.*?)-->\n)(.*?)(<!-- end -->)", re.DOTALL)
_SHARE = "{:.1%}"


def fill(page: str, results: pathlib.Path) -> str:
    """The page with every table filled in.

    Args:
      page: Markdown.
      results: the folder of result files.

    Raises:
      ConfigError: a table is no TOML, a row has no files, a number is missing from all rows, or the
        runs of a row differ in more than their seed or in their protocols.
    """

    def table(match: re.Match) -> str:
        head, text, _, end = match.groups()
        try:
            spec = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"a table is no TOML: {error}") from error
        return f"{head}{_table(spec, results)}\n{end}"

    return _TABLE.sub(table, page)


def _table(spec: Mapping[str, Any], results: pathlib.Path) -> str:
    rows = [(title, _runs(pattern, results)) for title, pattern in spec["rows"]]
    every = [run for _, runs in rows for run in runs]
    columns = [(*column, _SHARE)[:3] for column in spec["columns"]]
    for _, metric, _ in columns:
        if all(_value(run, metric) is None for run in every):
            raise ConfigError(f"no run of a table has the number {metric!r}")
    data = "/".join(sorted({run["data"] for run in every}))
    lines = [
        [data, *(title for title, _, _ in columns)],
        ["---"] + ["---:"] * len(columns),
        *(
            [title, *(_cell(runs, metric, form) for _, metric, form in columns)]
            for title, runs in rows
        ),
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"\n{table}\n\n{_origin(every)}\n"


def _runs(pattern: str, results: pathlib.Path) -> list[dict[str, Any]]:
    runs = [json.loads(path.read_text()) for path in sorted(results.glob(pattern))]
    if not runs:
        raise ConfigError(f"{pattern!r} matches no file in {results}")
    first = runs[0]
    for run in runs[1:]:
        changed = differences(_without_seed(first["config"]), _without_seed(run["config"]))
        if changed:
            raise ConfigError(
                f"the runs of {pattern!r} differ by more than their seed: {changed[0]}"
            )
        if _protocols(run) != _protocols(first):
            raise ConfigError(f"the runs of {pattern!r} were evaluated by different protocols")
    return runs


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without its seed, also in the names of the runs that it starts from."""
    starts = json.dumps(config.get("init_from", {})).replace(f"seed{config['seed']}", "seed")
    return {**config, "seed": 0, "init_from": json.loads(starts)}


def _protocols(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The protocols without the seed of the untrained network, which is the seed of the run."""
    return {
        label: {key: value for key, value in protocol.items() if key != "untrained_seed"}
        for label, protocol in run["protocols"].items()
    }


def _value(run: Mapping[str, Any], metric: str) -> float | None:
    return run["results"].get(metric, run["trained"].get(metric))


def _cell(runs: Sequence[Mapping[str, Any]], metric: str, form: str) -> str:
    values = [value for run in runs if (value := _value(run, metric)) is not None]
    if not values:
        return "–"
    mean = form.format(statistics.fmean(values))
    if len(values) == 1 or min(values) == max(values):
        return mean
    return f"{mean} ± {form.format(interval(values)).rstrip('%')}"


def interval(values: Sequence[float]) -> float:
    """Half width of Student's 95% interval of the mean, from at least two values."""
    import scipy.stats  # slow

    quantile = scipy.stats.t.ppf(0.975, len(values) - 1)
    return float(quantile * statistics.stdev(values) / len(values) ** 0.5)


def _origin(runs: Sequence[Mapping[str, Any]]) -> str:
    starts = [start for run in runs for start in run["trained"]["started"]]
    seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in runs}))
    examples = ", ".join(sorted({f"{run['trained']['examples_seen']:,}" for run in runs}))
    return f"Seeds {seeds}; {examples} clips seen; {provenance.in_words(starts)}."


def main(argv: list[str]) -> None:
    """Fills in the tables of the page."""
    del argv
    path = pathlib.Path(command_line.required("page"))
    if not path.exists():
        raise ConfigError(f"--page={path}: there is no such file")
    page = path.read_text()
    filled = fill(page, path.parent / "results")
    path.write_text(filled)
    print(f"{len(_TABLE.findall(page))} tables of {path} filled in")


if __name__ == "__main__":
    flags.DEFINE_string("page", None, "The Markdown file whose tables are filled in.")
    command_line.run(main)
