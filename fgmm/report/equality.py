"""The table of a page that says how far losses on other devices and processes are apart.

    python -m fgmm.report.equality --page=docs/distributed.md

``benchmarks/equality.py --output=docs/results/equality.json`` measures; the table stands in the
page between ``<!-- equality -->`` and ``<!-- end -->``.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from fgmm import command_line
from fgmm.config import ConfigError
from fgmm.report import page as pages


def described(row: Mapping[str, Any]) -> tuple[str, str]:
    """Where a run took place, and what its config said."""
    count, devices = row["processes"], row["devices"] // row["processes"]
    where = f"{count} process{'es' * (count > 1)} of {devices} device{'s' * (devices > 1)}"
    keys = [f"{key}={row[key]}" for key in ("fsdp", "grad_cache", "accumulate") if row[key] > 1]
    if row["plain"]:
        keys.append("no dropout, no batch normalisation")
    return where, ", ".join(keys) or "as it is"


def table(result: Mapping[str, Any]) -> str:
    """A row for each run, float64 beside float32, and where the numbers come from.

    Args:
      result: what ``benchmarks/equality.py`` writes.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in result["rows"]:
        rows.setdefault(described(row), {})[row["dtype"]] = row
    steps, types = result["steps"], list(result["allowed"])
    lines = [
        ["devices", "config", *(f"{t}, {n}" for t in types for n in ("3 steps", f"{steps} steps"))],
        ["---", "---"] + ["---:"] * 2 * len(types),
    ]
    for label, found in rows.items():
        lines.append([*label, *(cell for t in types for cell in _cells(found.get(t)))])
    allowed = [f"{most:.0e}" for t in types for most in result["allowed"][t]]
    lines.append(["**allowed**", "", *allowed])
    made = result["made"]
    counts = ", ".join(str(n) for n in sorted({row["processes"] for row in result["rows"]}))
    origin = (
        f"Processes: {counts}; what is blank was not run. {len(result['rows'])} runs in "
        f"{result['seconds']:,} s, learning rate "
        f"{result['config']['optimizer']['learning_rate']:g}; commit {made['commit']}; "
        f"{made['cpu']}, jax {made['jax']}; {made['date']}."
    )
    return f"{pages.markdown(lines)}\n\n{origin}"


def _cells(row: Mapping[str, Any] | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    # The run that the others are compared with.
    alone = row["devices"] == 1 and not (row["plain"] and row["grad_cache"] > 1)
    if alone:
        return "–", "–"
    return f"{row['first_steps']:.0e}", f"{row['all_steps']:.0e}"


def filled(page: str, result: Mapping[str, Any]) -> str:
    """The page with the table made anew.

    Raises:
      ConfigError: the page has no place for it.
    """
    return pages.filled(page, {"equality": table(result)})


def main(argv: list[str]) -> None:
    del argv
    path = pathlib.Path(command_line.required("page"))
    if not path.exists():
        raise ConfigError(f"--page={path}: there is no such file")
    result = json.loads((path.parent / "results" / "equality.json").read_text())
    path.write_text(filled(path.read_text(), result))
    print(f"{len(result['rows'])} runs in {path}")


if __name__ == "__main__":
    flags.DEFINE_string("page", None, "The Markdown file whose table is filled in.")
    command_line.run(main)
