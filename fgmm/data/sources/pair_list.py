"""A list of media with captions, one a row: Parquet, CSV, tab-separated or JSON lines.

::

    pairs.csv                    path,caption
                                 images/a.jpg,"a dog, running"
                                 images/a.jpg,a dog on grass
                                 clips/b.mp4,an onion is cut
    narrated.tsv                 path, caption, start and end in seconds: of one video, row by row
    parts/*.parquet              paths, or the contents of files; several lists are one corpus

    pair_list-1f0c....index.arrow  made once
"""

import dataclasses
import functools
import os
from typing import ClassVar

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, lists, patterns, row_index
from fgmm.data.corpora.arrow_batches import ArrowBatches
from fgmm.data.corpora.pairs import IndexedPairs, Pair, of_file
from fgmm.data.fingerprint import Fingerprint, digest
from fgmm.data.schema import Caption

# The sizes of more files are not read for a fingerprint.
_FILES = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(IndexedPairs):
    """A clip is a file. Rows of one file that follow each other are its captions; where they have
    times, a clip is a stretch around one of them.

    Paths are relative to their list, or to ``folder``. The kind of a file is known by its ending;
    without a known ending, or if its contents are in the list, by its first bytes. The index holds
    a copy of the columns named here, so contents of files are on disk twice: Parquet cannot be read
    row by row.

    Attributes:
      report: as of ``lists.entries``.
    """

    called: ClassVar[tuple[str, str]] = ("row", "lists")

    root: str = option(help="A list, a folder of lists, or a pattern: parts/*.parquet.")
    media: str = option("path", help="The column of paths, or of the contents of files.")
    caption: str = option("caption", help="The column of captions, or of lists of them.")
    id: str = option("", help="A column that names each row; empty: paths do.")
    start: str = option(
        "", help="The column of the seconds at which a caption starts; empty: none."
    )
    end: str = option("", help="That of the seconds at which it ends.")
    folder: str = option("", help="That paths are relative to; empty: the folder of their list.")
    quotes: bool = option(
        True, help="Whether fields of CSV and tab-separated lists may be in double quotes."
    )

    def listed(self) -> ArrowBatches:
        """Finds the lists, and opens their index."""
        paths = patterns.named(self.root, lists.ENDINGS)
        if not any(map(os.path.exists, paths)):
            raise ConfigError(
                f"root={self.root!r} names no list; give one, a folder of lists, or a pattern; "
                f"endings: {', '.join(lists.ENDINGS)}"
            )
        columns = lists.Columns(self.media, self.caption, self.id, self.start, self.end)
        read = functools.partial(lists.entries, columns=columns, quotes=self.quotes)
        options = [*dataclasses.astuple(columns), str(self.quotes)]
        return row_index.opened("pair_list", self._folder, paths, read, lists.SCHEMA, options)

    def name(self, index: int) -> str:
        """The id of a file."""
        return self._listed.row(*self._rows.find(index), "id")["id"]

    def pair(self, index: int) -> Pair:
        """The file of a number."""
        batch, number = self._rows.find(index)
        row = self._listed.row(batch, number, "id", "path", "contents", "captions")
        captions = tuple(Caption(**said) for said in row["captions"])
        return of_file(row["id"], row["path"], row["contents"], self._above(batch), captions)

    def fingerprint(self) -> Fingerprint:
        """As of ``IndexedPairs``; ``sizes`` are those of the media unless there are too many, or
        the lists hold them all.
        """
        found = super().fingerprint()
        if len(self) > _FILES:
            return found
        sizes, held = [], False
        for index in range(len(self)):
            batch, number = self._rows.find(index)
            path = self._listed.row(batch, number, "path")["path"]
            if path:
                above = os.path.expanduser(self._above(batch))
                sizes.append(str(files.state(os.path.join(above, path))[0]))
            else:
                held = True
        return found | {"sizes": digest([found["sizes"]] * held + sizes)}

    def _above(self, batch: int) -> str:
        """The folder that paths of a batch are relative to."""
        of_list = os.path.dirname(self._listed.facts[batch]["file"])
        return self.folder or os.path.join(self._folder, of_list)
