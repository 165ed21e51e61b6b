"""Files that are written as a whole or not at all."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def replaced(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the name of a new file, which takes the place of ``path`` when the context ends, or is
    removed if that fails. Whoever opens ``path`` meanwhile finds the former file, or none.

    Raises:
      OSError: the file cannot be put in its place.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces a file by a text.

    Raises:
      OSError: it cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Replaces a file by another content.

    Raises:
      OSError: it cannot be written.
    """
    with replaced(path) as partial:
        partial.write_bytes(content)
