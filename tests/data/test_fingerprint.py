import json
import os
import shutil
import tarfile

import pytest

from fgmm import components
from fgmm.data import fingerprint
from fgmm.data.sources import flickr8k, narrated_shapes, video_folder
from tests.data.flickr8k_fixture import write_flickr8k
from tests.data.numbered_source import Source as Numbered
from tests.data.video_fixture import numbered, write_video


@pytest.fixture
def videos(tmp_path):
    """Two videos, one with a caption."""
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / f"{name}.mp4", [numbered(i) for i in range(20)])
    caption = {"text": "a dog runs", "start": 0.0, "end": 1.0}
    (tmp_path / "videos" / "a.jsonl").write_text(json.dumps(caption) + "\n")
    return tmp_path / "videos"


def of_videos(root):
    return video_folder.Source(root=str(root), validation=0.0, seconds=1.0).fingerprint()


def test_a_copy_has_the_same_but_for_times(videos, tmp_path):
    before = of_videos(videos)
    copy = shutil.copytree(videos, tmp_path / "copy")
    os.utime(copy / "b.mp4", (1, 1))
    now = of_videos(copy)
    assert json.loads(json.dumps(before)) == before
    assert before["clips"] == 2
    assert before["times"] != now["times"]
    assert fingerprint.without_times(before) == fingerprint.without_times(now)
    assert fingerprint.difference(before, now) == ""


def test_what_has_changed_is_said(videos):
    before = of_videos(videos)
    (videos / "a.jsonl").write_text((videos / "a.jsonl").read_text().replace("dog", "cat"))
    said = of_videos(videos)
    assert fingerprint.difference(before, said) == "2 clips then and now, but captions have changed"
    with open(videos / "b.mp4", "ab") as file:
        file.write(b"\0" * 100)
    longer = of_videos(videos)
    assert (
        fingerprint.difference(said, longer) == "2 clips then and now, but files have other sizes"
    )
    (videos / "b.mp4").rename(videos / "c.mp4")
    renamed = of_videos(videos)
    assert (
        fingerprint.difference(longer, renamed)
        == "2 clips then and now, but others, or in another order"
    )
    shutil.copy(videos / "a.mp4", videos / "d.mp4")
    assert fingerprint.difference(renamed, of_videos(videos)) == "2 clips then, 3 now"


def test_an_archive_is_as_its_folder(tmp_path):
    root = write_flickr8k(tmp_path / "corpus", 8, 0)
    with tarfile.open(tmp_path / "corpus.tar", "w") as archive:
        archive.add(root, ".")
    folder = flickr8k.Source(root=str(root)).fingerprint()
    packed = flickr8k.Source(root=str(tmp_path / "corpus.tar")).fingerprint()
    assert folder["clips"] == 8
    assert fingerprint.difference(folder, packed) == ""
    (root / "Flicker8k_Dataset" / next(iter(flickr8k.Source(root=str(root))._names))).unlink()
    missing = flickr8k.Source(root=str(root)).fingerprint()
    assert fingerprint.difference(folder, missing).endswith("files have other sizes")


def test_parts_of_a_mixture_are_named(videos):
    options = {"name": "video_folder", "root": str(videos), "validation": 0.0, "seconds": 1.0}
    shapes = {"name": "narrated_shapes", "clips": 5}

    def opened():
        entry = {"name": "mixture", "sources": {"films": options, "shapes": shapes}}
        return components.build("data.sources", entry, key="data.source")

    before = fingerprint.of_source(opened())
    assert before["clips"] == 7
    assert before["parts"]["shapes"] == {"clips": 5}
    shutil.copy(videos / "a.mp4", videos / "d.mp4")
    now = fingerprint.of_source(opened())
    assert fingerprint.difference(before, now) == "films: 2 clips then, 3 now"
    assert "times" not in fingerprint.without_times(now)["parts"]["films"]


def test_a_source_without_one_is_known_by_count_and_some_ids():
    assert fingerprint.of_source(narrated_shapes.Source(clips=3)) == {"clips": 3}
    some, same, fewer = (fingerprint.of_source(Numbered(clips=n)) for n in (900, 900, 899))
    assert some == same
    assert some["ids"] != fewer["ids"]
    assert fingerprint.difference(some, fewer) == "900 clips then, 899 now"
