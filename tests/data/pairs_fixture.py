"""Small corpora of pairs, made from nothing: tar shards, lists and folders of Arrow files."""

import csv
import functools
import io
import json
import pathlib
import tarfile
import tempfile
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from tests.data.corpora_fixture import one_video
from tests.data.video_fixture import sung, write_video


def picture(colour: str = "red", form: str = "JPEG") -> bytes:
    """An encoded picture of one colour, 32 x 24."""
    Image.new("RGB", (32, 24), colour).save(out := io.BytesIO(), form)
    return out.getvalue()


@functools.cache
def video(seconds: float = 1.0) -> bytes:
    """A video whose pictures tell their number, with sound."""
    with tempfile.TemporaryDirectory() as folder:
        return one_video(pathlib.Path(folder, "video.mp4"), seconds).read_bytes()


@functools.cache
def sound(seconds: float = 1.0) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "sound.wav")
        return write_video(path, sound=sung(seconds), sound_codec="pcm_s16le").read_bytes()


Members = Mapping[str, bytes | str | dict]


def write_shard(path: pathlib.Path, members: Members) -> pathlib.Path:
    """A tar shard of members by name; those that are no bytes or text are written as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            text = content if isinstance(content, bytes | str) else json.dumps(content, indent=4)
            data = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name.partition("?")[0])  # what follows tells equal names apart
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def video2dataset(clips: int = 2) -> dict[str, bytes | str | dict]:
    """A shard as video2dataset writes it: clips that were cut out of one video with subtitles, a
    whole video with subtitles, one with a caption, and one that could not be downloaded.
    """
    lines = [
        ("00:00:01.000", "00:00:01.750", "an onion"),
        ("00:00:02.500", "00:00:03.000", "fry it"),
    ]
    members: dict[str, bytes | str | dict] = {}
    for clip in range(clips):
        key, begin = f"00000_{clip:05d}", float(clip + 1)
        near = [line for line in lines if _within(line, begin)]
        members[f"{key}.mp4"] = video()
        members[f"{key}.txt"] = str({"en": [text for *_, text in near]})
        members[f"{key}.json"] = {
            "url": "https://example.org/0",
            "key": key,
            "status": "success",
            "clips": [[begin, begin + 1]],
            "clip_subtitles": [
                {
                    "start": start,
                    "end": end,
                    "lines": {"en": [text], "de": [f"({text})", "Zwiebel"]},
                }
                for start, end, text in near
            ],
        }
    subtitles = {
        "en": [{"start": start, "end": end, "lines": [text]} for start, end, text in lines]
    }
    whole = {"key": "00001", "yt_meta_dict": {"info": None, "subtitles": subtitles}}
    members |= {"00001.mp4": video(4.0), "00001.json": whole}
    members |= {"00002.mp4": video(), "00002.txt": "a <b>pan</b>", "00002.json": {"key": "00002"}}
    failed = {"key": "00003", "status": "failed_to_download"}
    return members | {"00003.txt": "never seen", "00003.json": failed}


def clips_of_tars(videos: int) -> list[Members]:
    """Two shards of video2dataset, each with half of the videos, all of them with a caption."""
    shards: list[dict[str, bytes | str | dict]] = [{}, {}]
    for number in range(videos):
        key = f"{number:05d}"
        shards[number % 2] |= {f"{key}.mp4": video(), f"{key}.txt": f"squares of number {number}"}
        shards[number % 2][f"{key}.json"] = {"key": key, "status": "success"}
    return list(shards)


def _within(line: tuple[str, str, str], begin: float) -> bool:
    start, end = (float(time[-6:]) for time in line[:2])
    return max(start, begin) < min(end, begin + 1)


def img2dataset(pictures: int = 4) -> dict[str, bytes | str | dict]:
    """A shard as img2dataset writes it."""
    members: dict[str, bytes | str | dict] = {}
    for number in range(pictures):
        key, caption = f"{number:09d}", f"a {'red' if number % 2 else 'blue'} field {number}"
        members[f"{key}.jpg"] = picture("red" if number % 2 else "blue")
        members[f"{key}.txt"] = caption
        members[f"{key}.json"] = {"caption": caption, "key": key, "status": "success", "width": 32}
    return members


def write_list(path: pathlib.Path, rows: Sequence[Mapping[str, object]]) -> pathlib.Path:
    """A list whose format its ending says; fields are quoted where that is needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with open(path, "w", newline="") as file:
            dialect = "excel" if path.suffix == ".csv" else "excel-tab"
            writer = csv.DictWriter(file, list(rows[0]), dialect=dialect)
            writer.writeheader()
            writer.writerows(rows)
    return path


def write_pictures(folder: pathlib.Path, count: int) -> list[dict[str, str]]:
    """Pictures in a folder ``images``; a row of a list for each."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        colour = "red" if number % 2 else "blue"
        (folder / "images" / f"{number}.jpg").write_bytes(picture(colour))
        rows.append({"path": f"images/{number}.jpg", "caption": f"a {colour} field {number}"})
    return rows


def write_saved(
    folder: pathlib.Path,
    rows: Sequence[Mapping[str, object]],
    features: Mapping[str, object],
    *,
    files: int = 1,
    batch: int = 2,
    schema: pa.Schema | None = None,
) -> pathlib.Path:
    """A folder as ``save_to_disk`` of the package datasets writes it, for one split."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    each = -(-len(rows) // files)
    for number, name in enumerate(names):
        out = pa.OSFile(str(folder / name), "wb")
        with out, pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table.slice(number * each, each), batch)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0"}
    (folder / "state.json").write_text(json.dumps(state | {"_split": None}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder
