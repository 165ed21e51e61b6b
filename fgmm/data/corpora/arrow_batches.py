"""Record batches of Arrow files on disk, memory-mapped and read row by row.

A long stream opens in little memory: of each batch only its place and its facts are kept.
"""

import json
import os
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa

from fgmm.data.corpora import files
from fgmm.data.corpora.ranges import Ranges

# The key of a batch's own metadata that holds facts on it, as JSON.
FACTS = b"facts"


class ArrowBatches:
    """The batches of a file in Arrow's streaming format, read in place.

    Can be pickled, and read by many threads and processes.

    Attributes:
      path: of the file.
      schema: of every batch.
      facts: what the writer noted of each batch, by number; empty where it noted nothing.
      rows: of each batch, by number.
    """

    def __init__(self, path: str | os.PathLike[str], *, check: bool = False):
        """Finds the batches.

        Args:
          path: of the file.
          check: validate a whole batch before a row of it is read: for files that others wrote, in
            which a damaged offset may point anywhere.

        Raises:
          OSError: the file cannot be read, or is no such stream, or is cut off.
        """
        self.path, self._check = pathlib.Path(path).absolute(), check
        self._state, self._mapped = files.state(self.path), None
        try:
            source = pa.BufferReader(self._buffer())
            stream = pa.ipc.open_stream(source)
            self.schema, places, counts, self.facts = stream.schema, [], [], []
            while True:
                place = source.tell()
                try:
                    batch, noted = stream.read_next_batch_with_custom_metadata()
                except StopIteration:
                    break
                places.append(place)
                counts.append(batch.num_rows)
                self.facts.append(json.loads(noted[FACTS]) if noted and FACTS in noted else {})
        except (OSError, pa.ArrowException, ValueError) as error:
            raise OSError(
                f"{self.path} is no whole stream of Arrow batches ({one_line(error)})"
            ) from error
        self._places, self.rows = np.array(places, np.int64), Ranges(counts)
        # The batch that was read last, for callers that read in order.
        self._last: tuple[int, pa.RecordBatch | None] = (-1, None)

    def batch(self, number: int) -> pa.RecordBatch:
        """The batch of a number, in the memory of the file.

        Raises:
          OSError: the file has been written again, or is gone, or the batch is damaged.
        """
        last, batch = self._last
        if last != number or batch is None:
            rest = self._buffer().slice(int(self._places[number]))
            try:
                message = pa.ipc.read_message(pa.BufferReader(rest))
                batch = pa.ipc.read_record_batch(message, self.schema)
                if self._check:
                    batch.validate(full=True)
            except (pa.ArrowException, ValueError) as error:
                raise OSError(
                    f"batch {number} of {self.path} is damaged ({one_line(error)})"
                ) from error
            self._last = (number, batch)
        return batch

    def row(self, number: int, row: int, *columns: str) -> dict[str, Any]:
        """Values of a row of a batch, by column; of all columns if none is named."""
        batch = self.batch(number)
        return {name: batch[name][row].as_py() for name in columns or self.schema.names}

    def _buffer(self) -> pa.Buffer:
        if self._mapped is None:
            if files.state(self.path) != self._state:
                raise OSError(f"{self.path} has been written again since it was opened")
            # An empty file cannot be mapped. Arrow takes names that are no UTF-8 as bytes only.
            path = os.fsencode(self.path)
            with pa.memory_map(path) if self._state[0] else pa.BufferReader(b"") as file:
                self._mapped = file.read_buffer()
        return self._mapped

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None, "_last": (-1, None)}


def one_line(error: Exception) -> str:
    """The message of an error in one line; those of Arrow may have several."""
    return " ".join(str(error).split())
