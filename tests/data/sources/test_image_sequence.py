import json
import pickle

import numpy as np
import pytest
from PIL import Image

from fgmm.config import ConfigError
from fgmm.data.schema import BadInput, Caption
from fgmm.data.sources.image_sequence import Source, around
from tests.data.flickr8k_fixture import pack

# Pages of each story, by split.
STORIES = {"train": {"a": 5, "b": 2}, "dev": {"c": 3}}


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "stories"
    lines = []
    for split, stories in STORIES.items():
        for story, count in stories.items():
            (root / "images" / story).mkdir(parents=True)
            pages = []
            for page in range(1, count + 1):
                path = f"images/{story}/{page:02d}.png"
                grey = Image.new("RGB", (40 + page, 30), (20 * page,) * 3)
                grey.save(root / path)
                pages.append({"page": page, "image": path, "text": f"Page {page}\n of {story}."})
            lines.append(json.dumps({"id": story, "split": split, "pages": pages}))
    (root / "stories.jsonl").write_text("\n".join([*lines, ""]))
    return root


def texts(clip):
    return [caption.text[5] for caption in clip.captions]


def pages(clip):
    return [round(float(picture.mean()) / 20) for picture in clip.video.frames(9, 8)]


def test_a_page_with_its_text(corpus):
    source = Source(root=str(corpus))
    assert len(source) == 7
    assert [source[i].group for i in range(7)] == list("aaaaabb")
    clip = source[6]
    assert clip.clip_id == "images/b/02.png"
    assert clip.video == (corpus / clip.clip_id).read_bytes()
    assert clip.captions == (Caption("Page 2 of b.", 0.0, 1.0),)
    assert not source.report
    assert len(Source(root=str(corpus), split="dev")) == 3


def test_neighbouring_pages_are_frames_and_candidates(corpus, tmp_path):
    for root in (corpus, pack(corpus, tmp_path / "stories.tar")):
        source = pickle.loads(pickle.dumps(Source(root=str(root), pages=3, candidates=2)))
        assert source[1].video.frames(3, 8).shape == (3, 8, 8, 3)
        clips = [source[i] for i in range(7)]
        assert [pages(clip) for clip in clips] == [
            *([1, 2, 3], [1, 2, 3], [2, 3, 4], [3, 4, 5], [3, 4, 5]),
            *([1, 2], [1, 2]),
        ]
        assert [texts(clip) for clip in clips] == [
            *(["1", "2"], ["2", "3"], ["3", "4"], ["4", "5"], ["4", "5"]),
            *(["1", "2"], ["1", "2"]),
        ]
        # Times are in pages from the first one shown.
        assert [caption[1:] for caption in clips[3].captions] == [(1.0, 2.0), (2.0, 3.0)]


def test_around():
    for whole in range(1, 8):
        for count in range(1, 10):
            for index in range(whole):
                found = around(index, count, whole)
                assert index in found
                assert len(found) == min(count, whole)
                assert found.start >= 0
                assert found.stop <= whole
    assert around(5, 3, 10) == range(4, 7)


def test_what_is_missing_or_wrong_is_counted(corpus):
    story = {"id": "d", "split": "dev", "pages": [{"text": "no picture"}, {"image": "gone.png"}]}
    with (corpus / "stories.jsonl").open("a") as file:
        file.write(f"{json.dumps(story)}\nnot JSON\n[]\n")
    source = Source(root=str(corpus), split="dev", pages=2)
    assert source.report == {"malformed_line": 3, "empty_caption": 1}
    assert len(source) == 4
    assert source[3].captions == ()
    with pytest.raises(BadInput, match="missing_file"):
        source[3].video.frames(4, 32)
    (corpus / "images" / "c" / "01.png").write_bytes(b"damaged")
    with pytest.raises(BadInput, match="unreadable_video"):
        source[0].video.frames(4, 32)


def test_wrong_options_are_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match="split='test' is unknown; allowed: dev, train"):
        Source(root=str(corpus), split="test")
    with pytest.raises(ConfigError, match="pages=0 must be at least 1"):
        Source(root=str(corpus), pages=0)
    with pytest.raises(ConfigError, match=r"has no readable stories\.jsonl"):
        Source(root=str(corpus / "images"))


def test_the_real_corpus(shared_data):
    root = str(shared_data("storybook.tar"))
    sizes = [len(Source(root=root, split=split)) for split in ("train", "dev")]
    assert sizes == [2590, 288]
    source = Source(root=root, split="dev", pages=4, candidates=3)
    assert not source.report
    for i in range(0, 288, 24):
        clip = source[i]
        assert clip.video.frames(4, 32).shape == (4, 32, 32, 3)
        assert clip.video.frames(4, 32).std() > 0
        assert len(clip.captions) == 3
        assert all(caption.text for caption in clip.captions)
    assert len({source[i].group for i in range(288)}) == 30
    np.testing.assert_array_equal(source[0].video.frames(4, 32), source[1].video.frames(4, 32))


def test_stories_whose_id_comes_again_are_counted(corpus):
    path = corpus / "stories.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    source = Source(root=str(corpus))
    assert len(source) == 7
    assert source.report == {"duplicate_id": 1}


def test_signs_that_end_lines_elsewhere_are_part_of_a_text(corpus):
    story = {
        "id": "d",
        "split": "dev",
        "pages": [{"image": "x.png", "text": "one\u2028two\x85three"}],
    }
    with (corpus / "stories.jsonl").open("a") as file:
        file.write(json.dumps(story, ensure_ascii=False) + "\n")
    source = Source(root=str(corpus), split="dev")
    assert source[3].captions == (Caption("one two three", 0.0, 1.0),)
    assert not source.report


@pytest.mark.parametrize(
    "wrong", [{"pages": ["images/1.jpg"]}, {"split": 1}, {"id": ["d"]}, {"pages": 3}]
)
def test_stories_of_other_types_are_malformed(corpus, wrong):
    story = {"id": "d", "split": "dev", "pages": [{"image": "x.png", "text": "x"}]} | wrong
    with (corpus / "stories.jsonl").open("a") as file:
        file.write(json.dumps(story) + "\n")
    source = Source(root=str(corpus), split="dev")
    assert len(source) == 3
    assert source.report == {"malformed_line": 1}
    with pytest.raises(ConfigError, match="allowed: dev, train"):
        Source(root=str(corpus), split="none")
