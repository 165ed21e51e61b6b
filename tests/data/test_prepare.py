"""From files to shards: read back by others, killed and continued, full disks, wrong commands."""

import csv
import dataclasses
import importlib.util
import io
import json
import math
import pathlib
import resource
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from fgmm.config import ConfigError
from fgmm.data import prepare
from fgmm.data.preparation import shards
from fgmm.data.preparation.disk import OutputFailed, sole_writer
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.plan import Plan, Split, measured, settle
from fgmm.data.preparation.task import open_task
from fgmm.data.sources import flickr8k, howto100m, prepared
from tests.data import corpora_fixture, flickr8k_fixture, video_fixture
from tests.data.video_fixture import FPS, numbered, sung, write_video

VIDEOS = 8
# Of one shard, less than a video: so a shard for each.
EACH_ALONE = 0.001


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return video_fixture.write_howto100m(tmp_path_factory.mktemp("corpus") / "h", VIDEOS)


def task_of(corpus, output, source="howto100m:validation=0.3", **options):
    options = {"encoding": Encoding(), "shard_megabytes": EACH_ALONE, **options}
    return open_task(source, str(corpus), output, **options)


def written(task):
    """Writes all shards in this process, and returns the reports."""
    with sole_writer(task.output):
        settle(task.output, task.plan)
        for split, shard in task.remaining():
            task.write(split, shard)
        left_out = {split: dict(raw.report) for split, raw in task.raw.items()}
        return shards.complete(task.output, task.plan, left_out)


def command(*arguments):
    return [sys.executable, "-m", "fgmm.data.prepare", *arguments]


def run(repository, *arguments, **options):
    return subprocess.run(
        command(*arguments), cwd=repository, capture_output=True, text=True, timeout=120, **options
    )


READ_BY_OTHERS = """
import json, sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
read = {}
for split in builder.info.splits:
    for record in builder.as_data_source(split):
        with open(f"{sys.argv[2]}/{record['clip_id'].decode()}", "wb") as file:
            file.write(record["media"])
        said = [text.decode() for text in record["captions"]["text"]]
        read[record["clip_id"].decode()] = [split, said, record["captions"]["end"][0].item()]
known = [name for name in ("fgmm", "tensorflow", "jax", "torch") if name in sys.modules]
print(json.dumps([builder.info.name, read, known]))
"""


def test_tfds_alone_reads_what_the_program_wrote(corpus, repository, tmp_path):
    output = tmp_path / "prepared"
    options = ("--source=howto100m:validation=0.3", f"--shard_megabytes={EACH_ALONE}")
    ran = run(repository, *options, f"--input={corpus}", f"--output={output}", "--workers=2")
    assert ran.returncode == 0, ran.stderr
    assert "kept" in ran.stdout
    media = tmp_path / "media"
    media.mkdir()
    arguments = [sys.executable, "-c", READ_BY_OTHERS, str(output), str(media)]
    other = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    name, read, known = json.loads(other.stdout)
    assert (name, known) == ("howto100m", [])
    assert sorted(read) == [str(number) for number in range(VIDEOS)]
    assert {split for split, _, _ in read.values()} == {"train", "validation"}
    first = "the number 3 is shown in black and white"
    assert read["3"][1:] == [[first, "and then something else"], 0.5]
    for number in range(VIDEOS):
        file = (corpus / "videos" / f"{number}.mp4").read_bytes()
        assert (media / str(number)).read_bytes() == file
    checked = run(repository, f"--output={output}", "--verify")
    assert checked.returncode == 0, checked.stderr


def test_tensorflow_is_not_installed():
    """TFDS works without; were it installed, imports of it would go unnoticed."""
    assert importlib.util.find_spec("tensorflow") is None


def running(parent):
    """The processes that a process started."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def wait(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_killed_run_is_continued(corpus, repository, tmp_path):
    # The last video in order takes long to encode.
    own = video_fixture.write_howto100m(tmp_path / "own", 5)
    pictures = [numbered(i % 256, 144, 192) for i in range(120)]
    write_video(own / "videos" / "4.mp4", pictures, sound=sung(6.0))
    output = tmp_path / "prepared"
    arguments = ["--source=howto100m", f"--input={own}", f"--output={output}"]
    arguments += ["--fps=400", f"--shard_megabytes={EACH_ALONE}", "--workers=2"]
    process = subprocess.Popen(command(*arguments), cwd=repository, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: len(list(output.glob("finished/*.json"))) >= 3, 60)
        workers = running(process.pid)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait(20)
    assert len(workers) >= 2
    wait(lambda: not any(pathlib.Path(f"/proc/{worker}").exists() for worker in workers), 20)
    assert not (output / "dataset_info.json").exists()
    assert not (output / shards.MANIFEST).exists()
    kept = {path: path.stat().st_mtime_ns for path in output.glob("finished/*.json")}
    assert len(kept) < 5, "it was killed too late"
    shard_of = {path: (output / path.stem).stat().st_mtime_ns for path in kept}
    # What is half written is gone once the same command has run, and what was finished untouched.
    half_written = output / "unfinished" / "half"
    half_written.write_bytes(b"half")
    ran = run(repository, *arguments)
    assert ran.returncode == 0, ran.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path: (output / path.stem).stat().st_mtime_ns for path in kept} == shard_of
    assert not list((output / "unfinished").iterdir())
    whole = tmp_path / "whole"
    written(task_of(own, whole, "howto100m", encoding=Encoding(fps=400.0)))
    # Not their bytes: x264 may choose otherwise for the first video that a process encodes.
    assert counted(output) == counted(whole)


def counted(folder):
    """The shards of a prepared corpus with their numbers of records."""
    return [(entry["file"], entry["records"]) for entry in shards.read_manifest(folder)]


def test_a_shard_without_its_entry_is_written_again(corpus, tmp_path):
    task = task_of(corpus, tmp_path)
    written(task)
    name = task.plan.shard_name("train", 0)
    before = (tmp_path / name).read_bytes()
    (tmp_path / "finished" / f"{name}.json").unlink()
    (tmp_path / name).write_bytes(before[:1000])
    assert task.remaining() == [("train", 0)]
    written(task)
    assert (tmp_path / name).read_bytes() == before


def test_changed_and_truncated_shards_are_found(corpus, repository, tmp_path):
    task = task_of(corpus, tmp_path)
    written(task)
    changed, cut, gone = (tmp_path / task.plan.shard_name("train", i) for i in range(3))
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    found = list(prepare.verify(tmp_path))
    assert len(found) == 3
    assert f"{changed.name} has been changed" in found[0]
    assert f"{cut.name} has" in found[1]
    assert f"{gone.name} cannot be read: No such file" in found[2]
    ran = run(repository, f"--output={tmp_path}", "--verify")
    assert ran.returncode == 1
    assert "error: 3 damaged shards" in ran.stderr.splitlines()[-1]


def test_a_full_disk_is_one_line_and_costs_one_shard(corpus, tmp_path):
    task = task_of(corpus, tmp_path, shard_megabytes=100.0)
    small = task_of(corpus, tmp_path, shard_megabytes=100.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with sole_writer(tmp_path):
        settle(tmp_path, task.plan)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(OutputFailed, match=r"written: .*File too large") as failed:
                small.write("train", 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert len(str(failed.value).splitlines()) == 1
        assert not list((tmp_path / "unfinished").iterdir())
        assert not list(tmp_path.glob("*.array_record*"))
    assert written(task)["train"].kept + written(task)["validation"].kept == VIDEOS


def test_the_report_counts_what_was_left_out(tmp_path):
    root = video_fixture.write_narrated_videos(tmp_path / "videos", 6)
    (root / "1.mp4").write_text("no video")
    (root / "2.vtt").unlink()
    pictures = [numbered(i) for i in range(20)]
    write_video(root / "3.mp4", pictures, sound=np.zeros(16000, np.float32))
    write_video(root / "4.mp4", pictures)
    write_video(root / "5.mp4", (), sound=sung(1.0))
    task = task_of(root, tmp_path / "out", "video_folder:validation=0.0", shard_megabytes=100.0)
    report = written(task)["train"]
    assert (report.listed, report.kept, report.with_audio, report.silent) == (6, 4, 3, 1)
    assert report.skipped == {"unreadable_video": 1, "no_video": 1}
    assert (report.captionless, report.captions, report.words) == (1, 3, 27)
    assert report.problems == {"missing_captions": 1}
    assert report.durations == {"1": 4}
    numbers = json.loads((task.output / "report.json").read_text())
    assert numbers["splits"]["train"] == report.as_dict()
    text = (task.output / "report.txt").read_text()
    assert "skipped, no_video" in text
    assert "of these silent                1   25.0%" in text
    with open(task.output / "skipped.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip_id"] for row in rows] == ["1.mp4", "5.mp4"]
    assert [row["reason"] for row in rows] == ["unreadable_video", "no_video"]


def test_a_listed_video_that_is_missing_is_skipped(corpus, tmp_path):
    root = tmp_path / "own"
    video_fixture.write_howto100m(root, 3)
    listing = "video_id,video_path\n0,0.mp4\n1,nowhere.mp4\n2,2.mp4\n"
    (root / "HowTo100M_v1.csv").write_text(listing)
    report = written(task_of(root, tmp_path / "out", "howto100m:validation=0.0"))["train"]
    assert (report.listed, report.kept, report.skipped) == (3, 2, {"missing_file": 1})


def test_another_request_is_refused(corpus, tmp_path):
    written(task_of(corpus, tmp_path))
    for options, message in [
        ({"encoding": Encoding(short_side=32)}, "begun with encoding="),
        ({"shard_megabytes": 1.0}, r"begun with shard_megabytes=0\.001, not 1\.0; give what"),
        ({"source": "howto100m:validation=0.5"}, "begun with options="),
        ({"splits": ["train"]}, r"begun with splits=\['train', 'validation'\], not \['train'\]"),
    ]:
        with pytest.raises(ConfigError, match=message):
            prepare.prepare(task_of(corpus, tmp_path, **options))
    task = task_of(corpus, tmp_path)
    splits = task.plan.splits
    shorter = splits | {"train": dataclasses.replace(splits["train"], listing="other")}
    with pytest.raises(ConfigError, match="the list of recordings has changed since it was begun"):
        settle(tmp_path, dataclasses.replace(task.plan, splits=shorter))
    for number, message in ((-1.0, "at least 0"), (0.0, "greater than 0")):
        with pytest.raises(ConfigError, match=f"--shard_megabytes={number} must be {message}"):
            task_of(corpus, tmp_path, shard_megabytes=number)


def test_two_programs_do_not_write_one_folder(corpus, tmp_path):
    with (
        sole_writer(tmp_path),
        pytest.raises(ConfigError, match="another program"),
    ):
        prepare.prepare(task_of(corpus, tmp_path))


def test_wrong_commands_are_one_line(corpus, repository, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    wrong = [
        ({"source": "nope"}, "--source='nope' is unknown; allowed: clotho, esc10"),
        ({"source": "howto100m:x=1"}, "variant 'x=1' is unknown"),
        ({"source": "narrated_shapes"}, "it has no files"),
        ({"corpus": tmp_path / "nope"}, "does not exist"),
        ({"corpus": tmp_path}, "there is no file"),
        ({"splits": ["test"]}, "split='test' is unknown; allowed: train, validation"),
        ({"shard_megabytes": 0.0}, "--shard_megabytes=0.0 must be"),
        ({"output": file}, "cannot be written"),
        ({"output": file / "below"}, "cannot be written"),
    ]
    for given, message in wrong:
        options = {"corpus": corpus, "output": tmp_path / "out", **given}
        with pytest.raises(ConfigError, match=message) as error:
            prepare.prepare(task_of(**options))
        assert len(str(error.value).splitlines()) == 1
    ran = run(repository, "--source=nope", f"--input={corpus}", f"--output={tmp_path / 'out'}")
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1


def test_a_long_list_is_kept_in_arrays(tmp_path):
    count = 4_000
    (tmp_path / "videos").mkdir()
    (tmp_path / "captions").mkdir()
    rows = "".join(f"video{i:06d},folder/video{i:06d}.mp4\n" for i in range(count))
    (tmp_path / "HowTo100M_v1.csv").write_text(f"video_id,video_path\n{rows}")

    def listed():
        return howto100m.Source(root=str(tmp_path), validation=0.0, opened=False).raw()

    measured(listed(), 256.0)  # what is imported on first use is not the list's
    tracemalloc.start()
    try:
        raw = listed()
        planned = measured(raw, 256.0)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert planned.records == len(raw) == count
    # A Python string alone takes 60 bytes; here are two names with their places.
    assert held / count < 100
    assert most / count < 150


def test_on_beam(corpus, tmp_path):
    pytest.importorskip("apache_beam", reason="the extra 'beam' is not installed")
    task = task_of(corpus, tmp_path / "beam")
    prepare.prepare(task, beam_runner="DirectRunner")
    written(task_of(corpus, tmp_path / "here"))
    manifests = [(tmp_path / name / shards.MANIFEST).read_text() for name in ("beam", "here")]
    assert manifests[0] == manifests[1]
    with pytest.raises(ConfigError, match="beam_runner=Nope"):
        prepare.prepare(task_of(corpus, tmp_path / "other"), beam_runner="Nope")


def test_without_beam_its_absence_is_said(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ConfigError, match=r"pip install -e .\[beam\] -c constraints-beam.txt"):
        prepare.prepare(task_of(corpus, tmp_path), beam_runner="DirectRunner")


def test_pictures_are_prepared(tmp_path):
    root = flickr8k_fixture.write_flickr8k(tmp_path / "flickr", images=6, seed=1)
    clips = flickr8k.Source(root=str(root), split="dev")
    report = written(task_of(root, tmp_path / "out", "flickr8k", splits=["dev"]))["dev"]
    assert (report.kept, report.with_video, report.with_audio) == (len(clips), len(clips), 0)
    smaller = Encoding(short_side=16)
    written(task_of(root, tmp_path / "small", "flickr8k", splits=["dev"], encoding=smaller))
    for folder in ("out", "small"):
        read = prepared.Source(root=str(tmp_path / folder), split="dev")
        assert len(read) == len(clips)
        for before, after in zip(clips, read, strict=True):
            assert (after.clip_id, after.captions) == (before.clip_id, before.captions)
            if folder == "out":
                assert after.video == before.video
            else:
                with Image.open(io.BytesIO(after.video)) as picture:
                    assert min(picture.size) == 16


@pytest.mark.parametrize("content", ["null", "3", '{"splits": []}', "[" * 100_000])
def test_a_damaged_plan_is_refused_and_a_damaged_entry_is_no_shard(tmp_path, content):
    planned = Plan("corpus", "source", {}, {}, 1.0, 1.0, {"train": Split(1, 1, "")})
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(ConfigError, match=r"plan\.json is damaged"):
        settle(tmp_path, planned)
    (tmp_path / "finished").mkdir()
    name = planned.shard_name("train", 0)
    (tmp_path / name).touch()
    (tmp_path / "finished" / f"{name}.json").write_text(content)
    assert shards.finished(tmp_path, planned, "train", 0) is None


def test_another_list_of_pictures_is_refused(tmp_path):
    root = flickr8k_fixture.write_flickr8k(tmp_path / "flickr", images=6, seed=1)
    written(task_of(root, tmp_path / "out", "flickr8k", splits=["train"]))
    lists = sorted(root.rglob("Flickr_8k.*Images.txt"))
    train, dev = (next(path for path in lists if name in path.name) for name in ("train", "dev"))
    names = train.read_text().split()
    train.write_text("\n".join([*names[1:], *dev.read_text().split()[:1]]))
    with pytest.raises(ConfigError, match="the list of recordings has changed since it was begun"):
        written(task_of(root, tmp_path / "out", "flickr8k", splits=["train"]))


@pytest.fixture(scope="module")
def long_videos(tmp_path_factory):
    """Three videos in HowTo100M's layout: of 1 s, one that cannot be read, and one of 5 s."""
    root = video_fixture.write_howto100m(tmp_path_factory.mktemp("long") / "h", 3)
    (root / "videos" / "1.mp4").write_text("no video")
    pictures = [numbered(i) for i in range(5 * FPS)]
    write_video(root / "videos" / "2.mp4", pictures, sound=sung(5.0))
    rows = "".join(f"{i}.5,{i + 1}.5,the second {i} is told\n" for i in range(4))
    (root / "captions" / "2.csv").write_text(f"start,end,text\nnever,2,word\n{rows}")
    return root


PIECES = {
    "source": "howto100m:validation=0.0",
    "encoding": Encoding(fps=10.0, audio_rate=16000, piece_seconds=2.0),
    "shard_megabytes": 100.0,
}


def test_pieces_are_counted_as_records(long_videos, tmp_path):
    task = task_of(long_videos, tmp_path / "out", **PIECES)
    report = written(task)["train"]
    assert (report.listed, report.kept, report.records) == (3, 2, 4)
    assert report.skipped == {"unreadable_video": 1}
    assert report.problems == {"malformed_line": 1}
    assert (report.with_audio, report.captionless, report.durations.total()) == (4, 0, 4)
    assert report.seconds == pytest.approx(6.0, abs=0.4)
    text = (task.output / "report.txt").read_text()
    assert "kept                           2\n  in pieces                      4\n" in text
    assert "with video                     4  100.0%" in text
    (entry,) = shards.read_manifest(task.output)
    assert entry["records"] == 4
    # Where a run was killed before it entered the shard, the next one writes it again.
    (task.output / "finished" / f"{entry['file']}.json").unlink()
    assert written(task)["train"].records == 4
    other = {**PIECES, "encoding": Encoding(fps=10.0, audio_rate=16000, piece_seconds=3.0)}
    with pytest.raises(ConfigError, match="begun with encoding="):
        prepare.prepare(task_of(long_videos, task.output, **other))


def test_clips_are_read_from_their_pieces(long_videos, tmp_path):
    written(task_of(long_videos, tmp_path, **PIECES))
    read = prepared.Source(root=str(tmp_path), seconds=0.8, minimum=1.0)
    assert [read[i].clip_id for i in range(4)] == ["0", "2/0", "2/1", "2/2"]
    assert {read[i].group for i in range(1, 4)} == {"2"}
    for index, first in ((1, 0), (2, 2 * FPS), (3, 4 * FPS)):
        for seed in range(5):
            clip = read.draw(index, np.random.default_rng(seed))
            shown = [video_fixture.number_of(picture) for picture in clip.video.frames(8, 48)]
            assert first <= min(shown) < max(shown) < first + 2 * FPS
            # What is said at a picture has the number of the second, which began half of one later.
            said = [c.text for c in clip.captions if c.start + 0.1 < 0.45 < c.end - 0.1]
            assert said in ([], [f"the second {math.floor(shown[4] / FPS - 0.5)} is told"])
            assert len(clip.audio().samples) == 0.8 * 16000


def test_pieces_of_what_is_copied_are_refused(long_videos, tmp_path):
    sound = corpora_fixture.write_esc50(tmp_path / "sound")
    for root, source, encoding, flags in [
        (long_videos, "howto100m", {}, "--short_side, --fps or --gop_seconds"),
        (long_videos, "howto100m", {"audio_rate": 16000}, "--short_side, --fps or --gop_seconds"),
        (sound, "esc50", {"short_side": 64}, "--audio_rate"),
    ]:
        message = f"--piece_seconds=60.0 cuts .* only where it is encoded again; add {flags}"
        with pytest.raises(ConfigError, match=message):
            task_of(
                root, tmp_path / "out", source, encoding=Encoding(**encoding, piece_seconds=60.0)
            )
