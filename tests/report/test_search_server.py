"""The server of the search page: what it refuses, and what it answers."""

import base64
import types

import numpy as np
import pytest

from fgmm.data.media import decode
from fgmm.data.schema import BadInput, Caption, Clip, Waveform
from fgmm.report.finder import Answer, Finder, Hit

testclient = pytest.importorskip("starlette.testclient")
from fgmm.report import search_server  # noqa: E402

MOST = 1000


class Given(Finder):
    """Finds what it is told to."""

    items = ("video",)
    grids = {"video": (2, 1, 2)}  # noqa: RUF012
    config = types.SimpleNamespace(data=types.SimpleNamespace(seconds=1.0, time_limit=10.0))

    def __init__(self):
        self.asked = []

    def by_text(self, sentence, items, count):
        if not sentence.strip():
            return super().by_text(sentence, items, count)
        self.asked.append((sentence, items, count))
        maps = np.linspace(0, 1, 8).reshape(2, 2, 1, 2)
        return Answer([Hit(1, 0.5, maps), Hit(0, 0.25, maps)], [(0, 5), (6, 9)], "a score")

    def by_file(self, kind, data, items, count):
        self.asked.append((kind, data, items, count))
        if data == b"broken":
            raise ValueError("the file\ncannot be read")
        return Answer([Hit(0, 1.0, None)], [], "the coarse score")


def _unreadable():
    raise BadInput("unreadable_video", "cut short")


def _frames():
    return np.stack([np.full((16, 12, 3), shade, np.uint8) for shade in (0, 80, 160, 240)])


CLIPS = [
    Clip("first", video=_frames, captions=(Caption("it <moves>"),)),
    Clip("second", video=_unreadable, captions=(Caption("one"), Caption("two"))),
    Clip("heard", audio=lambda: Waveform(np.zeros(800, np.float32), 800)),
]


@pytest.fixture
def finder():
    return Given()


@pytest.fixture
def client(finder):
    application = search_server.application(
        finder, CLIPS, title="Search <it>", hosts=["testserver", "[::1]"], upload_bytes=MOST
    )
    # What fails within it fails the test.
    return testclient.TestClient(application, raise_server_exceptions=True)


def error(response, status):
    assert response.status_code == status
    (message,) = response.json().values()
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def test_the_page_is_whole(client):
    response = client.get("/")
    assert response.status_code == 200
    assert "Search &lt;it&gt;" in response.text
    assert 'src="http' not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


def test_a_sentence_finds_clips_with_maps_of_its_phrases(client, finder):
    answer = client.post("/search?count=2", content="a dog runs").json()
    assert finder.asked == [("a dog runs", "video", 2)]
    assert answer["phrases"] == [[0, 5], [6, 9]]
    assert [(hit["row"], hit["id"]) for hit in answer["hits"]] == [(1, "second"), (0, "first")]
    assert answer["hits"][0]["caption"] == "one · two"
    assert answer["hits"][0]["grid"] == [2, 1, 2]
    levels = np.frombuffer(base64.b64decode(answer["hits"][0]["maps"][1]), np.uint8)
    np.testing.assert_array_equal(levels, [146, 182, 219, 255])


def test_a_file_finds_clips(client, finder):
    answer = client.post("/search?kind=image", content=b"pixels").json()
    assert finder.asked == [("image", b"pixels", "video", 12)]
    assert "maps" not in answer["hits"][0]
    assert error(client.post("/search?kind=audio", content=b"broken"), 400) == (
        "the file cannot be read"
    )


def test_bad_questions_are_one_line(client):
    assert error(client.post("/search", content="  "), 400) == (
        "the query is empty; type a sentence"
    )
    assert error(client.post("/search?kind=smell", content="a"), 400) == (
        "kind='smell' is unknown; allowed: text, image, audio, video"
    )
    for count in ("0", "49", "-1", "x", "²", "0000000099"):
        assert "must be from 1 to 48" in error(
            client.post("/search", params={"count": count}, content="a"), 400
        )


def test_a_large_upload_is_refused_before_it_is_read(client, finder):
    def never():
        raise AssertionError("it was read")
        yield b""

    stated = {"Content-Length": str(2**30)}
    message = error(client.post("/search?kind=image", content=never(), headers=stated), 413)
    assert message.startswith("more than 0 MB")

    def endless():
        while True:
            yield bytes(MOST // 2)

    assert error(client.post("/search?kind=image", content=_some(endless(), 10)), 413) == message
    assert finder.asked == []


def _some(parts, count):
    for _, part in zip(range(count), parts, strict=False):
        yield part


@pytest.mark.parametrize(
    "path",
    [
        "/media/../../etc/passwd",
        "/media/%2e%2e%2fetc%2fpasswd",
        "/media//etc/passwd",
        "/media/-1",
        "/media/3",
        "/strip/video/3",
        "/strip/..%2f..%2fetc/0",
        "/strip/smell/0",
        "/etc/passwd",
    ],
)
def test_nothing_outside_the_corpus_is_served(client, path):
    assert error(client.get(path), 404)


def test_another_name_of_this_machine_is_refused(client):
    for host in ("evil.example", "testserver.evil.example", ""):
        response = client.get("/", headers={"Host": host})
        assert response.status_code == 400
        assert response.text == "Invalid host header"
    assert client.get("/", headers={"Host": "[::1]:8080"}).status_code == 200


def test_pictures_of_a_clip_and_the_clip_itself(client):
    response = client.get("/strip/video/0")
    assert response.headers["frames"] == "2"
    strip = decode.read_image(response.content, 160, 240)[0]
    assert abs(int(strip[80, 60, 0]) - 80) < 8
    assert abs(int(strip[80, 180, 0]) - 240) < 8
    played = client.get("/media/0")
    assert played.headers["content-type"] == "video/mp4"
    assert played.content[4:8] == b"ftyp"
    heard = client.get("/media/2")
    assert heard.headers["content-type"] == "audio/wav"
    assert heard.content[:4] == b"RIFF"


def test_a_clip_that_cannot_be_read_is_named(client):
    assert error(client.get("/media/1"), 404) == (
        "clip 1 cannot be shown: unreadable_video: cut short"
    )
    assert error(client.get("/strip/video/2"), 404) == "clip 2 cannot be shown: no_video: heard"
