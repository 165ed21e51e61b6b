"""``python -m fgmm`` lists the programs of this package."""

import ast
import pathlib
import re

import fgmm

_PACKAGE = pathlib.Path(__file__).parent


def programs() -> dict[str, str]:
    """The first sentence of each program's docstring, by module name. Imports nothing."""
    found = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        text = path.read_text()
        # A package with a ``__main__`` runs under the package's name. ``python -m fgmm`` itself is
        # left out, since it only prints this list.
        module = path.parent if path.name == "__main__.py" else path.with_suffix("")
        if '\nif __name__ == "__main__":' in text and module != _PACKAGE:
            name = ".".join(("fgmm", *module.relative_to(_PACKAGE).parts))
            documented = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
            found[name] = re.split(r"[.:;](?:\s|$)", documented)[0]
    return found


if __name__ == "__main__":
    print(f"fgmm {fgmm.__version__}. Each of these explains itself with --help:")
    listed = programs()
    width = max(map(len, listed))
    for name, description in listed.items():
        print(f"  python -m {name:{width}}  {description}")
