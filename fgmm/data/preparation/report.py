"""What a preparation kept and left out, and why, as numbers that add up over shards."""

import bisect
import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from fgmm.data.preparation.records import Record

# Seconds; the last bin is open.
DURATIONS = (0, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_BAR = 40


@dataclasses.dataclass
class Report:
    """Counts of recordings and of the records that they became.

    Attributes:
      listed: recordings of the list.
      kept: recordings written.
      records: records written: as many as recordings, or more where these are cut into pieces.
      bytes: of the media of the records.
      seconds: the sum of the durations of the records.
      with_video: records with moving pictures or a picture.
      with_audio: records with a stream of sound.
      silent: records with a stream of sound that is silent.
      captionless: records without captions.
      captions, words: of all records.
      skipped: recordings left out, by reason.
      problems: recordings of which something was left out, by reason; rows of caption files are
        counted one by one.
      durations: records of each bin of ``DURATIONS``, by its lower end.
    """

    listed: int = 0
    kept: int = 0
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    with_video: int = 0
    with_audio: int = 0
    silent: int = 0
    captionless: int = 0
    captions: int = 0
    words: int = 0
    skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    problems: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    durations: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def keep(self, records: Sequence[Record]) -> None:
        """Counts the records of a recording, which are written."""
        self.kept += 1
        self.problems.update(records[0].raw.problems)
        self.problems.update({reason for one in records for reason in one.examined.problems})
        for record in records:
            self._count(record)

    def _count(self, record: Record) -> None:
        raw, examined = record.raw, record.examined
        self.records += 1
        self.bytes += record.media_bytes
        self.seconds += examined.duration
        self.with_video += examined.has_video
        self.with_audio += examined.has_audio
        self.silent += examined.silent
        self.captionless += not raw.captions
        self.captions += len(raw.captions)
        self.words += sum(len(caption.text.split()) for caption in raw.captions)
        self.durations[str(DURATIONS[bisect.bisect_right(DURATIONS, examined.duration) - 1])] += 1

    def __add__(self, other: "Report") -> "Report":
        names = [field.name for field in dataclasses.fields(self)]
        return Report(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        counted = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: dict(sorted(value.items())) if isinstance(value, dict) else value
            for name, value in counted.items()
        }

    @classmethod
    def from_dict(cls, numbers: dict[str, Any]) -> "Report":
        """The inverse of ``as_dict``."""
        return cls(
            **{
                name: collections.Counter(value) if isinstance(value, dict) else value
                for name, value in numbers.items()
            }
        )


def table(reports: dict[str, Report], left_out: dict[str, dict[str, int]]) -> str:
    """The report for a person.

    Args:
      reports: by split.
      left_out: what was left out when the list of a split was read, by reason.
    """
    return "\n\n".join(_of_split(name, reports[name], left_out[name]) for name in reports) + "\n"


def _of_split(name: str, report: Report, left_out: dict[str, int]) -> str:
    def share(count: int) -> str:
        return f"{count:>10,}" + (f"  {count / report.records:>6.1%}" if report.records else "")

    rows = [
        f"split {name}",
        f"  listed                {report.listed:>10,}",
        f"  kept                  {report.kept:>10,}",
        *([f"  in pieces             {report.records:>10,}"] * (report.records > report.kept)),
        *(f"  skipped, {reason:<19}{n:>4,}" for reason, n in sorted(report.skipped.items())),
        *(f"  not listed, {reason:<16}{n:>4,}" for reason, n in sorted(left_out.items())),
        f"  with video            {share(report.with_video)}",
        f"  with sound            {share(report.with_audio)}",
        f"  of these silent       {share(report.silent)}",
        f"  without captions      {share(report.captionless)}",
        f"  captions              {report.captions:>10,}",
        f"  words                 {report.words:>10,}",
        f"  hours                 {report.seconds / 3600:>10,.2f}",
        f"  megabytes             {report.bytes / 1e6:>10,.1f}",
        *(f"  problem, {reason:<19}{n:>4,}" for reason, n in sorted(report.problems.items())),
    ]
    most = max(report.durations.values(), default=0)
    for low, high in zip(DURATIONS, (*DURATIONS[1:], math.inf), strict=True):
        if count := report.durations.get(str(low), 0):
            bar = "#" * math.ceil(_BAR * count / most)
            end = f"{high:>6} s" if high < math.inf else "  more  "
            rows.append(f"  {low:>6} to {end} {count:>10,}  {bar}")
    return "\n".join(rows)
