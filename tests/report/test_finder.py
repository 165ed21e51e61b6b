"""Clips found by a sentence, a picture and a sound, by a small model."""

import io

import numpy as np
import pytest
from PIL import Image

from fgmm.config import ConfigError
from fgmm.report import finder, search
from fgmm.trained import Model
from tests.report import pages_fixture


@pytest.fixture(scope="module")
def source():
    experiment = pages_fixture.experiment()
    return experiment.source(experiment.config.evals.retrieval.source, "source")


@pytest.fixture(scope="module")
def model():
    return Model(pages_fixture.experiment(), pages_fixture.state())


@pytest.fixture(scope="module")
def find(model, source):
    banks = search.banks(model.experiment, model.state, source, "joint")
    assert banks.keys() == {"video"}
    return finder.Finder(model, banks, "joint")


def test_a_sentence_finds_clips_and_each_phrase_has_a_map(find, model, source):
    sentence = "a red star moves left, while a blue square jumps"
    answer = find.by_text(sentence, "video", 4)
    assert next(sentence[start:end] for start, end in answer.phrases) == "a red star moves left"
    assert answer.by == "the sum score, for the 6 best by the coarse score"
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    # As the model compares them itself.
    clips = [source[hit.row].video() for hit in answer.hits]
    embedded = model.embed_video(clips, local=True)
    expected = model.similarity(embedded, model.embed_text([sentence], local=True), level="sum")
    np.testing.assert_allclose(scores, expected[:, 0], rtol=1e-4)
    for hit in answer.hits:
        assert hit.maps.shape == (len(answer.phrases), *find.grids["video"])
        np.testing.assert_allclose(hit.maps.max(axis=(1, 2, 3)), 1)


def test_a_picture_of_a_clip_finds_it(find, source):
    out = io.BytesIO()
    # A still clip has no motion, and is nearest to itself.
    Image.fromarray(source[2].video()[1]).save(out, "PNG")
    answer = find.by_file("image", out.getvalue(), "video", 6)
    assert answer.by == "the coarse score"
    assert answer.phrases == []
    assert sorted(hit.row for hit in answer.hits) == list(range(6))
    assert all(hit.maps is None for hit in answer.hits)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda find: find.by_text(" \n", "video", 1), "the query is empty; type a sentence"),
        (lambda find: find.by_text("a" * 2001, "video", 1), "the query has 2001 letters; at most"),
        (
            lambda find: find.by_text("a dog", "smell", 1),
            "items='smell' is unknown; allowed: video",
        ),
        (lambda find: find.by_file("image", b"", "video", 1), "the file is empty; drop a picture"),
        (lambda find: find.by_file("image", b"no", "video", 1), "the file cannot be read: unread"),
        (lambda find: find.by_file("audio", b"no", "video", 1), "the file cannot be read: unread"),
        (lambda find: find.by_file("video", b"no", "video", 1), "the file cannot be read: unread"),
    ],
)
def test_bad_queries_are_one_line(find, ask, message):
    with pytest.raises(ValueError, match=message) as caught:
        ask(find)
    assert "\n" not in str(caught.value)


def test_an_address_that_is_taken_is_one_line():
    with search.bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            search.bound("127.0.0.1", port)
    assert str(caught.value) == (
        f"--host=127.0.0.1 --port={port} cannot be listened on: Address already in use"
    )
