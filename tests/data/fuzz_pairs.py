"""Tar shards, lists and saved datasets to be damaged, read as ``fuzz_targets`` reads others."""

import pathlib
from collections.abc import Callable

from fgmm.data.schema import BatchShape
from fgmm.data.sources import hugging_face, pair_list, webdataset
from tests.data import pairs_fixture
from tests.data.fuzz import Target
from tests.data.fuzz_reading import PICTURES, SHAPE, opened_and_assembled

_OPTIONS = {"seconds": 0.1, "minimum": 0.1}
_LACKS = {"no_video", "no_audio", "silent_audio", "no_captions", "missing_captions"}


def _target(
    file: pathlib.Path, shape: BatchShape, open_source: Callable, *names: str, usual=()
) -> Target:
    """What reads the pictures of a corpus of which one file is damaged."""

    def read():
        usable, reasons = opened_and_assembled(open_source, shape, file.name, *names)
        return usable["video"], reasons - _LACKS

    return Target(file, (file.read_bytes(),), read, usual=frozenset(usual))


def _webdataset(folder: pathlib.Path) -> Target:
    members = pairs_fixture.img2dataset(2)
    members["cut_00001.mp4"] = pairs_fixture.video()
    said = [{"start": "00:00:01.000", "end": "00:00:01.500", "lines": {"en": ["a square"]}}]
    members["cut_00001.json"] = {"clips": [[1.0, 2.0]], "clip_subtitles": said}
    file = pairs_fixture.write_shard(folder / "00000.tar", members)
    options = {"root": str(file), "validation": 0.0, **_OPTIONS}
    return _target(file, SHAPE, lambda: webdataset.Source(**options))


def _pairs(folder: pathlib.Path, ending: str) -> Target:
    rows = [
        {**row, "caption": f'a "{row["caption"]}",\nindeed'}
        for row in pairs_fixture.write_pictures(folder, 4)
    ]
    if ending == "parquet":
        rows = [{**row, "path": pairs_fixture.picture()} for row in rows]
    file = pairs_fixture.write_list(folder / f"pairs.{ending}", rows)
    options = {"root": str(file), "validation": 0.0}
    return _target(file, PICTURES, lambda: pair_list.Source(**options))


def _saved(folder: pathlib.Path) -> Target:
    image = {"bytes": pairs_fixture.picture(), "path": None}
    rows = [{"image": image, "caption": [f"a field {i}", "again"]} for i in range(4)]
    root = pairs_fixture.write_saved(folder / "saved", rows, {})
    (file,) = root.glob("*.arrow")
    return _target(file, PICTURES, lambda: hugging_face.Source(root=str(root)), str(root))


FORMATS = {
    "webdataset": lambda folder, _: _webdataset(folder),
    "pairs_csv": lambda folder, _: _pairs(folder, "csv"),
    "pairs_parquet": lambda folder, _: _pairs(folder, "parquet"),
    "saved_arrow": lambda folder, _: _saved(folder),
}
