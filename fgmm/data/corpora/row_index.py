"""Indexes of corpora of any size: rows on disk, found once and opened in constant memory.

The index of a corpus is one file beside the corpus, or in a cache folder if the corpus's folder
cannot be written. It holds the size and the time of each file that it was made of. When a file has
changed, only that file is read again.
"""

import collections
import contextlib
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import tqdm
from absl import logging

from fgmm.config import ConfigError
from fgmm.data.corpora import files, patterns
from fgmm.data.corpora.arrow_batches import FACTS, ArrowBatches
from fgmm.data.corpora.ranges import Ranges
from fgmm.data.fingerprint import digest, encoded

# The version of the format; an index of another version is not read.
_FORMAT = "1"
# The column by which rows are sorted within a batch, so that a split is a range of each.
PLACE = "place"

# Columns with one value for each row, and facts that the reader noted on the rows.
Rows = tuple[Mapping[str, Sequence[Any]], Mapping[str, Any]]


def opened(
    name: str,
    folder: str,
    paths: Sequence[str],
    read: Callable[[str], Iterator[Rows]],
    schema: pa.Schema,
    options: Sequence[str] = (),
) -> ArrowBatches:
    """Opens the index of files. Files that are new, or have changed, are read first.

    Args:
      name: of the source.
      folder: that holds the files, at any depth; the index is written there.
      paths: of the files, in order. ``read`` is also called for a path without a file.
      read: yields the rows of a file in batches, at least one, each with facts that fit JSON, such
        as ``report``, which counts what was left out. The column ``place`` has a number for each
        row, by which splits are made.
      schema: of the rows.
      options: that change what is read.

    Returns:
      Batches with rows sorted by ``place``. The facts of a batch are those that were noted;
      ``file``, the path from the folder, ``size`` and ``modified`` of its file; and ``places``: the
      first place, the next one that differs, and the last.

    Raises:
      ConfigError: no folder for the index can be written; or ``read`` raises it.
    """
    named = [*options, *map(os.path.abspath, paths)]
    key = hashlib.sha256(encoded("\0".join([_FORMAT, str(schema), *named]))).hexdigest()
    file = f"{name}-{key[:12]}{patterns.INDEX}"
    known = [index for path in (pathlib.Path(folder), _cache()) if (index := _stored(path / file))]
    wanted = [(os.path.relpath(path, folder), *files.state(path)) for path in paths]
    for index in known:
        if _files_of(index) == wanted:
            return index
    before = known[0] if known else None
    failure = None
    for place_for_it in (pathlib.Path(folder), _cache()):
        try:
            return _write(place_for_it / file, before, wanted, paths, read, schema)
        except OSError as error:
            failure = error
    raise ConfigError(
        f"the index of {folder!r} cannot be written there or in {str(_cache())!r} ({failure}); "
        "make room, or set XDG_CACHE_HOME to a folder that can be written"
    )


def _cache() -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home, "fgmm", "indexes")


def _stored(path: pathlib.Path) -> ArrowBatches | None:
    try:
        return ArrowBatches(path)
    except OSError:
        return None


def _file_of(facts: Mapping[str, Any]) -> tuple[str, int, int]:
    return facts.get("file", ""), facts.get("size", -1), facts.get("modified", 0)


def _files_of(index: ArrowBatches) -> list[tuple[str, int, int]]:
    return list(dict.fromkeys(map(_file_of, index.facts)))


def _write(
    target: pathlib.Path,
    before: ArrowBatches | None,
    wanted: Sequence[tuple[str, int, int]],
    paths: Sequence[str],
    read: Callable[[str], Iterator[Rows]],
    schema: pa.Schema,
) -> ArrowBatches:
    """Writes an index as a whole, with the batches of files that have not changed."""
    kept = collections.defaultdict(list)
    for number, facts in enumerate(before.facts if before else ()):
        kept[_file_of(facts)].append(number)
    indexed = {file for file, _, _ in kept}
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    shown = tqdm.tqdm(wanted, desc="index", unit=" files", delay=3, disable=None)
    try:
        # Arrow takes names of files that are no UTF-8 as bytes only.
        out = pa.OSFile(os.fsencode(unfinished), "wb")
        with out, pa.ipc.new_stream(out, schema) as stream:
            for (file, size, modified), path in zip(shown, paths, strict=True):
                if before is not None and (numbers := kept.get((file, size, modified))):
                    for number in numbers:
                        noted = json.dumps(before.facts[number])
                        stream.write_batch(before.batch(number), custom_metadata={FACTS: noted})
                    continue
                if file in indexed:
                    logging.error("%s has changed since it was indexed; it is read again", path)
                state = {"file": file, "size": size, "modified": modified}
                for columns, noted in read(path):
                    batch, facts = _sorted(columns, schema)
                    noted = json.dumps({**state, **facts, **noted})
                    stream.write_batch(batch, custom_metadata={FACTS: noted})
        return _published(unfinished, target, wanted)
    finally:
        shown.close()
        with contextlib.suppress(OSError):
            os.remove(unfinished)


def _published(
    unfinished: pathlib.Path, target: pathlib.Path, wanted: Sequence[tuple[str, int, int]]
) -> ArrowBatches:
    """The index in its place. If another process has put the same index there meanwhile, that one
    stays: worker processes that have opened it refuse an index that is written again.
    """
    try:
        # Unlike a move, a link fails if there is a file.
        os.link(unfinished, target)
    except OSError:
        there = _stored(target)
        if there is not None and _files_of(there) == wanted:
            return there
        os.replace(unfinished, target)
    return ArrowBatches(target)


def _sorted(
    columns: Mapping[str, Sequence[Any]], schema: pa.Schema
) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """The rows in order of their places, and the facts on these places."""
    places = np.array(columns[PLACE], np.float64)
    order = np.argsort(places, kind="stable")
    batch = pa.RecordBatch.from_pydict(
        {name: [columns[name][i] for i in order] for name in schema.names}, schema=schema
    )
    distinct = np.unique(places)
    return batch, {"places": [*distinct[:2].tolist(), *distinct[-1:].tolist()]}


def report_of(index: ArrowBatches) -> files.Report:
    """What was left out of all files, by reason."""
    found = files.Report()
    for facts in index.facts:
        found.update(facts.get("report", {}))
    return +found


def digest_of(index: ArrowBatches, fact: str) -> str:
    """A digest of one fact of all batches."""
    return digest(str(facts.get(fact, "")) for facts in index.facts)


class SplitRows:
    """The rows of a split: a range of each batch, as rows are sorted by their places."""

    def __init__(self, index: ArrowBatches, border: float, below: bool):
        """Finds the ranges by bisection.

        Args:
          index: the batches.
          border: a place.
          below: True for the rows whose places are below the border, False for the others.
        """
        cuts = np.array(
            [
                np.searchsorted(index.batch(number)[PLACE].to_numpy(), border) if count else 0
                for number, count in enumerate(index.rows.lengths)
            ],
            np.int64,
        )
        self._first = np.zeros_like(cuts) if below else cuts
        self._ranges = Ranges(cuts if below else index.rows.lengths - cuts)

    def __len__(self) -> int:
        return len(self._ranges)

    def find(self, index: int) -> tuple[int, int]:
        """The batch that holds a row of the split, and the number of the row in the batch."""
        batch, row = self._ranges.find(index)
        return batch, int(self._first[batch]) + row
