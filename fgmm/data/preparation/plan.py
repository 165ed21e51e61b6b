"""What a preparation does, fixed before its first shard and kept for runs that continue it."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

from fgmm.config import ConfigError
from fgmm.data.fingerprint import digest
from fgmm.data.preparation.disk import write_json
from fgmm.data.schema import BadInput

FORMAT = 1
PLAN = "plan.json"
# Recordings, about, whose sizes are read to plan the number of shards.
_MEASURED = 256


@dataclasses.dataclass(frozen=True)
class Split:
    """A split as it was planned: recordings listed, shards, and the checksum of the list."""

    records: int
    shards: int
    listing: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a preparation does; the same for all runs that continue it.

    Attributes:
      name: of the dataset, as TFDS knows it.
      source, options, encoding, time_limit, shard_megabytes: what was asked for.
      splits: by name.
      classes: names of the classes of each kind of label, by label.
    """

    name: str
    source: str
    options: dict[str, Any]
    encoding: dict[str, Any]
    time_limit: float
    shard_megabytes: float
    splits: dict[str, Split]
    classes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    format: int = FORMAT

    def shard_name(self, split: str, shard: int) -> str:
        """The file of a shard."""
        return f"{self.name}-{split}.array_record-{shard:05d}-of-{self.splits[split].shards:05d}"

    def shards(self) -> Iterator[tuple[str, int]]:
        """All shards as (split, number)."""
        for split, planned in self.splits.items():
            for shard in range(planned.shards):
                yield split, shard


def measured(raw: Any, shard_megabytes: float) -> Split:
    """Plans a split: shards of about ``shard_megabytes`` each, before anything is encoded again."""
    count = len(raw)
    listing = digest((listed_name(raw, index) for index in range(count)), length=64)
    indices = range(0, count, max(1, count // _MEASURED))
    sizes = [_size(raw, index) for index in indices]
    total = sum(sizes) / max(1, len(sizes)) * count
    shards = min(max(1, count), max(1, math.ceil(total / (shard_megabytes * 1e6))))
    return Split(count, shards, listing)


def listed_name(raw: Any, index: int) -> str:
    """The name of a recording; its number if the list has no names."""
    names = getattr(raw, "names", None)
    return str(index) if names is None else names[index]


def _size(raw: Any, index: int) -> int:
    try:
        found = raw[index].media
        return len(found) if isinstance(found, bytes) else found.stat().st_size
    except (BadInput, OSError):
        return 0


def settle(output: pathlib.Path, plan: Plan) -> Plan:
    """The plan that a folder was begun with, which must ask for the same as ``plan``. A new folder
    gets ``plan``.

    Raises:
      ConfigError: the two plans differ, or the stored one is damaged.
      OutputFailed: the folder cannot be written.
    """
    path = output / PLAN
    if not path.exists():
        write_json(path, dataclasses.asdict(plan))
        return plan
    try:
        begun = json.loads(path.read_text())
        splits = {name: Split(**split) for name, split in begun.pop("splits").items()}
        begun = Plan(**begun, splits=splits)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"--output={output}: plan.json is damaged ({error})") from error
    for field in dataclasses.fields(Plan):
        before, now = getattr(begun, field.name), getattr(plan, field.name)
        if field.name == "splits":
            before, now = (
                {name: (split.records, split.listing) for name, split in planned.items()}
                for planned in (before, now)
            )
            if before.keys() == now.keys() and before != now:
                raise ConfigError(
                    f"--output={output}: the list of recordings has changed since it was begun; "
                    "restore the list, or give another folder"
                )
            before, now = sorted(before), sorted(now)
        if before != now:
            raise ConfigError(
                f"--output={output} was begun with {field.name}={before!r}, not {now!r}; give what "
                "it was begun with, or another folder"
            )
    return begun
