"""The table of docs/measured/distributed.md: differences of losses between devices and processes.

    python -m benchmarks.pages.equality_table --page=docs/measured/distributed.md

``benchmarks/equality.py --output=docs/results/equality.json`` measures them.
"""

from collections.abc import Mapping
from typing import Any

from absl import flags

from benchmarks.pages import named_tables
from fgmm import command_line


def described(row: Mapping[str, Any]) -> tuple[str, str]:
    """Where a run took place, and which options of its config were set."""
    count, devices = row["processes"], row["devices"] // row["processes"]
    where = f"{count} process{'es' * (count > 1)} of {devices} device{'s' * (devices > 1)}"
    keys = [f"{key}={row[key]}" for key in ("fsdp", "grad_cache", "accumulate") if row[key] > 1]
    if row["plain"]:
        keys.append("no dropout, no batch normalisation")
    return where, ", ".join(keys) or "as it is"


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """The table ``equality``: a row for each run, float64 beside float32, and their origin.

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
    return {"equality": f"{named_tables.markdown(lines)}\n\n{origin}"}


def _cells(row: Mapping[str, Any] | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    # Other runs are compared with this one.
    alone = row["devices"] == 1 and not (row["plain"] and row["grad_cache"] > 1)
    if alone:
        return "–", "–"
    return f"{row['first_steps']:.0e}", f"{row['all_steps']:.0e}"


def main(argv: list[str]) -> None:
    del argv
    named_tables.fill_page("equality.json", tables)


if __name__ == "__main__":
    flags.DEFINE_string("page", None, "The Markdown file whose table is filled in.")
    command_line.run(main)
