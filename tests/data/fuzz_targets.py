"""Small corpora of each format with one file to be damaged, read as training and preparing do."""

import io
import json
import pathlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from fgmm.data.corpora import files
from fgmm.data.preparation import shards
from fgmm.data.preparation.disk import sole_writer
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.plan import settle
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.preparation.records import RecordMaker
from fgmm.data.preparation.task import open_task
from fgmm.data.sources import (
    esc50,
    howto100m,
    image_captions,
    kinetics,
    msr_vtt,
    prepared,
    video_folder,
    youcook2,
)
from tests.data import corpora_fixture, fuzz_pairs
from tests.data.fuzz import Target
from tests.data.fuzz_reading import (
    PICTURES,
    SHAPE,
    SOUND,
    assembled,
    opened_and_assembled,
    prepared_alone,
)
from tests.data.video_fixture import numbered, sung, write_howto100m, write_video

_WINDOWS = {"seconds": 0.1}
_NARRATED = {**_WINDOWS, "minimum": 0.1}
# Reasons that say that something was never there, sound among it, which is no damage.
_LACKS = {"no_video", "no_audio", "silent_audio", "no_captions", "missing_captions"}
# Seconds of a recording, and lines of a list, of what is made here.
_SECONDS, _LISTED = 0.5, 4


def _video(folder: pathlib.Path, form: str, real: Iterable[bytes]) -> Target:
    """A video of a folder in HowTo100M's layout; every reading has it prepared as well."""
    corpus = write_howto100m(folder / "howto100m", 1)
    pictures = [numbered(i, 24, 32) for i in range(round(_SECONDS * 20))]
    codecs = {
        "mp4": [("mpeg4", "aac", {}), ("libx264", "aac", {"movflags": "frag_keyframe"})],
        "webm": [("libvpx", "libopus", {}), ("libvpx", "libopus", {"live": "1"})],
    }[form]
    originals = []
    for number, (codec, heard, options) in enumerate(codecs):
        path = folder / f"original{number}.{form}"
        write_video(
            path,
            pictures,
            sound=sung(_SECONDS),
            codec=codec,
            sound_codec=heard,
            options=options,
        )
        originals.append(path.read_bytes())
    file = corpus / "videos" / "0.mp4"
    source = howto100m.Source(root=str(corpus), **_NARRATED, validation=0.0)
    encodings = [Encoding(), Encoding(16, 5.0, audio_rate=16_000, piece_seconds=0.2)]
    turn = [0]

    def read():
        turn[0] += 1
        usable, reasons = assembled(source, SHAPE)
        left_out = prepared_alone(file, "video", encodings[turn[0] % 4 == 0])
        return usable["video"], (reasons | left_out) - _LACKS | left_out

    return Target(file, tuple(originals), read, tuple(real))


def _sound(folder: pathlib.Path, form: str, real: Iterable[bytes]) -> Target:
    """A sound of a folder in ESC-50's layout, beside one that stays."""
    corpus = folder / "esc50"
    (corpus / "audio").mkdir(parents=True)
    (corpus / "meta").mkdir()
    rows = "filename,fold,category,esc10\nwhole.wav,1,dog,True\ndamaged.ogg,2,rain,True\n"
    (corpus / "meta" / "esc50.csv").write_text(rows)
    write_video(corpus / "audio/whole.wav", sound=sung(_SECONDS), sound_codec="pcm_s16le")
    codecs = {"ogg": ["libopus", "flac"], "wav": ["pcm_s16le", "pcm_f32le"]}[form]
    originals = []
    for codec in codecs:
        path = write_video(folder / f"{codec}.{form}", sound=sung(_SECONDS), sound_codec=codec)
        originals.append(path.read_bytes())
    file = corpus / "audio" / "damaged.ogg"

    def read():
        source = esc50.Source(root=str(corpus), seconds=0.1)
        assert source.report or len(source) == 2
        usable, reasons = assembled(source, SOUND)
        left_out = prepared_alone(file, "audio", Encoding(audio_rate=8000, piece_seconds=0.2))
        decoded = len(source) == 2 and usable["audio"]
        return decoded, (reasons | left_out) - _LACKS | left_out

    return Target(file, tuple(originals), read, tuple(real))


def _picture(folder: pathlib.Path, real: Iterable[bytes]) -> Target:
    corpus = folder / "images"
    corpus.mkdir()
    entry = {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "a red circle"}]}
    (corpus / "dataset.json").write_text(json.dumps({"images": [entry]}))
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    picture = Image.fromarray(noise).resize((96, 72))
    originals = []
    for form, options in [("JPEG", {"exif": Image.Exif()}), ("JPEG", {"progressive": True})]:
        if "exif" in options:
            options["exif"][0x0112] = 6
        picture.save(out := io.BytesIO(), form, **options)
        originals.append(out.getvalue())
    for form in ("PNG", "WEBP"):
        picture.save(out := io.BytesIO(), form)
        originals.append(out.getvalue())
    file = corpus / "a.jpg"
    file.write_bytes(originals[0])
    source = image_captions.Source(root=str(corpus))
    turn = [0]

    def read():
        turn[0] += 1
        usable, reasons = assembled(source, PICTURES)
        left_out = prepared_alone(file, "image", Encoding(short_side=16 * (turn[0] % 2)))
        assert bool(left_out) == (not usable["video"]), (left_out, usable)
        return usable["video"], reasons | left_out

    return Target(file, tuple(originals), read, tuple(real))


_TIMES = [(i * 0.125, i * 0.125 + 0.2) for i in range(6)]
_SAID = ("cut the onion", "then <i>fry</i> it [Music]", "größer 大きい", "- yes\n- no", "&amp; so")


def _captions(folder: pathlib.Path, form: str) -> Target:
    """A caption file beside a video."""
    corpus = folder / "videos"
    corpora_fixture.one_video(corpus / "a.mp4")
    mark = {"vtt": ".", "srt": ","}
    cues = [
        f"00:00:{start:06.3f} --> 00:00:{end:06.3f}\n{_SAID[i % len(_SAID)]}\n"
        for i, (start, end) in enumerate(_TIMES)
    ]
    match form:
        case "vtt":
            style = "STYLE\n::cue { color: red }\n\nNOTE a note\n"
            text = "\n".join(["WEBVTT - a title\n", style, *cues])
        case "srt":
            text = "\n".join(f"{i + 1}\n{cue}" for i, cue in enumerate(cues)).replace(
                ".", mark[form]
            )
        case _:
            lines = [
                {"text": _SAID[i % 5], "start": a, "end": b} for i, (a, b) in enumerate(_TIMES)
            ]
            text = "\n".join(map(json.dumps, lines))
    file = corpus / f"a.{form}"
    # Which files hold captions is found out when a corpus is opened.
    file.write_text(text)
    raw = video_folder.Source(root=str(corpus), validation=0.0, opened=False).raw()

    def read():
        source = video_folder.Source(root=str(corpus), validation=0.0, **_WINDOWS)
        usable, reasons = assembled(source, SHAPE)
        record = raw[0]
        assert set(record.problems) >= (reasons & {"unreadable_captions", "malformed_line"})
        return usable["text"], (reasons | set(record.problems)) - {
            "no_captions",
            "missing_captions",
        }

    return Target(file, (text.encode(), text.encode("utf-16")), read)


def _howto100m_captions(folder: pathlib.Path, form: str) -> Target:
    """The narration of a video, as a CSV file of its own or in the one JSON file."""
    corpus = write_howto100m(folder / "howto100m", 1)
    rows = [(start, end, _SAID[i % 5]) for i, (start, end) in enumerate(_TIMES)]
    if form == "json":
        columns = {key: [row[i] for row in rows] for i, key in enumerate(("start", "end", "text"))}
        original = json.dumps({"0": columns, "1": columns, "": {}}).encode()
        file = corpus / "raw_caption.json"
    else:
        lines = [f'{start},{end},"{text}"' for start, end, text in rows]
        original = "\n".join(["start,end,text", *lines, ""]).encode()
        file = corpus / "captions" / "0.csv"
    turn = [0]

    def read():
        turn[0] += 1
        options = {"captions": file.name if form == "json" else "captions", "validation": 0.0}
        opened = lambda: howto100m.Source(root=str(corpus), **options, **_NARRATED)  # noqa: E731
        usable, reasons = opened_and_assembled(opened, SHAPE, file.name)
        return usable["text"], reasons - {"no_captions"}

    return Target(file, (original,), read)


def _list(folder: pathlib.Path, form: str) -> Target:
    """The file that lists a corpus."""
    shapes = {"video": PICTURES, "audio": SOUND}
    made, file, open_source, kind = {
        "csv_howto100m": (
            lambda path: write_howto100m(path, 2),
            "HowTo100M_v1.csv",
            lambda root: howto100m.Source(root=root, validation=0.0, **_NARRATED),
            "video",
        ),
        "csv_kinetics": (
            lambda path: corpora_fixture.write_kinetics(path, 1),
            "train.csv",
            lambda root: kinetics.Source(root=root, **_WINDOWS),
            "video",
        ),
        "csv_esc50": (
            corpora_fixture.write_esc50,
            "meta/esc50.csv",
            lambda root: esc50.Source(root=root, seconds=0.1),
            "audio",
        ),
        "json_youcook2": (
            corpora_fixture.write_youcook2,
            "youcookii_annotations_trainval.json",
            lambda root: youcook2.Source(root=root, seconds=0.0),
            "video",
        ),
        "json_msr_vtt": (
            lambda path: corpora_fixture.write_msr_vtt(path, 2),
            "train_val_videodatainfo.json",
            lambda root: msr_vtt.Source(root=root, split="train", seconds=0.0),
            "video",
        ),
    }[form]
    corpus = folder / "corpus"
    corpus.mkdir()
    made(corpus)
    path = corpus / file

    def read():
        usable, reasons = opened_and_assembled(
            lambda: open_source(str(corpus)), shapes[kind], path.name, str(corpus)
        )
        return usable[kind], reasons - {"no_captions"}

    original = b"\n".join(path.read_bytes().split(b"\n")[:_LISTED])
    # The fixtures list files that are not there, as the real corpora do.
    return Target(path, (original,), read, usual=frozenset({"missing_file"}))


def _karpathy(folder: pathlib.Path) -> Target:
    corpus = folder / "images"
    corpus.mkdir()
    Image.new("RGB", (32, 24), "red").save(corpus / "a.jpg")
    entry = {
        "filename": "a.jpg",
        "filepath": "",
        "split": "train",
        "sentences": [{"raw": text} for text in _SAID],
    }
    whole = {"images": [entry, {**entry, "filename": "b.jpg"}, {**entry, "split": "val"}]}
    file = corpus / "dataset.json"

    def read():
        usable, reasons = opened_and_assembled(
            lambda: image_captions.Source(root=str(corpus)), PICTURES, "dataset.json", "split="
        )
        return usable["video"], reasons

    original = json.dumps(whole).encode()
    return Target(file, (original,), read, usual=frozenset({"missing_file"}))


def _prepare(folder: pathlib.Path, megabytes: float = 0.001) -> pathlib.Path:
    """A prepared corpus of four videos; by default in four shards."""
    corpus = write_howto100m(folder / "howto100m", 4)
    task = open_task(
        "howto100m:validation=0.0",
        str(corpus),
        folder / "prepared",
        encoding=Encoding(),
        shard_megabytes=megabytes,
    )
    with sole_writer(task.output):
        settle(task.output, task.plan)
        for split, shard in task.remaining():
            task.write(split, shard)
        shards.complete(task.output, task.plan, {"train": {}})
    return task.output


def _array_record(folder: pathlib.Path) -> Target:
    """A shard of four records, damaged before it is opened, and behind the back of its readers."""
    root = _prepare(folder, megabytes=100.0)
    (file,) = root.glob("*.array_record-*")
    original = file.read_bytes()
    # Of a small shard most is padding.
    used = np.flatnonzero(np.frombuffer(original, np.uint8))
    gaps = np.flatnonzero(np.diff(used) > 4096)
    parts = [slice(int(part[0]), int(part[-1]) + 1) for part in np.split(used, gaps + 1)]
    packed = b"".join(original[part] for part in parts)
    whole = [_plain(clip) for clip in prepared.Source(root=str(root), **_NARRATED)]

    def read():
        damaged = file.read_bytes()
        if len(damaged) == len(packed):
            spread, place = bytearray(original), 0
            for part in parts:
                spread[part] = damaged[place : place + part.stop - part.start]
                place += part.stop - part.start
            damaged = bytes(spread)
        file.write_bytes(original)
        before = prepared.Source(root=str(root), **_NARRATED)
        shutil.copy(file, file.with_suffix(".new"))
        file.with_suffix(".new").write_bytes(damaged)
        file.with_suffix(".new").replace(file)
        usable, reasons = assembled(before, SHAPE)
        for clip, as_written in zip(before, whole, strict=True):
            assert clip.problems or _plain(clip) == as_written, "changed without a reason"
        _, again = opened_and_assembled(
            lambda: prepared.Source(root=str(root), **_NARRATED), SHAPE, file.name
        )
        assert (len(damaged) != len(original)) == (again == {"refused"})
        return usable["video"], reasons | again

    return Target(file, (packed,), read)


def _plain(clip) -> tuple:
    """What a clip of a prepared corpus holds, to be compared."""
    read = None if clip.problems else clip.video
    return clip.clip_id, clip.captions, clip.group, read


def _record(folder: pathlib.Path) -> Target:
    """A record whose damage its shard does not know of, as a program at fault may write it."""
    root = _prepare(folder)
    shard = sorted(root.glob("*.array_record-*"))[0]
    manifest = root / shards.MANIFEST
    raw = howto100m.Source(root=str(folder / "howto100m"), validation=0.0, opened=False).raw()
    picture = RawRecord("picture", _jpeg(), "image", labels={"class": 3}, problems={"no_audio": 1})
    originals = tuple(RecordMaker(Encoding(), 0.0)(r)[0].serialized for r in (raw[0], picture))
    file = folder / "record"

    def read():
        writer = ArrayRecordWriter(str(shard), "group_size:1,uncompressed")
        writer.write(file.read_bytes())
        writer.close()
        content = json.loads(manifest.read_text())
        content["shards"][0]["bytes"] = shard.stat().st_size
        manifest.write_text(json.dumps(content))
        source = prepared.Source(root=str(root), **_NARRATED)
        source = _First(source, len(source) // 4)
        usable, reasons = assembled(source, SHAPE)
        return usable["video"], reasons - _LACKS

    return Target(file, originals, read)


class _First:
    """The first clips of a source."""

    def __init__(self, source, count: int):
        self._source, self._count, self.report = source, count, source.report
        self.draw = source.draw

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int):
        return self._source[index]


def _jpeg() -> bytes:
    Image.new("RGB", (32, 24), "red").save(out := io.BytesIO(), "JPEG")
    return out.getvalue()


def _manifest(folder: pathlib.Path, name: str) -> Target:
    """One of the files that make shards a dataset."""
    root = _prepare(folder)
    file = root / name

    def read():
        usable, reasons = opened_and_assembled(
            lambda: prepared.Source(root=str(root), **_NARRATED), SHAPE, str(root)
        )
        return usable["video"], reasons

    return Target(file, (file.read_bytes(),), read)


def _archive(folder: pathlib.Path, form: str) -> Target:
    """An archive of pictures with their captions."""
    entry = {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "a red circle"}]}
    content = {
        "dataset.json": json.dumps({"images": [entry, {**entry, "filename": "b.jpg"}]}).encode(),
        "images/a.jpg": _jpeg(),
        "images/b.jpg": _jpeg(),
    }
    file = folder / f"corpus.{form}"
    if form == "tar":
        with tarfile.open(file, "w") as archive:
            for name, data in content.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)

    def read():
        usable, reasons = opened_and_assembled(
            lambda: image_captions.Source(root=str(file)), PICTURES, file.name, "dataset.json"
        )
        return usable["video"], reasons

    return Target(file, (file.read_bytes(),), read)


def _real(shared: pathlib.Path | None, archive: str, *names: str) -> list[bytes]:
    if shared is None or not (shared / archive).exists():
        return []
    corpus = files.open_files(shared / archive)
    return [corpus.read(name) for name in names]


FORMATS: dict[str, Callable[[pathlib.Path, pathlib.Path | None], Target]] = {
    "mp4": lambda folder, shared: _video(
        folder,
        "mp4",
        [
            *_real(shared, "fight_clips.tar", "noFight/nofi090.mp4"),
            *_real(shared, "video_edge_cases", "tiny_16x16.mp4", "fragmented.mp4", "hevc.mp4"),
        ],
    ),
    "webm": lambda folder, shared: _video(
        folder, "webm", _real(shared, "video_edge_cases", "webm_named_mp4.mp4")
    ),
    "ogg": lambda folder, shared: _sound(
        folder,
        "ogg",
        _real(shared, "esc10.tar", "audio/1-100032-A-0.ogg", "audio/4-182395-A-0.ogg"),
    ),
    "wav": lambda folder, shared: _sound(folder, "wav", ()),
    "jpg": lambda folder, shared: _picture(folder, _photographs(shared)),
    "vtt": lambda folder, _: _captions(folder, "vtt"),
    "srt": lambda folder, _: _captions(folder, "srt"),
    "jsonl": lambda folder, _: _captions(folder, "jsonl"),
    "csv": lambda folder, _: _howto100m_captions(folder, "csv"),
    "csv_howto100m": lambda folder, _: _list(folder, "csv_howto100m"),
    "csv_kinetics": lambda folder, _: _list(folder, "csv_kinetics"),
    "csv_esc50": lambda folder, _: _list(folder, "csv_esc50"),
    "json": lambda folder, _: _howto100m_captions(folder, "json"),
    "json_karpathy": lambda folder, _: _karpathy(folder),
    "json_youcook2": lambda folder, _: _list(folder, "json_youcook2"),
    "json_msr_vtt": lambda folder, _: _list(folder, "json_msr_vtt"),
    "array_record": lambda folder, _: _array_record(folder),
    "record": lambda folder, _: _record(folder),
    "manifest": lambda folder, _: _manifest(folder, "manifest.json"),
    "dataset_info": lambda folder, _: _manifest(folder, "dataset_info.json"),
    "features": lambda folder, _: _manifest(folder, "features.json"),
    "tar": lambda folder, _: _archive(folder, "tar"),
    "zip": lambda folder, _: _archive(folder, "zip"),
    **fuzz_pairs.FORMATS,
}


def _photographs(shared: pathlib.Path | None) -> list[bytes]:
    if shared is None or not (shared / "flickr8k.tar").exists():
        return []
    corpus = files.open_files(shared / "flickr8k.tar")
    names = [name for name in corpus.names() if name.endswith(".jpg")]
    return [corpus.read(name) for name in names[:: len(names) // 3]]


def targets(
    folder: pathlib.Path, shared: pathlib.Path | None, formats: Iterable[str]
) -> dict[str, Target]:
    """The targets of formats, each below its own folder."""
    made = {}
    for form in formats:
        (folder / form).mkdir()
        made[form] = FORMATS[form](folder / form, shared)
    return made
