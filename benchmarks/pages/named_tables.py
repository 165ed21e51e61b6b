"""Tables of a page of Markdown, filled in by name.

Each table is between a comment with its name and a comment for its end, which readers do not see::

    <!-- equality -->
    <!-- end -->
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fgmm import command_line
from fgmm.config import ConfigError


def fill_page(name: str, tables: Callable[[dict[str, Any]], Mapping[str, str]]) -> dict[str, Any]:
    """Fills the tables of the page that the flag ``--page`` names, and returns the results.

    Args:
      name: of the JSON file of results. It lies in ``results``, beside the page's folder.
      tables: of the results, by name.

    Raises:
      ConfigError: the page or the file of results is missing, or a table has no place in the page.
    """
    page = pathlib.Path(command_line.required("page"))
    path = page.parent.parent / "results" / name
    for needed in (page, path):
        if not needed.exists():
            raise ConfigError(f"--page={page}: {needed} is missing")
    results = json.loads(path.read_text())
    made = tables(results)
    page.write_text(filled(page.read_text(), made))
    print(f"{len(made)} tables of {page} are filled in")
    return results


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with these tables in their places.

    Args:
      page: Markdown.
      tables: Markdown by name.

    Raises:
      ConfigError: the page has no place for one of them.
    """
    for name, table in tables.items():
        before, place, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not place or not end:
            raise ConfigError(f"the page has no <!-- {name} --> and <!-- end -->")
        page = f"{before}{place}\n{table}\n\n{end}{after}"
    return page


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The lines of a table; the second row says how columns are aligned."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
