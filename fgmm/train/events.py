"""The numbers of a run as TensorBoard reads them."""

import pathlib
import time
from collections.abc import Mapping

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class EventFile:
    """A file of events, written where it is called.

    tensorboardX's ``SummaryWriter`` writes in a thread of its own, which a full disk ends without a
    word; the next events would then wait for it for ever.

    Args:
      folder: for files of events, one a start; made if missing.
      restored_step: events of later steps, from an earlier start, are hidden.
    """

    def __init__(self, folder: pathlib.Path, restored_step: int):
        folder.mkdir(exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        start = SessionLog(status=SessionLog.START)
        self._file.write_event(
            Event(wall_time=time.time(), step=restored_step + 1, session_log=start)
        )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the numbers of a step, as one event: each is sealed with a checksum in Python."""
        values = [Summary.Value(tag=name, simple_value=x) for name, x in scalars.items()]
        self._file.write_event(
            Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        )

    def flush(self) -> None:
        """Brings all of it to disk."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()
