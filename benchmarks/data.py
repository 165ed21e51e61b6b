"""Clips a second that one core reads, against FFmpeg alone; worker processes; cores for a host.

    python benchmarks/data.py [--rounds=5] [--quick] [--clips_per_second_per_accelerator=20]

The videos are made first, in a temporary folder: moving texture and sound, H.264 (x264, preset
veryfast, CRF 23, three B-frames, a key frame every 2 s) at 30 frames a second, and AAC.

*fgmm* is what training does: a source's clip through ``Assembler`` into its place in a batch.
*PyAV* is the least work for the packets of that clip, from the last key frame before it to its last
picture: it decodes all of them, and FFmpeg's scaler makes the needed pictures RGB of the batch's
size, without keeping their aspect. The pictures stay in the scaler's memory and are not copied to
Python. Both use one thread, take turns clip by clip, and are timed by the CPU time of the process.
"""

import dataclasses
import fractions
import functools
import itertools
import pathlib
import statistics
import tempfile
import time
import tracemalloc

import av
import numpy as np
from absl import flags
from PIL import Image

from fgmm import command_line
from fgmm.data import pipeline
from fgmm.data.schema import BatchShape
from fgmm.data.sources import video_folder
from fgmm.data.stream import training_batches

VIDEO_FPS, KEY_SECONDS = 30, 2
# Pictures of a clip for each second of it.
FPS = 10
SOUND_RATE, MODEL_RATE = 48_000, 16_000
RESOLUTIONS = {"720p": (720, 1280), "256p": (256, 454)}
COUNTS, SIZES = (16, 32), (112, 224)
# The decoder's pictures are YUV 4:2:0.
_BYTES_A_PIXEL = 1.5


def _flags() -> None:
    flags.DEFINE_integer("rounds", 5, "Timings of each kind.", lower_bound=1)
    flags.DEFINE_bool("quick", False, "Short videos, one round, one kind with workers.")
    consumed = "clips_per_second_per_accelerator"
    flags.DEFINE_float(consumed, 20.0, "What one accelerator trains on.", lower_bound=0.0)
    flags.DEFINE_integer("accelerators", 8, "Of a host.", lower_bound=1)


def write_video(path: pathlib.Path, height: int, width: int, seconds: float) -> None:
    """Writes a video of a moving texture and a square that moves the other way, with a sound."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height // 8 + 32, width // 8 + 32, 3), np.uint8)
    texture = np.asarray(Image.fromarray(noise).resize((width + 256, height + 256)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=VIDEO_FPS)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.gop_size = KEY_SECONDS * VIDEO_FPS
        stream.options = {"preset": "veryfast", "crf": "23", "sc_threshold": "0"}
        sound = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for number in range(round(seconds * VIDEO_FPS)):
            time = number / VIDEO_FPS
            top, left = (round(128 + 127 * np.sin(time * speed)) for speed in (1.1, 0.7))
            picture = texture[top : top + height, left : left + width].copy()
            place = round((width - 64) * (0.5 + 0.5 * np.cos(time)))
            picture[height // 2 :, place : place + 64] = (200, 40, 90)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
        waves = np.sin(np.arange(round(seconds * SOUND_RATE)) * 0.06).astype(np.float32) * 0.3
        for first in range(0, len(waves), 1024):
            part = waves[first : first + 1024][None]
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.rate, frame.pts = SOUND_RATE, first
            frame.time_base = fractions.Fraction(1, SOUND_RATE)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def plain(path: pathlib.Path, moments: list[float], size: int) -> tuple[int, int]:
    """Decodes a clip with PyAV alone; returns how many pictures it decoded, and the bytes it read.

    Args:
      path: of the video.
      moments: of the clip's pictures, in seconds.
      size: rows and columns of the scaled pictures.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(moments[0] / stream.time_base), stream=stream)
        scaler = av.video.reformatter.VideoReformatter()
        current, done, decoded, read = None, 0, 0, 0
        for packet in container.demux(stream):
            read += packet.size
            for frame in packet.decode():
                decoded += 1
                if current is not None and frame.time > moments[done]:
                    scaler.reformat(current, width=size, height=size, format="rgb24", threads=1)
                    while done < len(moments) and frame.time > moments[done]:
                        done += 1
                    if done == len(moments):
                        return decoded, read
                current = frame
        raise ValueError(f"{path} ends before {moments[-1]} s")


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of clips of one video."""

    name: str
    path: pathlib.Path
    count: int
    size: int
    samples: int = 0

    @functools.cached_property
    def assembler(self) -> pipeline.Assembler:
        source = video_folder.Source(
            root=str(self.path.parent), validation=0.0, seconds=self.count / FPS
        )
        shape = BatchShape(
            frames=self.count,
            height=self.size,
            width=self.size,
            samples=self.samples,
            sample_rate=MODEL_RATE,
            captions=1,
            phrases=1,
            tokens=0,
        )
        return pipeline.Assembler(source, shape, None, "function_words", time_limit=60.0)

    def read(self, record: int) -> None:
        batch = self.assembler.batch([pipeline.Draw(record)])
        assert not batch["problems"].any(), pipeline.count_problems(batch["problems"])

    def moments(self, record: int) -> list[float]:
        """Seconds at which the pictures of a clip are on display."""
        start = self.assembler.source[record].video.start
        return [start + (i + 0.5) / FPS for i in range(self.count)]

    @property
    def clips(self) -> int:
        return len(self.assembler.source)


def processor_seconds(work, *arguments) -> float:
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def spread(values: list[float], form: str) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):{form}} ({low:{form}}-{high:{form}})"


def against_plain(cases: list[Case], rounds: int) -> dict[Case, float]:
    """Prints the table of one core; returns clips a second of each case."""
    print("| video | frames | px | fgmm, clips/s | PyAV, clips/s | fgmm : PyAV | decoded | file |")
    print("| --- " + "| ---: " * 7 + "|")
    rates = {}
    for case in cases:
        took = [plain(case.path, case.moments(record), case.size) for record in range(case.clips)]
        case.read(0)
        ours, theirs = [], []
        for _ in range(rounds):
            pairs = [
                (
                    processor_seconds(case.read, record),
                    processor_seconds(plain, case.path, case.moments(record), case.size),
                )
                for record in range(case.clips)
            ]
            ours.append(case.clips / sum(pair[0] for pair in pairs))
            theirs.append(case.clips / sum(pair[1] for pair in pairs))
        rates[case] = rate = statistics.median(ours)
        height, width = RESOLUTIONS[case.name]
        pixels, read = (statistics.mean(part) for part in zip(*took, strict=True))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        decoded = rate * pixels * height * width * _BYTES_A_PIXEL
        print(
            f"| {case.name} | {case.count} | {case.size} | {spread(ours, '.1f')} "
            f"| {spread(theirs, '.1f')} | {spread(ratios, '.2f')} "
            f"| {1e-6 * decoded:.0f} MB/s | {1e-6 * rate * read:.2f} MB/s |",
            flush=True,
        )
    return rates


def with_sound(case: Case, rounds: int) -> float:
    """Clips a second with their sound."""
    both = dataclasses.replace(case, samples=round(case.count / FPS * MODEL_RATE))
    both.read(0)
    times = [
        processor_seconds(both.read, record) for _ in range(rounds) for record in range(both.clips)
    ]
    return 1 / statistics.median(times)


def assembly(case: Case) -> tuple[float, float]:
    """The milliseconds to copy a clip's frames from the scaler's memory into a new batch; and the
    most memory that is allocated beside the batch while it is made, in frames.
    """
    shape = (case.count, case.size, case.size, 3)
    scaled = np.zeros((case.size, 2 * case.size, 3), np.uint8)[:, : case.size]

    def copy():
        batch = np.zeros((1, *shape), np.uint8)
        for row in batch[0]:
            row[...] = scaled

    milliseconds = 1e3 * statistics.median(processor_seconds(copy) for _ in range(20))
    drawn = [pipeline.Draw(record % case.clips) for record in range(4)]
    case.assembler.batch(drawn)
    tracemalloc.start()
    batch = case.assembler.batch(drawn)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del batch
    return milliseconds, (peak - held) / (case.size * case.size * 3)


def with_workers(case: Case, workers: int, batches: int, batch_size: int) -> float:
    """Clips a second of wall time with an idle consumer, once the queue of batches is full."""
    stream = training_batches(
        case.assembler, seed=0, batch_size=batch_size, workers=workers, threads=1, prefetch=2
    )
    for _ in range(4):
        next(stream)
    start = time.perf_counter()
    for _ in itertools.islice(stream, batches):
        pass
    rate = batches * batch_size / (time.perf_counter() - start)
    stream.close()
    return rate


def main(argv) -> None:
    del argv
    quick = flags.FLAGS.quick
    rounds = 1 if quick else flags.FLAGS.rounds
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for name, (height, width) in RESOLUTIONS.items():
            path = pathlib.Path(folder) / name / "video.mp4"
            path.parent.mkdir()
            write_video(path, height, width, 4 if quick else 12)
            cases += [Case(name, path, count, size) for count in COUNTS for size in SIZES]
        print(f"PyAV {av.__version__}, one thread; median (least-greatest) of {rounds} rounds\n")
        rates = against_plain(cases, rounds)
        report_assembly(cases, rates, rounds)
        report_workers(cases[-1:] if quick else cases[3::4], min(rounds, 3), 4 if quick else 16)


def report_assembly(cases: list[Case], rates: dict[Case, float], rounds: int) -> None:
    """Prints what else a clip takes, and how many cores a host needs."""
    options = flags.FLAGS
    consumed, accelerators = options.clips_per_second_per_accelerator, options.accelerators
    print("\n| video | frames | px | copy into the batch | most memory beside it ", end="")
    print(f"| with sound, clips/s | cores for {accelerators} x {consumed:g} clips/s |")
    print("| --- " + "| ---: " * 6 + "|")
    for case in cases:
        milliseconds, frames = assembly(case)
        rate = with_sound(case, rounds)
        print(
            f"| {case.name} | {case.count} | {case.size} "
            f"| {milliseconds:.2f} ms, {0.1 * milliseconds * rates[case]:.1f}% "
            f"| {frames:.2f} frames | {rate:.1f} | {accelerators * consumed / rate:.1f} |",
            flush=True,
        )


def report_workers(cases: list[Case], rounds: int, batches: int) -> None:
    """Prints how much more two worker processes read than one."""
    print("\n| video | frames | px | 1 worker, clips/s | 2 workers, clips/s | 2 : 1 |")
    print("| --- " + "| ---: " * 5 + "|")
    for case in cases:
        size = 4 if case.name == "720p" else 16
        found = {1: [], 2: []}
        for _ in range(rounds):
            for workers, rates in found.items():
                rates.append(with_workers(case, workers, batches, size))
        ratios = [b / a for a, b in zip(found[1], found[2], strict=True)]
        print(
            f"| {case.name} | {case.count} | {case.size} | {spread(found[1], '.1f')} "
            f"| {spread(found[2], '.1f')} | {spread(ratios, '.2f')} |",
            flush=True,
        )


if __name__ == "__main__":
    _flags()
    command_line.run(main)
