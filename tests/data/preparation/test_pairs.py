"""Pairs of any source become records, and are read back."""

import collections

import numpy as np
import pytest

from fgmm.data.media.decode import read_image
from fgmm.data.preparation import shards
from fgmm.data.preparation.disk import sole_writer
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.plan import settle
from fgmm.data.preparation.task import open_task
from fgmm.data.schema import Caption
from fgmm.data.sources import prepared
from tests.data import pairs_fixture
from tests.data.video_fixture import number_of

OPTIONS = {"seconds": 0.5, "minimum": 0.0}


def written(source, root, output):
    """Writes all shards in this process; returns the reports, and clips of all splits by id."""
    task = open_task(source, str(root), output, encoding=Encoding())
    with sole_writer(task.output):
        settle(task.output, task.plan)
        for split, shard in task.remaining():
            task.write(split, shard)
        left_out = {split: dict(raw.report) for split, raw in task.raw.items()}
        reports = shards.complete(task.output, task.plan, left_out)
    sources = [prepared.Source(root=str(output), split=split, **OPTIONS) for split in task.raw]
    return reports, {clip.clip_id: clip for source in sources for clip in source}, sources[0]


def test_tar_shards(tmp_path):
    pairs_fixture.write_shard(tmp_path / "in" / "00000.tar", pairs_fixture.video2dataset())
    members = {**pairs_fixture.img2dataset(2), "sung.wav": pairs_fixture.sound(), "sung.cls": "1"}
    members["broken.jpg"] = b"\xff\xd8\xff broken"
    pairs_fixture.write_shard(tmp_path / "in" / "00001.tar", members)
    root = tmp_path / "in" / "{00000..00001}.tar"
    reports, clips, source = written("webdataset", root, tmp_path / "out")
    assert sum(report.kept for report in reports.values()) == 7
    skipped = sum((report.skipped for report in reports.values()), collections.Counter())
    assert skipped == {"unreadable_video": 1}
    assert clips["00000/00000_00001"].captions == (Caption("fry it", 0.0, 0.5),)
    assert [number_of(p) for p in clips["00000/00000_00001"].video.frames(1, 24)] == [15]
    assert clips["00001/000000001"].video == pairs_fixture.picture("red")
    assert clips["00001/sung"].labels == {"label": 1}
    assert source.classes == {"label": ("0", "1")}
    assert clips["00001/sung"].video is None


@pytest.mark.parametrize("source", ["pair_list:validation=0.0", "hugging_face:media=path"])
def test_rows(tmp_path, source):
    rows = pairs_fixture.write_pictures(tmp_path, 3)
    if source.startswith("pair_list"):
        root = pairs_fixture.write_list(tmp_path / "pairs.csv", rows)
    else:
        root = pairs_fixture.write_saved(tmp_path / "saved", rows, {})
        (tmp_path / "images").rename(root / "images")
    _, clips, _ = written(source, root, tmp_path / "out")
    assert len(clips) == 3
    shown = {
        clip.captions[0].text: np.asarray(read_image(clip.video, 8, 8)).mean((0, 1, 2)).argmax()
        for clip in clips.values()
    }
    assert shown == {"a blue field 0": 2, "a red field 1": 0, "a blue field 2": 2}
