"""A Sphinx extension: the directive ``config-options`` lists the keys of a config."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fgmm.config.option import described
from fgmm.config.sections import Options


class ConfigOptions(SphinxDirective):
    """A list of all keys, each with its default, meaning, bounds and choices."""

    def run(self) -> list[nodes.Node]:
        """The list."""
        found = nodes.definition_list()
        for lines in described(Options, ""):
            key, _, said = (line.strip() for line in lines.partition("\n"))
            term = nodes.term("", "", nodes.literal(text=key))
            meaning = nodes.definition("", nodes.paragraph(text=said))
            found += nodes.definition_list_item("", term, meaning)
        return [found]


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("config-options", ConfigOptions)
    return {"version": "1", "parallel_read_safe": True}
