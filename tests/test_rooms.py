"""Arrows between the rooms of the package point one way."""

import ast

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "fgmm"
# What each room may import of the others. The losses import nothing else of the package.
BELOW = {"losses": set(), "config": set(), "models": {"config"}, "data": {"config"}}
BELOW["experiment"] = {"config", "data", "losses", "models"}
BELOW["train"] = BELOW["experiment"] | {"experiment"}
BELOW["convert"] = BELOW["eval"] = BELOW["train"] | {"train"}
BELOW["report"] = BELOW["eval"] | {"eval"}
BELOW["export"] = BELOW["report"] | {"convert", "report"}
BELOW["study"] = {"config", "report"}


def imported(path):
    """The modules of the package that a file imports, but for those of a program."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        program = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        for inner in () if program else ast.walk(node):
            if isinstance(inner, ast.ImportFrom) and (inner.module or "").startswith("fgmm"):
                yield from (f"{inner.module}.{alias.name}" for alias in inner.names)
            elif isinstance(inner, ast.Import):
                yield from (a.name for a in inner.names if a.name.startswith("fgmm"))


def test_every_room_has_its_place():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == BELOW.keys()


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_those_below_it_alone(room):
    upward = set()
    for path in (PACKAGE / room).rglob("*.py"):
        for module in imported(path):
            name = (*module.split("."), "")[1]
            known = name in BELOW or room == "losses"
            if known and name not in {room, *BELOW[room]}:
                upward.add((str(path.relative_to(PACKAGE)), module))
    assert not upward
