import collections
import shutil

import pytest

from fgmm.config import ConfigError
from fgmm.data.sources.fight_clips import Source
from tests.data.flickr8k_fixture import pack
from tests.data.video_fixture import number_of, numbered, sung, write_video

ROWS = (
    ("fight/fi001.mp4", "fight", "a"),
    ("fight/fi002.mp4", "fight", "g0x9-0pOuhw"),
    ("noFight/nofi001.mp4", "noFight", "IZjLv7alWTk"),
    ("noFight/nofi002.mp4", "noFight", "Synopsis"),
    ("noFight/nofi003.mp4", "noFight", "CamNet"),
)


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "fight_clips"
    for i, (name, _, _) in enumerate(ROWS):
        sound = sung(2.0) if i % 2 else None
        write_video(root / name, [numbered(n) for n in range(40)], sound=sound)
    lines = ["filename,label,group", *(",".join(row) for row in ROWS)]
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    return root


def test_labels_groups_and_sound(corpus):
    source = Source(root=str(corpus))
    assert len(source) == len(ROWS)
    assert not source.report
    clips = [source[i] for i in range(len(source))]
    assert [clip.clip_id for clip in clips] == [name for name, _, _ in ROWS]
    labels = [source.classes["action"][clip.labels["action"]] for clip in clips]
    assert labels == [label for _, label, _ in ROWS]
    groups = [clip.group for clip in clips]
    assert groups[1] == groups[2]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3
    assert [clip.audio is not None for clip in clips] == [False, True, False, True, False]
    assert clips[0].video.frames(8, 48).shape == (8, 48, 64, 3)
    assert not clips[0].captions


def test_windows_of_a_clip_are_records_with_its_id(corpus):
    source = Source(root=str(corpus), windows=3, seconds=1.0)
    assert len(source) == 3 * len(ROWS)
    windows = [source[i] for i in (3, 4, 5)]
    assert {clip.clip_id for clip in windows} == {"fight/fi002.mp4"}
    shown = [[number_of(picture) for picture in clip.video.frames(2, 24)] for clip in windows]
    assert shown == [[5, 15], [15, 25], [25, 35]]
    assert {clip.audio().samples.shape for clip in windows} == {(16_000,)}


def test_an_archive_gives_the_clips_of_the_folder(corpus, tmp_path):
    packed = Source(root=str(pack(corpus, tmp_path / "fight_clips.tar")))
    folder = Source(root=str(corpus))
    assert [packed[i].clip_id for i in range(5)] == [folder[i].clip_id for i in range(5)]
    assert (packed[3].video.frames(2, 24) == folder[3].video.frames(2, 24)).all()


def test_bad_clips_and_lines_are_left_out_and_counted(corpus):
    (corpus / ROWS[0][0]).unlink()
    (corpus / ROWS[1][0]).write_bytes(b"broken")
    write_video(corpus / ROWS[2][0], sound=sung(1.0))
    with (corpus / "clips.csv").open("a") as table:
        table.write("fight/fi009.mp4,dance,a\nfight/fi010.mp4\n../../etc/x.mp4,fight,a\n")
    source = Source(root=str(corpus))
    assert [source[i].clip_id for i in range(len(source))] == [ROWS[3][0], ROWS[4][0]]
    assert source.report == {
        "missing_file": 1,
        "unreadable_video": 1,
        "no_video": 1,
        "malformed_line": 3,
    }


def test_wrong_options_are_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"root='nowhere' does not exist.*clips\.csv"):
        Source(root="nowhere")
    with pytest.raises(ConfigError, match=r"has no readable clips\.csv"):
        Source(root=str(tmp_path))
    for key, value, least in (("windows", -1, "at least 0"), ("seconds", 0.0, "above 0")):
        with pytest.raises(ConfigError, match=f"{key}={value} must be {least}"):
            Source(root=str(corpus), **{key: value})
    shutil.rmtree(corpus / "fight")
    shutil.rmtree(corpus / "noFight")
    with pytest.raises(ConfigError, match=r"no readable recording.*missing_file 5"):
        Source(root=str(corpus))
    (corpus / "clips.csv").write_text("filename,label\n")
    with pytest.raises(ConfigError, match="no column 'group'"):
        Source(root=str(corpus))


def test_the_real_corpus(shared_data):
    source = Source(root=str(shared_data("fight_clips.tar")), windows=2)
    assert not source.report
    clips = [source[i] for i in range(0, len(source), 2)]
    assert collections.Counter(clip.labels["action"] for clip in clips) == {0: 87, 1: 87}
    assert sum(clip.audio is None for clip in clips) == 17
    assert len({clip.group for clip in clips}) == 28, "29 source videos, two of them one"
    for clip in clips[::20]:
        assert clip.video.frames(2, 24).std() > 5, "a picture is not of one colour"
    # The sound track of many is silent.
    assert any(clip.audio().samples.any() for clip in clips[::20] if clip.audio)
