"""The table of docs/measured/reliability.md: faults that were tried on training runs.

    python -m benchmarks.pages.faults_table --page=docs/measured/reliability.md

``benchmarks/faults.py`` writes the trials to ``docs/results/faults.json``.
"""

import collections
import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks.pages import named_tables
from fgmm import command_line

Trial = Mapping[str, Any]


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """The table ``faults``: a row for each fault and moment, and the origin of the trials.

    Args:
      result: what ``benchmarks/faults.py`` writes.
    """
    lines = [
        ["fault", "when", "trials", "ended with", "within", "went on to the same curve"],
        ["---", "---", "---:", "---", "---:", "---:"],
    ]
    for entry in result["faults"].values():
        if "not_possible" in entry:
            lines.append([entry["not_possible"], "", "0", "", "", ""])
        moments = collections.defaultdict(list)
        for trial in entry["trials"]:
            moments[trial["fault"], _kind(trial["moment"])].append(trial)
        lines += [_row(*name, trials) for name, trials in moments.items()]
        if entry["failures"]:
            lines.append(
                ["failed", entry["failures"][0][:80], str(len(entry["failures"]))] + [""] * 3
            )
    return {"faults": f"{named_tables.markdown(lines)}\n\n{_origin(result['faults'].values())}"}


def _kind(moment: str) -> str:
    """The kind of a moment: of a damaged file, its folder and the damage; otherwise the moment, or
    nothing if it has a number.
    """
    file, _, left = moment.rpartition(": ")
    if file:
        return f"{file.split('/')[0]}: {left}"
    return "" if re.search(r"\d", moment) else moment


def _row(fault: str, moment: str, trials: Sequence[Trial]) -> list[str]:
    codes = sorted({_code(code) for trial in trials for code in trial["ended"]})
    seconds = [trial["seconds"] for trial in trials if trial["seconds"] is not None]
    compared = [trial["equal"] for trial in trials if trial["equal"] is not None]
    return [
        fault,
        moment,
        str(len(trials)),
        ", ".join(codes),
        f"{max(seconds):.0f} s" if seconds else "",
        f"{sum(compared)} of {len(compared)}" if compared else "–",
    ]


def _code(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else str(code)


def _origin(entries: Any) -> str:
    def joined(key: str) -> str:
        return ", ".join(sorted({str(entry[key]) for entry in entries}))

    return (
        f"Commit {joined('commit')}; {joined('cpu')}, jax {joined('jax')}; seeds {joined('seed')}; "
        f"{joined('date')}."
    )


def main(argv: list[str]) -> None:
    del argv
    named_tables.fill_page("faults.json", tables)


if __name__ == "__main__":
    flags.DEFINE_string("page", None, "The Markdown file whose table is filled in.")
    command_line.run(main)
