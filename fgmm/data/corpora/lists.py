"""Lists of media with captions, one a row: Parquet, CSV, tab-separated and JSON lines."""

import csv
import dataclasses
import difflib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from fgmm.config import ConfigError
from fgmm.data.corpora import files, narrations, row_index
from fgmm.data.corpora.arrow_batches import one_line
from fgmm.data.corpora.source import place
from fgmm.data.fingerprint import digest
from fgmm.data.text.captions import without_markup

ENDINGS = (".parquet", ".csv", ".tsv", ".jsonl")
_CAPTION = pa.struct([("text", pa.string()), ("start", pa.float64()), ("end", pa.float64())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("contents", pa.large_binary()),
        ("captions", pa.list_(_CAPTION)),
        (row_index.PLACE, pa.float64()),
    ]
)
# Rows of a batch of the index, and bytes of media, at most.
_ROWS, _BYTES = 1 << 14, 1 << 26
# Columns that an error names, and letters of each.
_NAMED, _LONGEST = 20, 80

# The values of a row by their meaning: media, caption, id, start, end.
_Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of a list's columns by their meaning; empty for one that the list does not have.

    Attributes:
      media: paths, or the contents of files.
      caption: a caption, or a list of them.
      id: a unique name.
      start, end: the time of what the caption says, in seconds from the start of the file.
    """

    media: str
    caption: str
    id: str = ""
    start: str = ""
    end: str = ""

    def given(self) -> dict[str, str]:
        """The columns that the list has, by their meaning."""
        return {name: column for name, column in dataclasses.asdict(self).items() if column}


def entries(path: str, columns: Columns, quotes: bool) -> Iterator[row_index.Rows]:
    """The media of a list as rows of ``SCHEMA``, in batches. Rows of one path that follow each
    other are one, with several captions.

    Args:
      path: of the list; its ending says the format.
      columns: of the list.
      quotes: whether fields of CSV and of tab-separated files may be in double quotes.

    Yields:
      The rows, and facts on them: ``ids`` and ``texts``, digests; and ``report``, which counts
      rows without media, or a missing list, as ``missing_file``; rows of another form, with text
      that is no UTF-8, or with times that cannot be read or do not go forward as
      ``malformed_line``; captions without words as ``empty_caption``; rows with the id of an
      earlier row of the list as ``duplicate_id``.

    Raises:
      ConfigError: the list cannot be read, lacks a column, or has one of a wrong type.
    """
    ending = os.path.splitext(path)[1].lower()
    report = files.Report()
    if not os.path.exists(path):
        report["missing_file"] += 1
        rows = iter(())
    elif ending == ".parquet":
        rows = _parquet(path, columns, report)
    elif ending == ".jsonl":
        rows = _json_lines(path, columns, report)
    elif ending in (".csv", ".tsv"):
        rows = _separated(path, columns, report, "," if ending == ".csv" else "\t", quotes)
    else:
        raise ConfigError(f"list {path!r} must end in one of {', '.join(ENDINGS)}")
    batch = _Batch()
    for entry in _merged(_checked(rows, report), bool(columns.id), report):
        if batch.full:
            yield batch.columns, batch.facts(report)
            batch = _Batch()
            report.clear()
        batch.add(entry, f"{os.path.basename(path)}:{entry['row']}")
    yield batch.columns, batch.facts(report)


class _Batch:
    """Rows of the index until they are written."""

    def __init__(self):
        self.columns: dict[str, list] = {name: [] for name in SCHEMA.names}
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self.columns["id"]) >= _ROWS or self._bytes >= _BYTES

    def add(self, entry: _Row, number: str) -> None:
        """Adds a file. Its id is that of the row, or else its path, or else ``number``."""
        name = entry["id"] or entry["path"] or number
        values = {**entry, "id": name, row_index.PLACE: place(entry["path"] or name)}
        values["captions"] = sorted(entry["captions"], key=lambda said: said["start"])
        for column, found in self.columns.items():
            found.append(values[column])
        self._bytes += len(entry["contents"] or b"")

    def facts(self, report: Mapping[str, int]) -> dict[str, Any]:
        texts = (said["text"] for captions in self.columns["captions"] for said in captions)
        return {"ids": digest(self.columns["id"]), "texts": digest(texts), "report": dict(report)}


def _checked(rows: Iterable[_Row], report: files.Report) -> Iterator[_Row]:
    """Rows in the form of the index; rows that cannot be used are counted and left out."""
    for number, row in enumerate(rows, 1):
        path, contents = path_and_contents(row.get("media"))
        if not path and not contents:
            report["missing_file"] += 1
            continue
        texts = row.get("caption")
        texts = texts if isinstance(texts, list) else [texts]
        span = _span(row.get("start"), row.get("end"))
        strings = [text for text in (path, row.get("id"), *texts) if text is not None]
        held = contents is None or isinstance(contents, bytes)
        if span is None or not held or not all(map(_is_text, strings)):
            report["malformed_line"] += 1
            continue
        cleaned = [without_markup(str(text)) for text in texts if text is not None]
        report["empty_caption"] += cleaned.count("")
        yield {
            "row": number,
            "id": "" if row.get("id") is None else str(row["id"]),
            "path": None if contents else str(path),
            "contents": contents,
            "captions": [
                {"text": text, "start": span[0], "end": span[1]} for text in cleaned if text
            ],
        }


def path_and_contents(media: Any) -> tuple[Any, Any]:
    """(path, contents) of a file from a value that is either, or a struct of both."""
    if isinstance(media, dict):
        return media.get("path"), media.get("bytes")
    return (None, media) if isinstance(media, bytes) else (media, None)


def _merged(entries: Iterable[_Row], with_ids: bool, report: files.Report) -> Iterator[_Row]:
    """Merges consecutive rows of one path. Other rows with a known id are counted and left out."""
    known: set[int] = set()
    current: _Row | None = None
    for entry in entries:
        same = current is not None and entry["path"] is not None
        if same and (entry["path"], entry["id"]) == (current["path"], current["id"]):
            current["captions"] += entry["captions"]
            continue
        if with_ids and entry["id"]:
            key = narrations.digest(entry["id"])
            if key in known:
                report["duplicate_id"] += 1
                continue
            known.add(key)
        if current is not None:
            yield current
        current = entry
    if current is not None:
        yield current


def _span(start: Any, end: Any) -> tuple[float, float] | None:
    """(start, end) of a caption; without times (0, inf), the whole file; None if they are wrong."""
    try:
        begin = 0.0 if start in (None, "") else narrations.seconds(start)
        past = math.inf if end in (None, "") else narrations.seconds(end)
    except (ValueError, TypeError):
        return None
    return (begin, past) if 0 <= begin < past else None


def _is_text(value: Any) -> bool:
    """Whether a value is text, or a number that stands for it, of letters that UTF-8 has."""
    return files.is_utf8(value) if isinstance(value, str) else isinstance(value, int)


def _separated(
    path: str, columns: Columns, report: files.Report, delimiter: str, quotes: bool
) -> Iterator[_Row]:
    """The rows of a CSV or tab-separated file."""
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
            header = next(lines, [])
            wanted = columns.given()
            places = {
                name: header.index(_there(f"list {path!r}", c, header))
                for name, c in wanted.items()
            }
            for fields in lines:
                if len(fields) == len(header):
                    yield {name: fields[i] for name, i in places.items()}
                elif fields:  # an empty line is not counted
                    report["malformed_line"] += 1
    except csv.Error as error:
        remedy = (
            "close the quotes around a field and double those within, or set quotes=False if they "
            "are part of the text"
        )
        raise ConfigError(
            f"list {path!r}, line {lines.line_num}: {error}; {remedy if quotes else 'shorten it'}"
        ) from error
    except OSError as error:
        raise ConfigError(f"list {path!r} cannot be read ({error})") from error


def _json_lines(path: str, columns: Columns, report: files.Report) -> Iterator[_Row]:
    """The rows of a file with an object a line."""
    checked = False
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
            for line in filter(str.strip, file):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict):
                    report["malformed_line"] += 1
                    continue
                if not checked:
                    for column in columns.given().values():
                        _there(f"list {path!r}", column, list(row))
                    checked = True
                yield {name: row.get(column) for name, column in columns.given().items()}
    except OSError as error:
        raise ConfigError(f"list {path!r} cannot be read ({error})") from error


def _parquet(path: str, columns: Columns, report: files.Report) -> Iterator[_Row]:
    """The rows of a Parquet file; other columns are not read."""
    done = 0
    try:
        # Arrow takes names of files that are no UTF-8 as bytes only.
        with pa.memory_map(os.fsencode(path)) as mapped, pa.parquet.ParquetFile(mapped) as file:
            schema = file.schema_arrow
            check_columns(f"list {path!r}", columns, schema)
            wanted = list(columns.given().values())
            size = 256 if _holds_contents(schema.field(columns.media).type) else _ROWS
            for batch in file.iter_batches(size, columns=wanted):
                for row in _rows_of(batch):
                    done += 1
                    if row is None:
                        report["malformed_line"] += 1
                    else:
                        yield {name: row[column] for name, column in columns.given().items()}
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"list {path!r} cannot be read after row {done} ({one_line(error)}); it is damaged or "
            "cut off"
        ) from error


def _rows_of(batch: pa.RecordBatch) -> list[_Row | None]:
    """The rows of a batch; None for those with text that is no UTF-8."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [None]
        return [_rows_of(batch.slice(number, 1))[0] for number in range(len(batch))]


def check_columns(where: str, columns: Columns, schema: pa.Schema) -> None:
    """Checks that a table has columns, of types that they may have.

    Raises:
      ConfigError: a column is missing or of another type; ``where`` names the table in the message.
    """
    for name, column in columns.given().items():
        kind = schema.field(_there(where, column, schema.names)).type
        test, words = _ALLOWED[name]
        if not test(kind):
            raise ConfigError(
                f"{where}: column {column!r} is of type {kind}; {name} must be {words}"
            )


def _there(where: str, column: str, names: Sequence[str]) -> str:
    """The column, if the table ``where`` has it among ``names``; otherwise raises ConfigError."""
    if column in names:
        return column
    nearest = difflib.get_close_matches(column, names, 1)
    shown = [
        (name if name.isprintable() else repr(name))[:_LONGEST]
        for name in dict.fromkeys([*nearest, *names[:_NAMED]])
    ][:_NAMED]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    meant = f"; did you mean {shown[0]}?" if nearest else ""
    raise ConfigError(
        f"{where} has no column {column!r}; it has {', '.join(shown) or 'none'}{more}{meant}"
    )


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _is_binary(kind: pa.DataType) -> bool:
    return kind in (pa.binary(), pa.large_binary(), pa.binary_view())


def _holds_contents(kind: pa.DataType) -> bool:
    """Whether a column has the contents of files, or a struct of these and a path."""
    return _is_binary(kind) or (
        pa.types.is_struct(kind)
        and any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    )


def _is_caption(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return _is_string(kind.value_type if lists else kind)


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or _is_string(kind)


_ALLOWED: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "media": (
        lambda kind: _is_string(kind) or _holds_contents(kind),
        "string (paths), binary (contents of files), or a struct of bytes and path",
    ),
    "caption": (_is_caption, "string, or a list of strings"),
    "id": (lambda kind: _is_string(kind) or pa.types.is_integer(kind), "string or an integer"),
    "start": (_is_time, "a number of seconds, or a string"),
    "end": (_is_time, "a number of seconds, or a string"),
}
