"""Narrated shapes that cannot be read any more after so many clips as STUCK_AFTER says."""

import itertools
import os
import time

from fgmm.data.sources import narrated_shapes

_reads = itertools.count()


class Source(narrated_shapes.Source):
    """Options as those of narrated shapes."""

    def __getitem__(self, record):
        if next(_reads) >= int(os.environ.get("STUCK_AFTER", "1000000")):
            never_returns()
        return super().__getitem__(record)


def never_returns():
    """Waits longer than any test."""
    time.sleep(10_000)
