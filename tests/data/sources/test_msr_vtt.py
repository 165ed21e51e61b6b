import json
import pickle
import shutil

import pytest

from fgmm.config import ConfigError
from fgmm.data.schema import Caption
from fgmm.data.sources.msr_vtt import Source
from tests.data.corpora_fixture import write_msr_vtt
from tests.data.video_fixture import number_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_msr_vtt(tmp_path_factory.mktemp("corpus") / "msr_vtt")


def ids(source):
    return [source[i].clip_id for i in range(len(source))]


@pytest.mark.parametrize(
    ("split", "numbers"),
    [
        ("train", (0, 1, 2, 3)),
        ("validate", (4,)),
        ("test", (5, 6, 7)),
        ("train_9k", (0, 2, 4, 6)),
        ("test_1k", (1, 3, 5, 7)),
    ],
)
def test_splits(corpus, split, numbers):
    source = Source(root=str(corpus), split=split)
    assert ids(source) == [f"video{number}" for number in numbers]
    assert not source.report


def test_all_sentences_of_a_video_and_in_1k_the_one_that_is_listed(corpus):
    sentences = (Caption("a man of video6"), Caption("a picture of video6"))
    assert Source(root=str(corpus), split="train_9k")[3].captions == sentences
    listed = Source(root=str(corpus), split="test_1k")[3]
    assert listed.captions == (Caption("number 7, told once"),)


def test_a_clip_is_a_whole_file_whatever_its_times_in_the_video_it_was_cut_from(corpus):
    source = pickle.loads(pickle.dumps(Source(root=str(corpus), seconds=0.0)))
    assert [number_of(picture) for picture in source[0].video.frames(4, 24)] == [5, 15, 25, 35]
    sound = source[0].audio()
    assert abs(len(sound.samples) - 2 * sound.rate) < 0.1 * sound.rate
    middle = Source(root=str(corpus), seconds=1.0)
    assert [number_of(picture) for picture in middle[0].video.frames(2, 24)] == [15, 25]


def test_one_file_of_all_annotations_stands_for_the_official_two(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    parts = [json.loads(path.read_text()) for path in own.glob("*_videodatainfo.json")]
    joined = {key: [e for part in parts for e in part[key]] for key in ("videos", "sentences")}
    joined["sentences"] += [{"video_id": "video0", "caption": " "}, {"caption": "whose?"}]
    (own / "annotation").mkdir()
    (own / "annotation" / "MSRVTT_data.json").write_text(json.dumps(joined))
    (own / "TrainValVideo" / "video2.mp4").unlink()
    source = Source(root=str(own), split="train_9k")
    assert ids(source) == ["video0", "video4", "video6"]
    assert len(source[0].captions) == 2
    assert source.report == {"missing_file": 1, "empty_caption": 1, "malformed_line": 1}


def test_wrong_options_are_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match="split='val' is unknown; allowed: train, validate, test"):
        Source(root=str(corpus), split="val")
    with pytest.raises(ConfigError, match=r"has no MSRVTT_train\.7k\.csv"):
        Source(root=str(corpus), split="train_7k")
    with pytest.raises(ConfigError, match=r"has none of MSRVTT_data\.json, train_val"):
        Source(root=str(tmp_path), split="train")
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text("video_id,sentence\nvideo1,hello\n")
    with pytest.raises(ConfigError, match=r"has no video of this split \(missing_file 1\)"):
        Source(root=str(tmp_path))


@pytest.mark.parametrize("sentences", [3, [{"video_id": ["a"], "caption": {}}], [{"caption": "a"}]])
def test_annotations_of_other_types_are_refused_or_passed_over(corpus, tmp_path, sentences):
    own = shutil.copytree(corpus, tmp_path / "own")
    path = own / "train_val_videodatainfo.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "sentences": sentences}))
    if isinstance(sentences, int):
        with pytest.raises(ConfigError, match="is not of the form"):
            Source(root=str(own), split="train")
    else:
        assert {clip.captions for clip in Source(root=str(own), split="train")} == {()}


def test_videos_that_are_listed_again_are_counted(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    table = own / "MSRVTT_JSFUSION_test.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1].replace("told", "said <i>again</i>")]) + "\n")
    source = Source(root=str(own), split="test_1k")
    assert source.report == {"duplicate_id": 1}
    assert source[0].captions == Source(root=str(corpus), split="test_1k")[0].captions
    (own / "again").mkdir()
    video = next(own.rglob("video0.*"))
    shutil.copy(video, own / "again" / video.name)
    assert Source(root=str(own), split="train").report == {"duplicate_id": 1}
