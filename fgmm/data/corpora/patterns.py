"""Files named by a pattern: ``shards/{00000..00010}.tar``, ``parts/*.parquet``."""

import glob
import itertools
import os
import re
from collections.abc import Iterator

from fgmm.config import ConfigError
from fgmm.data.corpora import files

# The ending of indexes, which lie beside the files of a corpus but are not among them.
INDEX = ".index.arrow"
# The innermost braces; ranges may be padded with zeros, as in a shell.
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
# Names that braces may stand for; more are a mistake, such as {0..99999999}.
_MOST = 1_000_000


def is_pattern(path: str) -> bool:
    """Whether a path has wildcards or braces, and no file has that name."""
    return bool(_BRACES.search(path) or glob.has_magic(path)) and not os.path.exists(path)


def named(path: str, endings: tuple[str, ...]) -> list[str]:
    """The files that a path names, in order and each once.

    Args:
      path: of a file, of a folder, or a pattern with ``*``, ``?``, ``[...]``, ``{a,b}`` and
        ``{000..123}``. Files whose names are spelled out by braces alone need not exist.
      endings: of the files that are taken from a folder, at any depth.

    Raises:
      ConfigError: the braces stand for more than a million names.
    """
    if not is_pattern(path):
        if not os.path.isdir(path):
            return [path]
        below = (name for name in files.Folder(path).names() if name.lower().endswith(endings))
        return sorted(os.path.join(path, name) for name in below)
    spelled = list(itertools.islice(expanded(path), _MOST + 1))
    if len(spelled) > _MOST:
        raise ConfigError(
            f"root={path!r} stands for more than {_MOST} names; shorten the ranges in its braces, "
            "or give a folder"
        )
    found = (sorted(glob.glob(name)) if glob.has_magic(name) else [name] for name in spelled)
    names = dict.fromkeys(itertools.chain.from_iterable(found))
    return [name for name in names if not name.endswith(INDEX)]


def expanded(pattern: str) -> Iterator[str]:
    """The names that the braces of a pattern stand for, as in a shell."""
    found = _BRACES.search(pattern)
    if not found:
        yield pattern
        return
    for choice in _choices(found[1]):
        yield from expanded(pattern[: found.start()] + choice + pattern[found.end() :])


def folder_of(path: str) -> str:
    """The folder that holds all files of a pattern, at any depth; a file's folder; or the folder
    itself.
    """
    if os.path.isdir(path):
        return os.path.abspath(path)
    folder = path if is_pattern(path) else os.path.dirname(path)
    while is_pattern(folder):
        folder = os.path.dirname(folder)
    return os.path.abspath(folder or ".")


def _choices(text: str) -> Iterator[str]:
    bounds = _RANGE.fullmatch(text)
    if not bounds:
        yield from text.split(",")
        return
    first, last = int(bounds[1]), int(bounds[2])
    width = len(bounds[1]) if bounds[1].startswith("0") else 0
    for number in range(first, last + 1) if first <= last else range(first, last - 1, -1):
        yield f"{number:0{width}d}"
