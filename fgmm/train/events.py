"""Metrics in the files that TensorBoard reads."""

import pathlib
import time
from collections.abc import Mapping

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class EventFile:
    """A file of events, written by the calling thread.

    The thread of tensorboardX's ``SummaryWriter`` ends silently when the disk is full, and later
    events wait for it forever.

    Args:
      folder: for event files, one for each start; made if missing.
      restored_step: TensorBoard hides events of later steps that an earlier start wrote.
    """

    def __init__(self, folder: pathlib.Path, restored_step: int):
        folder.mkdir(exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        start = SessionLog(status=SessionLog.START)
        self._file.write_event(
            Event(wall_time=time.time(), step=restored_step + 1, session_log=start)
        )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes all metrics of a step as one event: Python computes a checksum for each event."""
        values = [Summary.Value(tag=name, simple_value=x) for name, x in scalars.items()]
        self._file.write_event(
            Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        )

    def flush(self) -> None:
        """Writes everything to disk."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()
