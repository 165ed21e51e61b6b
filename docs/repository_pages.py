"""A Sphinx extension for pages that are read on GitHub as well.

- A link to a file or a folder outside ``docs`` leads to a page of the site that shows it.
- ``<a name="here"></a>`` is a target of links.
"""

import ast
import html
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The pages that include a file from outside docs.
INCLUDED = {"README.md": "index", "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog"}


class NamedAnchors(SphinxTransform):
    """Makes targets of named anchors, of which Sphinx sees raw HTML alone."""

    default_priority = 210

    def apply(self, **kwargs: Any) -> None:
        del kwargs
        for raw in list(self.document.findall(nodes.raw)):
            if match := re.fullmatch(r'<a name="([\w-]+)">', raw.astext().strip()):
                target = nodes.target("", "", ids=[match[1]], names=[match[1]])
                self.document.note_explicit_target(target)
                raw.replace_self(target)


class RepositoryLinks(SphinxTransform):
    """Leads links to files and folders of the repository to pages of the site."""

    default_priority = 220

    def apply(self, **kwargs: Any) -> None:
        del kwargs
        found = [*self.document.findall(addnodes.download_reference)]
        found += self.document.findall(addnodes.pending_xref)
        shown = set()
        for link in found:
            path = self._path(link)
            if path is None or not path.exists():
                continue
            name = path.relative_to(ROOT).as_posix()
            attributes = {"refdoc": self.env.docname, "refexplicit": True}
            if document := INCLUDED.get(name) or self.env.path2doc(path):
                fragment = link["reftarget"].partition("#")[2] or link.get("reftargetid")
                attributes |= {"refdomain": "doc", "reftype": "myst", "reftarget": document}
                attributes["reftargetid"] = fragment
            else:
                attributes |= {"refdomain": "", "reftype": "repository", "reftarget": name}
                shown.add(name)
            link.replace_self(addnodes.pending_xref("", *link.children, **attributes))
        shown_by_page(self.env)[self.env.docname] = shown

    def _path(self, link: nodes.Element) -> pathlib.Path | None:
        """What a link leads to, from the file that it stands in; None for links of other kinds."""
        target = link.get("reftarget", "")
        if link.get("reftype") != "myst" or target.startswith("#"):
            return None
        if link.get("refdomain") == "doc":  # a page, or a file outside that has the form of one
            return pathlib.Path(self.env.srcdir, f"{target}.md").resolve()
        return (pathlib.Path(link.source).parent / target.partition("#")[0]).resolve()


def shown_by_page(env: BuildEnvironment) -> dict[str, set[str]]:
    """Names of the files and folders that each page links to."""
    if not hasattr(env, "shown_by_page"):
        env.shown_by_page = {}
    return env.shown_by_page


def note_sources(app: Sphinx, doctree: nodes.document) -> None:
    """Notes the sources that the reference links to, from a page in ``docs`` itself."""
    start = page("")
    found = (link.get("refuri", "") for link in doctree.findall(nodes.reference))
    names = {
        uri.removeprefix(start).removesuffix(".html") for uri in found if uri.startswith(start)
    }
    shown_by_page(app.env).setdefault(app.env.docname, set()).update(names)


def resolved(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Node
) -> nodes.reference | None:
    """The link to the page that shows a file or a folder."""
    del env
    if node["reftype"] != "repository":
        return None
    uri = app.builder.get_relative_uri(node["refdoc"], page(node["reftarget"]))
    return nodes.reference("", "", content, internal=True, refuri=uri)


def page(name: str) -> str:
    """The page that shows a file or a folder."""
    return f"repository/{name}"


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, str], str]]:
    """A page for each file and folder that is linked to."""
    for name in sorted(set().union(*shown_by_page(app.env).values())):
        path = ROOT / name
        body = listing(path) if path.is_dir() else highlighted(app, path)
        title = html.escape(name)
        yield page(name), {"title": title, "body": f"<h1>{title}</h1>{body}"}, "page.html"


def highlighted(app: Sphinx, path: pathlib.Path) -> str:
    """A file as HTML."""
    try:
        language = get_lexer_for_filename(path.name).aliases[0]
    except ClassNotFound:
        language = "bash" if path.suffix == ".sbatch" else "text"
    return app.builder.highlighter.highlight_block(path.read_text(), language, force=True)


def listing(folder: pathlib.Path) -> str:
    """What is in a folder, as HTML: names, and the first lines of modules."""
    rows = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(("__", ".")):
            continue
        said = ""
        if path.suffix == ".py":
            said = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
        name = path.name + "/" * path.is_dir()
        rows.append(
            f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(said)}</td></tr>"
        )
    return f"<table class='docutils'>{''.join(rows)}</table>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the extension."""
    app.add_transform(NamedAnchors)
    app.add_transform(RepositoryLinks)
    app.connect("doctree-read", note_sources, priority=900)
    app.connect("missing-reference", resolved)
    app.connect("html-collect-pages", pages)
    return {"version": "1", "env_version": 1, "parallel_read_safe": False}
