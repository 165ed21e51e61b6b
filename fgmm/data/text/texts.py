"""The names of a large corpus, in little memory."""

import array
from collections.abc import Iterable, Iterator


class Texts:
    """Very many short strings, held in two buffers; can be pickled."""

    def __init__(self, texts: Iterable[str] = ()):
        self._joined = bytearray()
        self._bounds = array.array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Adds a string at the end."""
        self._joined += text.encode("utf-8", "surrogateescape")
        self._bounds.append(len(self._joined))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        part = self._joined[self._bounds[index] : self._bounds[index + 1]]
        return part.decode("utf-8", "surrogateescape")
