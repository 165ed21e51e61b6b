"""The site of these pages: ``bash launch/docs.sh``."""

import importlib
import inspect
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import repository_pages  # noqa: E402

import fgmm  # noqa: E402

project = "fgmm"
author = "The fgmm developers"
project_copyright = author
version = release = fgmm.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
    "config_options",
    "repository_pages",
]
exclude_patterns = ["results/evidence"]

# Blocks without a language are output and layouts of folders.
highlight_language = "text"

html_theme = "furo"
html_title = f"fgmm {release}"

# Headings have the anchors that GitHub gives them.
myst_heading_anchors = 4
# The notebook shows what its last run printed; tests/test_notebook.py runs it.
nb_execution_mode = "off"

# Axes stand in the signatures: Float[Array, "B N D"].
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_attr_annotations = False  # they stand in the signatures
napoleon_use_rtype = False

linkcheck_timeout = 20
linkcheck_retries = 2


def linkcode_resolve(domain, info):
    """The page that shows the source of a class or a function; None for other things."""
    del domain
    found = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        found = getattr(found, name, None)
    try:
        path = inspect.getsourcefile(inspect.unwrap(getattr(found, "fget", found)))
    except TypeError:
        return None
    shown = pathlib.Path(path).resolve()
    if not shown.is_relative_to(HERE.parent):
        return None
    return f"{repository_pages.page(shown.relative_to(HERE.parent).as_posix())}.html"


# Unions that Sphinx writes out, by the names that the source has for them.
_NAMED = (
    (r"jaxlib\._jax\.", ""),
    (
        r"~?[\w.]*Shaped\[Array, '(.*?)'\] \| ~?[\w.]*Shaped\[[\w.]*ndarray, '\1'\]"
        r"(?: \| ~?[\w.]*(?:bool|number|int|float|complex))+",
        r"Shaped[ArrayLike, '\1']",
    ),
    (r"None \| str \| [^=]*DotAlgorithmPreset", "PrecisionLike"),
)


def readable(app, what, name, obj, options, signature, returns):
    """A signature with the names of types that the source has."""
    del app, what, name, obj, options
    for union, short in _NAMED:
        signature, returns = (text and re.sub(union, short, text) for text in (signature, returns))
    return signature, returns


def setup(app):
    """Registers what the pages of the package need."""
    app.connect("autodoc-process-signature", readable)
