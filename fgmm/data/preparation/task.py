"""A preparation: what is read, what is written and how; planned before anything is written."""

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from fgmm.config import ConfigError
from fgmm.data.preparation import raw as raws
from fgmm.data.preparation import shards
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.plan import Plan, measured
from fgmm.data.preparation.records import RecordMaker
from fgmm.data.schema import BadInput

# Recordings of a split that are asked for their kind.
_LOOKED_AT = 100
# The flags by which a kind is encoded again.
_NEEDED = {"video": "--short_side, --fps or --gop_seconds", "audio": "--audio_rate"}


@dataclasses.dataclass(frozen=True)
class Task:
    """All that is needed to write any shard; can be pickled.

    Attributes:
      output: the folder.
      plan: of the folder.
      raw: the recordings of each split.
      making: how recordings become records.
    """

    output: pathlib.Path
    plan: Plan
    raw: dict[str, Any]
    making: RecordMaker

    def remaining(self) -> list[tuple[str, int]]:
        """The shards that have yet to be written, as (split, number)."""
        return [
            (split, shard)
            for split, shard in self.plan.shards()
            if shards.finished(self.output, self.plan, split, shard) is None
        ]

    def write(self, split: str, shard: int, **options: Any) -> dict[str, Any]:
        """Writes a shard; see ``shards.write_shard``."""
        return shards.write_shard(
            self.output, self.plan, self.raw[split], self.making, split, shard, **options
        )


def open_task(
    source: str,
    root: str,
    output: pathlib.Path,
    *,
    splits: Iterable[str] = (),
    encoding: Encoding,
    time_limit: float = 600.0,
    shard_megabytes: float = 256.0,
) -> Task:
    """Opens a corpus and plans its shards; writes nothing.

    Args:
      source: as ``raw.choose`` takes it.
      root: the folder of the corpus.
      output: the folder to be written.
      splits: those wanted; if empty, those of ``raw.splits`` that have recordings.
      encoding: how recordings are encoded again.
      time_limit: seconds for each recording; 0 for none.
      shard_megabytes: of a shard, before anything is encoded again.

    Raises:
      ConfigError: the source, an option or the corpus is not as it should be.
    """
    chosen = raws.choose(source, raw=True)
    for key, value in {"time_limit": time_limit, "shard_megabytes": shard_megabytes}.items():
        if value < 0:
            raise ConfigError(f"--{key}={value} must be at least 0")
    if not shard_megabytes:
        raise ConfigError(f"--shard_megabytes={shard_megabytes} must be greater than 0")
    wanted = tuple(splits)
    opened = {}
    for split in wanted or raws.splits(chosen, root):
        if split == "all" or not re.fullmatch(r"\w+", split):
            raise ConfigError(
                f"--splits={split} must be letters, digits and underscores, and not 'all'"
            )
        raw = raws.open_raw(chosen, root, split)
        if len(raw) or split in wanted:
            opened[split] = raw
    if not any(map(len, opened.values())):
        raise ConfigError(f"--input={root} has no recording to prepare{_left_out(opened)}")
    if encoding.piece_seconds:
        _demand_cut(opened, encoding)
    plan = Plan(
        name=re.sub(r"\W+", "_", chosen.name.rpartition(".")[2]).lower(),
        source=chosen.name,
        options=chosen.options,
        encoding=dataclasses.asdict(encoding),
        time_limit=time_limit,
        shard_megabytes=shard_megabytes,
        splits={split: measured(raw, shard_megabytes) for split, raw in opened.items()},
        classes=_classes(opened),
    )
    return Task(output, plan, opened, RecordMaker(encoding, time_limit))


def _demand_cut(opened: dict[str, Any], encoding: Encoding) -> None:
    """Raises if recordings would stay whole, judged by the first ones of each split."""
    kinds = set()
    for raw in opened.values():
        for index in range(min(_LOOKED_AT, len(raw))):
            with contextlib.suppress(BadInput):
                kinds.add(raw[index].kind)
    for kind, needed in _NEEDED.items():
        if kind in kinds and not encoding.again(kind):
            raise ConfigError(
                f"--piece_seconds={encoding.piece_seconds} cuts {kind} only where it is encoded "
                f"again; add {needed}"
            )


def _classes(opened: dict[str, Any]) -> dict[str, list[str]]:
    """Names of the classes, which must be the same in all splits."""
    of_splits = [
        {kind: [*names] for kind, names in getattr(raw, "classes", {}).items()}
        for raw in opened.values()
    ]
    if any(classes != of_splits[0] for classes in of_splits):
        raise ConfigError(
            f"the classes of the splits {', '.join(opened)} differ; prepare each in a folder of "
            "its own, by --splits"
        )
    return of_splits[0]


def _left_out(opened: dict[str, Any]) -> str:
    reasons = [f"{reason} {n}" for raw in opened.values() for reason, n in raw.report.items()]
    return f"; left out: {', '.join(reasons)}" if reasons else ""
