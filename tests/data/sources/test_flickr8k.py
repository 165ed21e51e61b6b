import pickle
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from fgmm.config import ConfigError
from fgmm.data.media.decode import read_image
from fgmm.data.schema import BadInput, Caption
from fgmm.data.sources.flickr8k import Source
from tests.data.flickr8k_fixture import pack, write_flickr8k

CAPTIONS, TRAIN = "Flickr8k.token.txt", "Flickr_8k.trainImages.txt"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_flickr8k(tmp_path_factory.mktemp("corpus") / "flickr8k", images=8, seed=0)


@pytest.fixture
def own(corpus, tmp_path):
    """A copy of the corpus that a test may damage."""
    return shutil.copytree(corpus, tmp_path / "own")


def zipped(corpus, folder):
    """The corpus as the two archives that it is distributed in."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "Flickr8k_Dataset.zip", "w", zipfile.ZIP_DEFLATED) as images:
        for path in sorted((corpus / "Flicker8k_Dataset").iterdir()):
            images.write(path, f"Flicker8k_Dataset/{path.name}")
            images.writestr(f"__MACOSX/Flicker8k_Dataset/._{path.name}", b"\x00")
    with zipfile.ZipFile(folder / "Flickr8k_text.zip", "w", zipfile.ZIP_DEFLATED) as texts:
        for path in sorted(corpus.glob("*.txt")):
            texts.write(path, path.name)
    return folder


def test_a_clip_is_an_image_with_its_captions_in_the_order_of_the_files(corpus):
    source = Source(root=str(corpus), split="train")
    names = (corpus / TRAIN).read_text().split()
    assert len(source) == len(names) == 8
    lines = (corpus / CAPTIONS).read_text().splitlines()
    for index, name in enumerate(names):
        clip = source[index]
        assert clip.clip_id == name
        assert clip.video == (corpus / "Flicker8k_Dataset" / name).read_bytes()
        assert read_image(clip.video, 32, 32).shape == (1, 32, 32, 3)
        assert clip.audio is None
        expected = [line.split("\t")[1] for line in lines if line.startswith(name + "#")]
        assert clip.captions == tuple(map(Caption, expected))
        assert len(clip.captions) == 5
    assert not source.report


def test_splits_are_disjoint(corpus):
    ids = [
        {source[i].clip_id for i in range(len(source))}
        for source in (Source(root=str(corpus), split=split) for split in ("train", "dev", "test"))
    ]
    assert [len(split) for split in ids] == [8, 2, 2]
    assert len(set.union(*ids)) == 12


def test_a_part_of_a_split_is_a_corpus_of_its_own(corpus):
    whole = Source(root=str(corpus))
    names = [whole[i].clip_id for i in range(len(whole))]
    part = Source(root=str(corpus), start=2, stop=5)
    assert [part[i].clip_id for i in range(len(part))] == names[2:5]
    assert part.fingerprint() != whole.fingerprint()
    assert Source(root=str(corpus), stop=8).fingerprint() == whole.fingerprint()
    with pytest.raises(ConfigError, match="no image from start=8 to stop=0; the split has 8"):
        Source(root=str(corpus), start=8)


@pytest.mark.parametrize(
    "make", [lambda c, t: pack(c, t / "flickr8k.tar"), lambda c, t: zipped(c, t / "z")]
)
def test_archives_give_the_clips_of_the_folder(corpus, tmp_path, make):
    packed = Source(root=str(make(corpus, tmp_path)), split="dev")
    folder = Source(root=str(corpus), split="dev")
    assert len(packed) == len(folder)
    assert [packed[i] for i in range(len(packed))] == [folder[i] for i in range(len(folder))]


def test_can_be_pickled_and_read_by_many_threads(corpus, tmp_path):
    source = Source(root=str(pack(corpus, tmp_path / "flickr8k.tar")))
    other = pickle.loads(pickle.dumps(source))
    indices = list(range(len(source))) * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(other.__getitem__, indices)) == [source[i] for i in indices]


def test_the_corrected_spelling_of_the_folder_is_accepted(own):
    expected = Source(root=str(own))[0]
    (own / "Flicker8k_Dataset").rename(own / "Flickr8k_Dataset")
    assert Source(root=str(own))[0] == expected


def test_a_missing_image_stays_as_a_clip_that_says_so_when_read(own):
    first = (own / TRAIN).read_text().split()[0]
    (own / "Flicker8k_Dataset" / first).unlink()
    source = Source(root=str(own))
    clip = pickle.loads(pickle.dumps(source[0]))
    assert len(source) == 8
    assert len(clip.captions) == 5
    with pytest.raises(BadInput, match=first) as caught:
        clip.video()
    assert caught.value.reason == "missing_file"


def test_an_unreadable_image_is_told_from_a_missing_one(own):
    first = (own / TRAIN).read_text().split()[0]
    (own / "Flicker8k_Dataset" / first).unlink()
    (own / "Flicker8k_Dataset" / first).mkdir()
    with pytest.raises(BadInput) as caught:
        Source(root=str(own))[0].video()
    assert caught.value.reason == "unreadable_video"


def test_lines_that_cannot_be_understood_are_counted(own):
    names = (own / TRAIN).read_text().split()
    broken = (
        b"\xef\xbb\xbf"  # a byte order mark does not count
        + (own / CAPTIONS).read_bytes().replace(b"\n", b"\r\n")
        + b"no tab at all\n"
        + b"x.jpg\tno number\n"
        + b"\n   \n"  # blank lines do not count either
        + names[0].encode()
        + b"#5\t\xff\xfe not UTF-8\n"
        + names[1].encode()
        + b"#5\t  \n"
        + b"never_listed.jpg#0\tA caption of no image here .\n"
        + names[2].encode()
        + b"#5\tA sixth caption , caf\xc3\xa9 ."
    )
    (own / CAPTIONS).write_bytes(broken)
    source = Source(root=str(own))
    assert source.report == {"malformed_line": 3, "empty_caption": 1}
    assert [len(source[i].captions) for i in range(8)] == [5, 5, 6, 5, 5, 5, 5, 5]
    assert source[2].captions[-1].text == "A sixth caption , café ."


def test_listed_names_that_are_no_image_names_are_counted(own):
    listed = (own / TRAIN).read_text()
    bad = ["../../secret.jpg", "/etc/passwd", "..", "no_ending", "a\0b.jpg", listed.split()[0]]
    (own / TRAIN).write_text(listed + "\n".join(bad))
    source = Source(root=str(own))
    assert len(source) == 8
    assert source.report == {"malformed_line": 5, "duplicate_id": 1}


def test_an_image_without_captions_has_none(own):
    names = (own / TRAIN).read_text().split()
    lines = (own / CAPTIONS).read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(names[3])]
    (own / CAPTIONS).write_text("".join(kept))
    source = Source(root=str(own))
    assert source[3].captions == ()
    assert len(source[4].captions) == 5


@pytest.mark.parametrize("missing", [CAPTIONS, TRAIN, "Flicker8k_Dataset"])
def test_a_missing_part_is_named(own, missing):
    path = own / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ConfigError, match=rf"own.*{missing}.*the layout is"):
        Source(root=str(own))


def test_wrong_options_are_refused(own, tmp_path):
    with pytest.raises(ConfigError, match=r"split='val'.*train, dev, test"):
        Source(root=str(own), split="val")
    for root in ["", str(tmp_path / "nowhere")]:
        with pytest.raises(ConfigError, match=f"root='{root}' does not exist"):
            Source(root=root)
    (own / TRAIN).write_text("\n")
    with pytest.raises(ConfigError, match="lists no images"):
        Source(root=str(own))


def test_the_real_corpus(shared_data):
    root = str(shared_data("flickr8k.tar"))
    for split, size in [("train", 6000), ("dev", 1000)]:
        source = Source(root=root, split=split)
        assert len(source) == size
        assert not source.report
        for index in range(size):
            assert len(source[index].captions) == 5
        for index in range(0, size, 100):
            frames = read_image(source[index].video, 64, 64)
            assert frames.std() > 5, "a picture is not of one colour"
    with pytest.raises(ConfigError, match="testImages"):
        Source(root=root, split="test")
