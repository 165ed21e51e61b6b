import pytest

from fgmm.config import ConfigError
from fgmm.data.schema import Caption
from fgmm.data.sources.clotho import Source
from tests.data.corpora_fixture import write_clotho


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_clotho(tmp_path_factory.mktemp("corpus") / "clotho")


def test_a_clip_is_a_sound_with_its_captions(corpus):
    source = Source(root=str(corpus), seconds=0.0)
    clips = [source[i] for i in range(len(source))]
    assert [clip.clip_id for clip in clips] == [f"rain {i}.wav" for i in range(3)]
    assert clips[1].captions[2] == Caption("sound 1, told 3 times")
    assert len(clips[1].captions) == 5
    assert clips[1].video is None
    sound = clips[1].audio()
    assert len(sound.samples) == sound.rate
    # The sound of that name in another split is not taken for it.
    assert source.report == {"missing_file": 1}


def test_what_prepare_takes_is_sound(corpus):
    raw = Source(root=str(corpus), opened=False).raw()
    assert raw[0].kind == "audio"
    assert len(raw[0].captions) == 5
    assert Source.splits(str(corpus)) == ("evaluation",)


def test_lines_that_cannot_be_understood_are_counted(corpus, tmp_path):
    root = write_clotho(tmp_path / "own")
    table = root / "clotho_captions_evaluation.csv"
    table.write_text(table.read_text() + "rain 0.wav,again,,,,\nno caption.wav,,,,,\n")
    report = Source(root=str(root)).report
    assert report == {"missing_file": 1, "duplicate_id": 1, "malformed_line": 1}


def test_a_split_without_a_list_is_refused(corpus):
    with pytest.raises(ConfigError, match=r"has no clotho_captions_validation\.csv"):
        Source(root=str(corpus), split="validation")
