"""Shards: planned once, each written whole or not at all, listed with checksums.

The folder of a prepared corpus::

    plan.json                                        what was asked for, and the number of shards
    howto100m-train.array_record-00000-of-00012      the records
    finished/howto100m-train....json                 of each shard: checksum, counts, what it skips
    unfinished/                                      what is being written
    manifest.json                                    all shards, when all are there
    dataset_info.json, features.json, metadata.json  for tfds.builder_from_directory, likewise
    report.json, report.txt, skipped.csv             for people, likewise
"""

import concurrent.futures
import contextlib
import csv
import functools
import json
import os
import pathlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds
import tqdm
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from fgmm.config import ConfigError
from fgmm.data.preparation.disk import OutputFailed, cause, checksum, to_disk, write_json
from fgmm.data.preparation.plan import FORMAT, Plan, listed_name
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.preparation.records import RecordMaker, features
from fgmm.data.preparation.report import Report, table
from fgmm.data.schema import BadInput

MANIFEST = "manifest.json"
# Media are compressed already; each record can be read alone.
_WRITER_OPTIONS = "group_size:1,uncompressed"
# Shards that are checked at the same time.
_THREADS = 8
# The keys of a shard's entry in the manifest that readers need, with their types.
_ENTRY = {"file": str, "split": str, "records": int, "bytes": int, "sha256": str}


def finished(output: pathlib.Path, plan: Plan, split: str, shard: int) -> dict[str, Any] | None:
    """The entry of a shard in the manifest; None where it has yet to be written."""
    name = plan.shard_name(split, shard)
    try:
        entry = json.loads((output / "finished" / f"{name}.json").read_text())
        whole = (output / name).stat().st_size == entry["bytes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if whole else None


def write_shard(
    output: pathlib.Path,
    plan: Plan,
    raw: Any,
    making: RecordMaker,
    split: str,
    shard: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Writes a shard: under another name until it is complete and on disk.

    Args:
      output, plan, making: as of ``task.Task``.
      raw: the recordings of the split.
      split, shard: which shard.
      advance: called after each recording.

    Returns:
      Its entry in the manifest.

    Raises:
      OutputFailed: it cannot be written.
    """
    name = plan.shard_name(split, shard)
    planned = plan.splits[split]
    first = shard * planned.records // planned.shards
    past = (shard + 1) * planned.records // planned.shards
    partial = output / "unfinished" / f"{name}.{uuid.uuid4().hex}"
    report, skipped = Report(), []
    try:
        writer = ArrayRecordWriter(os.fspath(partial), _WRITER_OPTIONS)
        for index in range(first, past):
            found: RawRecord | None = None
            try:
                found = raw[index]
                records = making(found)
            except (BadInput, TimeoutError) as error:
                reason = error.reason if isinstance(error, BadInput) else "too_slow"
                clip_id = found.clip_id if found else listed_name(raw, index)
                report.skipped[reason] += 1
                skipped.append([clip_id, reason, str(error).removeprefix(f"{reason}: ")])
            else:
                for record in records:
                    writer.write(record.serialized)
                if not writer.ok():
                    break  # closing says why
                report.keep(records)
            report.listed += 1
            advance()
        writer.close()
        _demand_complete(partial, report.records)
        entry = {
            "file": name,
            "split": split,
            "shard": shard,
            "records": report.records,
            "bytes": partial.stat().st_size,
            "sha256": checksum(partial),
            "report": report.as_dict(),
            "skipped": skipped,
        }
        to_disk(partial)
        os.replace(partial, output / name)
        to_disk(output)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OutputFailed(f"shard {name} cannot be written: {cause(error)}") from error
    write_json(output / "finished" / f"{name}.json", entry)
    return entry


def _demand_complete(path: pathlib.Path, records: int) -> None:
    reader = ArrayRecordReader(os.fspath(path))
    try:
        if reader.num_records() != records:
            raise OSError(f"it holds {reader.num_records()} of {records} records")
    finally:
        reader.close()


def complete(
    output: pathlib.Path, plan: Plan, left_out: dict[str, dict[str, int]]
) -> dict[str, Report]:
    """Writes the files that make all shards a dataset: the manifest, TFDS's files and the reports.

    Args:
      output, plan: as of ``task.Task``.
      left_out: what was left out when the list of a split was read, by reason.

    Returns:
      The report of each split.

    Raises:
      OutputFailed: a shard is missing, or a file cannot be written.
    """
    reports = {split: Report() for split in plan.splits}
    shards: list[dict[str, Any]] = []
    skipped = output / "unfinished" / "skipped.csv"
    try:
        with open(skipped, "w", newline="", encoding="utf-8", errors="replace") as file:
            rows = csv.writer(file)
            rows.writerow(["split", "clip_id", "reason", "detail"])
            for split, shard in plan.shards():
                entry = finished(output, plan, split, shard)
                if entry is None:
                    raise OutputFailed(
                        f"shard {plan.shard_name(split, shard)} has disappeared; run the same "
                        "command again"
                    )
                rows.writerows([split, *row] for row in entry.pop("skipped"))
                reports[split] += Report.from_dict(entry.pop("report"))
                shards.append(entry)
        to_disk(skipped)
        os.replace(skipped, output / "skipped.csv")
        (output / "report.txt").write_text(table(reports, left_out))
        _write_dataset_info(output, plan, shards)
    except OSError as error:
        raise OutputFailed(f"{output} cannot be written: {cause(error)}") from error
    as_dicts = {split: report.as_dict() for split, report in reports.items()}
    numbers = {"splits": as_dicts, "not_listed": left_out}
    write_json(output / "report.json", numbers)
    manifest = {"format": FORMAT, "name": plan.name, "classes": plan.classes, "shards": shards}
    write_json(output / MANIFEST, manifest)
    return reports


def _write_dataset_info(output: pathlib.Path, plan: Plan, shards: list[dict[str, Any]]) -> None:
    identity = tfds.core.DatasetIdentity(
        name=plan.name,
        version=tfds.core.Version("1.0.0"),
        data_dir=os.fspath(output),
        module_name="",
    )
    description = f"{plan.source}, prepared by fgmm.data.prepare"
    metadata = tfds.core.MetadataDict(classes=plan.classes) if plan.classes else None
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=features(),
        description=description,
        metadata=metadata,
        disable_shuffling=True,
    )
    info.set_file_format("array_record")
    template = tfds.core.ShardedFileTemplate(
        data_dir=output, dataset_name=plan.name, filetype_suffix="array_record"
    )
    splits = []
    for split in plan.splits:
        own = [entry for entry in shards if entry["split"] == split]
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[entry["records"] for entry in own],
                num_bytes=sum(entry["bytes"] for entry in own),
                filename_template=template,
            )
        )
    info.set_splits(tfds.core.splits.SplitDict(splits))
    info.write_to_directory(output)


def read_manifest(output: pathlib.Path) -> list[dict[str, Any]]:
    """The shards of a prepared corpus.

    Raises:
      ConfigError: there is none, or it is not finished, or its manifest is damaged.
    """
    path = output / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']!r}, not {FORMAT}")
        for entry in manifest["shards"]:
            if not all(isinstance(entry[key], kind) for key, kind in _ENTRY.items()):
                raise ValueError("an entry is not of the right form")
            if "/" in entry["file"] or "\0" in entry["file"]:
                raise ValueError(f"{entry['file']!r} is no shard of this folder")
        return list(manifest["shards"])
    except FileNotFoundError as error:
        raise ConfigError(
            f"{str(output)!r} has no {MANIFEST}: nothing was prepared there, or not to the end; "
            "run python -m fgmm.data.prepare"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}: {error})") from error


def damaged(
    output: pathlib.Path, entries: Iterable[dict[str, Any]], *, checksums: bool
) -> Iterator[str]:
    """What is wrong with shards, as ``damage`` says it. Several are checked at the same time.

    Args:
      output: the folder.
      entries: of the shards in the manifest.
      checksums: compare checksums too, for which each shard is read whole, with a progress bar.
    """
    entries = list(entries)
    look = functools.partial(damage, output, checksums=checksums)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        shown = {"desc": "checksums", "unit": " shards", "disable": None if checksums else True}
        yield from filter(None, tqdm.tqdm(pool.map(look, entries), total=len(entries), **shown))


def read_classes(output: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """The names of the classes of a prepared corpus whose manifest can be read, by kind of label.

    Raises:
      ConfigError: they are not of that form.
    """
    classes = json.loads((output / MANIFEST).read_text()).get("classes", {})
    try:
        return {str(kind): tuple(map(str, names)) for kind, names in classes.items()}
    except (AttributeError, TypeError) as error:
        raise ConfigError(
            f"{output / MANIFEST}: classes={classes!r} is no dict of lists"
        ) from error


def damage(output: pathlib.Path, entry: dict[str, Any], *, checksums: bool) -> str | None:
    """What is wrong with a shard; None if it is as it was written."""
    path = output / entry["file"]
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"{entry['file']} has {size} bytes instead of {entry['bytes']}"
        if checksums and checksum(path) != entry["sha256"]:
            return f"{entry['file']} has been changed: its checksum is not that of {MANIFEST}"
    except OSError as error:
        return f"{entry['file']} cannot be read: {error.strerror}"
    return None
