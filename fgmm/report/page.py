"""Named tables in a page of Markdown, made anew from results.

Each stands between a comment with its name and the end, which readers do not see::

    <!-- equality -->
    <!-- end -->
"""

from collections.abc import Mapping, Sequence

from fgmm.config import ConfigError


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with its tables made anew.

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
    """The lines of a table, of which the second says how columns are aligned."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
