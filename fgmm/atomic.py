"""Files that are written as a whole or not at all."""

import os
import pathlib


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces a file by a text. Whoever opens it meanwhile finds the former one, or none.

    Raises:
      OSError: it cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """As ``write_text``.

    Raises:
      OSError: as ``write_text``.
    """
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
