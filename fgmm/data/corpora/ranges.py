"""Ranges of indices that follow each other, such as the clips of files or of corpora."""

from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int64


class Ranges:
    """Ranges of given lengths, the first from 0. Their whole length is ``len(ranges)``.

    Attributes:
      lengths, ends: of each range its length, and the index past its last one, int64.
    """

    def __init__(self, lengths: Iterable[int] | Int64[np.ndarray, "ranges"]):
        self.lengths = np.fromiter(lengths, np.int64)
        self.ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def find(self, index: SupportsIndex) -> tuple[int, int]:
        """The number of the range that holds an index, and the place of the index in it.

        Raises:
          IndexError: no range holds it.
        """
        index = range(len(self))[index]
        number = int(np.searchsorted(self.ends, index, side="right"))
        return number, index - int(self.ends[number] - self.lengths[number])
