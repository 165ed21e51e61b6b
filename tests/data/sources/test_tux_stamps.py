import numpy as np
import pytest
from PIL import Image

from fgmm.config import ConfigError
from fgmm.data.media.decode import read_image
from fgmm.data.schema import Caption
from fgmm.data.sources.tux_stamps import Source
from tests.data.flickr8k_fixture import pack
from tests.data.video_fixture import RATE, sung, write_video


@pytest.fixture
def corpus(tmp_path):
    """A crow with all there is, a fork without sounds, a kite whose picture is no PNG."""
    root = tmp_path / "package"
    stamps = root / "usr" / "share" / "tuxpaint" / "stamps"
    for topic in ("animals/birds", "household"):
        (stamps / topic).mkdir(parents=True)
    half = np.zeros((8, 16, 4), np.uint8)
    half[:, :8] = (200, 0, 0, 255)
    crow = stamps / "animals" / "birds" / "crow"
    for name in ("crow", "crow_mirror"):
        Image.fromarray(half).save(crow.with_name(f"{name}.png"))
    crow.with_suffix(".txt").write_text(
        "A crow.\nfr.utf8=Une corneille.\npt_BR.utf8=Um corvo.\nru.utf8=Ворона.\n"
    )
    tones = {"": 0.2, "_desc": 0.4, "_desc_fr": 0.6, "_desc_pt_BR": 0.8}
    for name, loudness in tones.items():
        ending = ".wav" if name == "_desc_pt_BR" else ".ogg.ogg" if name == "_desc_fr" else ".ogg"
        write_video(
            crow.with_name(f"crow{name}{ending}"),
            sound=loudness * sung(1.0),
            form="wav" if ending == ".wav" else "ogg",
            sound_codec="pcm_s16le" if ending == ".wav" else "flac",
        )
    crow.with_suffix(".dat").write_text("size=50")
    fork = stamps / "household" / "fork"
    Image.fromarray(half).save(fork.with_suffix(".png"))
    fork.with_suffix(".txt").write_text("A fork.\nfr.utf8=\n")
    (stamps / "household" / "kite.svg").write_text("<svg/>")
    (stamps / "household" / "kite.txt").write_text("A kite.\n")
    return root


def opened(root, **options):
    return Source(root=str(root), **{"validation": 0.0, "seconds": 1.0, **options})


@pytest.mark.parametrize(
    ("options", "sentence", "loudness"),
    [
        ({}, "A crow.", 0.2),
        ({"sound": "effect"}, "A crow.", 0.1),
        ({"language": "fr"}, "Une corneille.", 0.3),
        ({"language": "fr", "sound": "effect"}, "Une corneille.", 0.1),
        ({"language": "pt_BR"}, "Um corvo.", 0.4),
        ({"language": "ru"}, "Ворона.", None),
    ],
)
def test_sentence_and_sound_in_a_language(corpus, options, sentence, loudness):
    clip = opened(corpus, **options)[0]
    assert clip.clip_id == "animals/birds/crow"
    assert clip.captions == (Caption(sentence),)
    if loudness is None:
        assert clip.audio is None
    else:
        sound = clip.audio()
        assert (len(sound.samples), sound.rate) == (RATE, RATE)
        assert np.abs(sound.samples).max() == pytest.approx(loudness, abs=0.01)


def test_pictures_are_laid_on_white(corpus):
    picture = read_image(opened(corpus)[0].video, 8, 16)[0]
    np.testing.assert_array_equal(picture[4, 2], (200, 0, 0))
    np.testing.assert_array_equal(picture[4, 13], (255, 255, 255))


def test_what_stamps_lack_is_counted(corpus):
    source = opened(corpus, language="fr")
    assert [source[i].clip_id for i in range(len(source))] == [
        "animals/birds/crow",
        "household/fork",
    ]
    assert source[1].captions == ()
    assert source[1].audio is None
    assert source.classes == {"topic": ("animals", "household")}
    assert [source[i].labels["topic"] for i in range(2)] == [0, 1]
    assert source.report == {
        "missing_captions": 1,
        "no_video": 1,
        "no_audio": 1,
        "empty_caption": 1,
    }


def test_the_folder_of_stamps_or_an_archive_will_do(corpus, tmp_path):
    expected = opened(corpus)
    stamps = corpus / "usr" / "share" / "tuxpaint" / "stamps"
    for root in (stamps, pack(corpus, tmp_path / "package.tar")):
        source = opened(root)
        assert source.report == expected.report
        assert [source[i].clip_id for i in range(2)] == [expected[i].clip_id for i in range(2)]
        assert source[0].video == expected[0].video
        np.testing.assert_array_equal(source[0].audio().samples, expected[0].audio().samples)


def test_wrong_options_are_refused(corpus):
    for options, error in (
        ({"split": "test"}, "split='test' is unknown; allowed: train, validation"),
        ({"sound": "song"}, "sound='song' is unknown; allowed: speech, effect"),
        ({"validation": 1.5}, r"validation=1\.5 must be from 0 to 1"),
        ({"language": "tlh"}, "no stamp of split 'train' with a sentence in language='tlh'"),
    ):
        with pytest.raises(ConfigError, match=error):
            opened(corpus, **options)


def test_endings_in_capitals(corpus):
    for path in [*corpus.rglob("crow.*"), *corpus.rglob("crow_desc.*")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    source = opened(corpus)
    (crow,) = [source[i] for i in range(len(source)) if source[i].clip_id.endswith("crow")]
    assert crow.captions == (Caption("A crow."),)
    assert read_image(crow.video, 8, 16).shape == (1, 8, 16, 3)
    assert np.abs(crow.audio().samples).max() > 0.1
    before = source.fingerprint()
    for path in corpus.rglob("crow.PNG"):
        path.write_bytes(path.read_bytes() + b"more")
    assert opened(corpus).fingerprint()["sizes"] != before["sizes"]
