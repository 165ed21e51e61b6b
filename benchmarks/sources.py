"""Corpora of many entries: how long they take to open, what memory they take, how fast they read.

    python benchmarks/sources.py [--entries=10000000] [--clips=200] [--rounds=5] [--folder=DIR]

*Opening*: a list, tar shards and a saved dataset of made-up entries. List and shards are empty
files; only their index is made up (the index of a list is the same for CSV, Parquet and the
others). The dataset is written as the package ``datasets`` writes it. A process of its own then
opens the corpus, and looks up 20,000 entries in random order without their media. Memory is its
resident memory after that, less the memory of a process that does the same with a corpus of one
entry. *Own* pages stay; *mapped* pages the system takes back when it needs them. ``--clips=0``
measures only this.

*Reading*: clips a second from a source through ``Assembler`` into a batch, against decoding the
same clips, the least that has to be done: for videos as ``benchmarks/data.py`` says, for pictures
with Pillow from bytes in memory. Both are timed by the CPU time of the process, in turns.
"""

import collections
import functools
import io
import json
import math
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from unittest import mock

import numpy as np
import pyarrow as pa
from absl import flags
from PIL import Image

from fgmm import command_line
from fgmm.data import pipeline
from fgmm.data.corpora import lists, row_index, tar_shards
from fgmm.data.media import decode
from fgmm.data.schema import BatchShape
from fgmm.data.sources import hugging_face, pair_list, webdataset

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from benchmarks.data import plain, processor_seconds, spread, write_video
from tests.data import pairs_fixture

# Entries of a shard, by default as many in img2dataset, and of a batch of a saved dataset.
SHARD, BATCH = 10_000, 1_000
# Rows of a batch of the index of a list.
ROWS = 16_384
# Entries that are looked up.
LOOKED_UP = 20_000
SIZE, BATCH_SIZE = 224, 16

_ENTRIES = flags.DEFINE_integer("entries", 10_000_000, "Of a made-up corpus.", lower_bound=1)
_CLIPS = flags.DEFINE_integer(
    "clips", 200, "Pictures that are read in a round; 0 reads none.", lower_bound=0
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timings of each kind.", lower_bound=1)
_FOLDER = flags.DEFINE_string("folder", None, "For what is made up; a temporary one without it.")

# Run in a process of its own.
OPEN = """
import importlib, json, random, sys, time

def resident():
    lines = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return [int(lines[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile")]

name, options, count = json.loads(sys.argv[1])
module = importlib.import_module(f"fgmm.data.sources.{name}")
begun = time.perf_counter(), time.process_time()
source = module.Source(**options)
opened = time.perf_counter() - begun[0], time.process_time() - begun[1]
rng = random.Random(0)
drawn = [rng.randrange(len(source)) for _ in range(count)]
begun = time.process_time()
for index in drawn:
    source.pair(index)
each = (time.process_time() - begun) / count
print(json.dumps([len(source), *opened, *resident(), each]))
"""


def made_up_list(folder: pathlib.Path, entries: int) -> dict:
    """Writes the index of a list of pictures, which do not exist; returns the source's options."""
    folder.mkdir()
    options = {"root": str(folder / "pairs.csv"), "validation": 0.0}
    pathlib.Path(options["root"]).touch()
    with mock.patch.object(lists, "entries", functools.partial(_rows, entries)):
        pair_list.Source(**options)
    return options


def _rows(entries: int, path: str, columns: lists.Columns, quotes: bool):
    """The rows of the made-up list, in the place of ``lists.entries``."""
    del columns, quotes
    for first in range(0, entries, ROWS):
        numbers = range(first, min(first + ROWS, entries))
        paths = [f"images/{number // 1000:05d}/{number:08d}.jpg" for number in numbers]
        captions = [
            [{"text": f"a picture of {number}", "start": 0.0, "end": math.inf}]
            for number in numbers
        ]
        rows = {"id": paths, "path": paths, "contents": [None] * len(paths), "captions": captions}
        rows[row_index.PLACE] = np.random.default_rng(first).random(len(paths))
        yield rows, {"ids": path, "texts": path, "report": {}}


def made_up_shards(folder: pathlib.Path, entries: int) -> dict:
    """Writes the index of shards with three members a sample; returns the source's options."""
    folder.mkdir()
    shards = -(-entries // SHARD)
    for shard in range(shards):
        (folder / f"{shard:05d}.tar").touch()
    options = {"root": str(folder / f"{{{0:05d}..{shards - 1:05d}}}.tar"), "validation": 0.0}
    with mock.patch.object(tar_shards, "samples", functools.partial(_samples, entries)):
        webdataset.Source(**options)
    return options


def _samples(entries: int, path: str, folder: str):
    """The rows of a made-up shard, in the place of ``tar_shards.samples``."""
    first = int(pathlib.Path(path).stem) * SHARD
    keys = [f"{number:09d}" for number in range(first, min(first + SHARD, entries))]
    of_one = [{"ending": e, "first": 512, "size": 50_000} for e in ("jpg", "txt", "json")]
    rows = {"key": keys, "group": [""] * len(keys), "kind": ["image"] * len(keys)}
    rows |= {"members": [of_one] * len(keys)}
    rows[row_index.PLACE] = np.random.default_rng(first).random(len(keys))
    yield rows, {"ids": path, "texts": path, "report": {}}


def made_up_dataset(folder: pathlib.Path, entries: int) -> dict:
    """Writes a saved dataset of paths; returns the source's options."""
    folder.mkdir()
    schema = pa.schema([("image", pa.string()), ("caption", pa.list_(pa.string()))])
    name = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / name), "wb") as out, pa.ipc.new_stream(out, schema) as stream:
        for first in range(0, entries, BATCH):
            numbers = range(first, min(first + BATCH, entries))
            columns = [[f"images/{n:08d}.jpg" for n in numbers]]
            columns += [[[f"picture {n}"] for n in numbers]]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
            stream.write_batch(pa.record_batch(arrays, schema))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (folder / "dataset_info.json").write_text("{}")
    return {"root": str(folder)}


# What makes a corpus in each form, and the source that opens it.
MADE = {
    "list": (made_up_list, "pair_list"),
    "tar shards": (made_up_shards, "webdataset"),
    "saved dataset": (made_up_dataset, "hugging_face"),
}


def opened(name: str, options: dict, count: int) -> list[float]:
    """What ``OPEN`` prints of a corpus, in a process of its own: the number of entries, wall and
    CPU seconds to open it, MiB of own and of mapped memory, and CPU seconds to look up an entry.
    """
    result = subprocess.run(
        [sys.executable, "-c", OPEN, json.dumps([name, options, count])],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


def report_opening(folder: pathlib.Path, entries: int) -> None:
    """Prints a table of made-up corpora."""
    head = "corpus | source | entries | made, on the processor | index on disk | opened in"
    print(f"| {head} | of that on the processor | own memory | mapped memory | one random entry |")
    print("| --- | --- " + "| ---: " * 8 + "|")
    for form, (make, name) in MADE.items():
        where = folder / form.replace(" ", "_")
        of_one = make(where.with_name(f"one_{where.name}"), 1)
        *_, own_of_one, mapped_of_one, _ = opened(name, of_one, 1)
        begun = time.process_time()
        options = make(where, entries)
        took = time.process_time() - begun
        size = sum(path.stat().st_size for path in where.glob("*.arrow"))
        count, seconds, processor, own, mapped, each = opened(name, options, LOOKED_UP)
        print(
            f"| {form} | `{name}` | {int(count):,} | {took:.0f} s | {size / 1e6:.0f} MB "
            f"| {seconds:.2f} s | {processor:.2f} s | {own - own_of_one:.0f} MB "
            f"| {mapped - mapped_of_one:.0f} MB | {1e3 * each:.2f} ms |",
            flush=True,
        )
        shutil.rmtree(where)


def shape_of(frames: int) -> BatchShape:
    sizes = {"samples": 0, "sample_rate": 16_000, "captions": 1, "phrases": 1, "tokens": 0}
    return BatchShape(frames=frames, height=SIZE, width=SIZE, **sizes)


def picture(seed: int) -> bytes:
    """A JPEG of 341 x 256 with texture."""
    noise = np.random.default_rng(seed).integers(0, 256, (32, 43, 3), np.uint8)
    Image.fromarray(noise).resize((341, 256)).save(out := io.BytesIO(), "JPEG", quality=90)
    return out.getvalue()


def reading(folder: pathlib.Path, clips: int) -> dict:
    """Sources of the same clips, each with what decodes one of its clips alone, by number."""
    pictures = [picture(seed) for seed in range(clips)]
    names = [f"{number:05d}" for number in range(clips)]
    pairs = list(zip(names, pictures, strict=True))
    members = {}
    for name, data in pairs:
        members |= {f"{name}.jpg": data, f"{name}.txt": f"picture {name}", f"{name}.json": {"a": 1}}
    pairs_fixture.write_shard(folder / "0.tar", members)
    (folder / "images").mkdir()
    for name, data in pairs:
        (folder / "images" / f"{name}.jpg").write_bytes(data)
    listed = [{"path": f"images/{name}.jpg", "caption": name} for name in names]
    pairs_fixture.write_list(folder / "pairs.csv", listed)
    inside = [{"path": data, "caption": name} for name, data in pairs]
    pairs_fixture.write_list(folder / "pairs.parquet", inside)
    saved = [{"image": {"bytes": data, "path": None}, "caption": name} for name, data in pairs]
    pairs_fixture.write_saved(folder / "saved", saved, {}, batch=100)
    all_of = {"validation": 0.0}
    sources = {
        "pictures in tar shards": webdataset.Source(root=str(folder / "0.tar"), **all_of),
        "pictures in a list": pair_list.Source(root=str(folder / "pairs.csv"), **all_of),
        "pictures in Parquet": pair_list.Source(root=str(folder / "pairs.parquet"), **all_of),
        "pictures in a saved dataset": hugging_face.Source(root=str(folder / "saved")),
    }
    found = {}
    for name, source in sources.items():
        data = [bytes(source[index].video) for index in range(len(source))]
        found[name] = (source, 1, functools.partial(_decode, data))
    video = folder / "video.mp4"
    write_video(video, 256, 454, 12)
    shard = {f"{number}.mp4": video.read_bytes() for number in range(8)}
    pairs_fixture.write_shard(folder / "videos.tar", shard)
    source = webdataset.Source(root=str(folder / "videos.tar"), seconds=3.2, **all_of)
    start = (12 - 3.2) / 2
    moments = [start + (i + 0.5) * 3.2 / 32 for i in range(32)]
    found["videos in tar shards"] = (source, 32, lambda _: plain(video, moments, SIZE))
    return found


def _decode(data: list[bytes], index: int) -> None:
    decode.read_image(data[index], SIZE, SIZE)


def report_reading(folder: pathlib.Path, clips: int, rounds: int) -> None:
    """Prints clips a second of sources against decoding alone."""
    print("\n| clips | frames | from the source, clips/s | decoded alone, clips/s | ratio |")
    print("| --- " + "| ---: " * 4 + "|")
    for name, (source, frames, alone) in reading(folder, clips).items():
        assembler = pipeline.Assembler(source, shape_of(frames), None, "function_words")
        rates = collections.defaultdict(list)
        for _ in range(rounds):
            order = random.Random(0).sample(range(len(source)), len(source))
            seconds = [0.0, 0.0]
            for first in range(0, len(order), BATCH_SIZE):
                drawn = order[first : first + BATCH_SIZE]
                seconds[0] += processor_seconds(assembler.batch, [*map(pipeline.Draw, drawn)])
                seconds[1] += sum(processor_seconds(alone, index) for index in drawn)
            for kind, total in zip(("source", "alone"), seconds, strict=True):
                rates[kind].append(len(order) / total)
        ratio = [a / b for a, b in zip(rates["source"], rates["alone"], strict=True)]
        print(
            f"| {name} | {frames} | {spread(rates['source'], '.0f')} "
            f"| {spread(rates['alone'], '.0f')} | {statistics.median(ratio):.0%} |",
            flush=True,
        )


def main(argv) -> None:
    del argv
    with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        report_opening(pathlib.Path(folder), _ENTRIES.value)
        if _CLIPS.value:
            (pathlib.Path(folder) / "read").mkdir()
            report_reading(pathlib.Path(folder) / "read", _CLIPS.value, _ROUNDS.value)


if __name__ == "__main__":
    command_line.run(main)
