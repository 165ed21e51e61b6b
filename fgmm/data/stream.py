"""The stream of training batches: their order, the workers that read them, and how it resumes.

The global batch of step s is a function of (seed, s) alone. It does not depend on the number of
processes or workers, or on where a run was interrupted.
"""

import ctypes
import functools
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import grain
import numpy as np

from fgmm.config import ConfigError
from fgmm.data.pipeline import Assembler, Draw


class SharedArray(grain.multiprocessing.SharedMemoryArray):
    """An array in shared memory. Deleting it frees the memory, unless it was handed over."""

    def __new__(cls, shape: Iterable[int], dtype: Any):
        array = super().__new__(cls, shape, dtype)
        array.handed_over = False
        return array

    @property
    def metadata(self) -> grain.multiprocessing.SharedMemoryArrayMetadata:
        """What the other process needs to find the memory and to free it."""
        self.handed_over = True
        return super().metadata

    def __del__(self) -> None:
        # Views have no such attribute and free nothing.
        if not getattr(self, "handed_over", True):
            self.unlink_on_del()
        super().__del__()


def training_batches(
    assembler: Assembler,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    threads: int = 2,
    prefetch: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of this process from ``start_step`` on, forever; every epoch has another order.

    A batch may contain the end of one epoch and the start of the next, so a corpus may have any
    number of clips, even fewer than a batch.

    Args:
      assembler: reads the clips.
      seed: of the order, and of what is drawn from the clips.
      batch_size: clips over all processes; a multiple of ``processes``.
      start_step: finished steps.
      process, processes: the index of this process, and how many there are.
      workers: worker processes; with 0, this process reads.
      threads: reading threads of each worker, or of this process.
      prefetch: batches read ahead, divided among the workers, with at least one each. A worker
        holds ``2 * max(1, prefetch // workers) + 3``, in its queue, in the one of this process, and
        between them.

    Raises:
      ConfigError: the source has no clip.
    """
    dataset = order(assembler.source, seed).random_map(_drawn)
    # Each process has consecutive clips of a batch, so the number of processes changes no order.
    share = batch_size // processes
    # Workers hand over batches in shared memory, so they write them there directly.
    zeros = SharedArray if workers else np.zeros
    read = functools.partial(assembler.batch, zeros=zeros)
    dataset = dataset.batch(share, drop_remainder=True, batch_fn=read)
    dataset = dataset[process::processes][start_step:]
    ahead = 1 if workers else prefetch
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    iterable = dataset.to_iter_dataset(reading)
    if workers:
        buffer = max(1, prefetch // workers)
        iterable = iterable.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffer),
            worker_init_fn=_as_worker,
        )
    return iter(iterable)


def _drawn(record: int, rng: np.random.Generator) -> Draw:
    # The generator is reused for the next record, so its state is kept.
    return Draw(int(record), rng.bit_generator.state)


def order(source: Any, seed: int) -> Any:
    """An endless ``grain.MapDataset`` of clip indices: of a corpus, or of the parts of a mixture by
    their weights. Every epoch of a corpus, or of a part, has all of its indices in a new order.
    ``seed`` also seeds what is drawn from the clips.

    Raises:
      ConfigError: the source has no clip.
    """
    if not len(source):
        raise ConfigError("data.source has no clip to train on")
    parts = getattr(source, "parts", ())
    if not parts:
        return grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    # Independent seeds, because grain adds the epoch to a seed.
    seeds = np.random.SeedSequence(seed).generate_state(len(parts)).tolist()
    orders = [
        grain.MapDataset.range(part.clips.start, part.clips.stop).seed(own).shuffle().repeat()
        for part, own in zip(parts, seeds, strict=True)
    ]
    # Integers, with 100 for the least weight. Grain would make the same, but truncate.
    least = min(part.weight for part in parts)
    weights = [round(100 * part.weight / least) for part in parts]
    return grain.MapDataset.mix(orders, weights).seed(seed)


def _as_worker(index: int, count: int) -> None:
    """A worker ignores signals, which its parent handles, and ends when the parent ends."""
    del index, count
    # A terminal or a scheduler signals the whole group; the parent still wants its batch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
