import html
import re
import types

import numpy as np
import pytest

from fgmm import components
from fgmm.data import contact_sheet, inspect
from fgmm.data.preparation import raw as raws
from fgmm.data.schema import BadInput, Caption, Clip, Waveform
from tests import programs
from tests.data import flickr8k_fixture, video_fixture
from tests.data.video_fixture import numbered, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = video_fixture.write_narrated_videos(tmp_path_factory.mktemp("corpus") / "v", 5)
    (root / "1.vtt").unlink()
    (root / "2.mp4").write_text("broken")
    pictures = [numbered(i) for i in range(20)]
    write_video(root / "3.mp4", pictures, sound=np.zeros(16000, np.float32))
    write_video(root / "4.mp4", pictures)
    return root


def opened(source, root):
    """A source as the program opens it."""
    chosen = raws.choose(source, raw=False)
    entry = {"name": chosen.name, "root": str(root), **chosen.options}
    return components.build("data.sources", entry, key="--source")


def page_of(source, heading="corpus", shown=10):
    seen, statistics = inspect.look(
        source, shown=shown, counted=100, seed=0, segmenter="function_words"
    )
    page = contact_sheet.page(
        heading=heading,
        size=len(source),
        left_out=dict(source.report),
        segmenter="function_words",
        seen=seen,
        statistics=statistics,
    )
    return page, statistics


def test_statistics_of_videos(folder):
    page, found = page_of(opened("video_folder:validation=0.0,seconds=1.0", folder))
    assert (found.clips, found.without_video, found.without_sound, found.silent) == (4, 0, 1, 1)
    assert (found.without_captions, found.captions.count(1)) == (1, 3)
    assert found.sound_seconds == [1.0] * 3
    assert (found.words, found.phrases, found.phrase_words) == ([9] * 3, [2] * 3, [5, 4] * 3)
    assert "<td>unreadable_video</td><td" in page
    assert page.count('alt="frames"') == 4
    assert page.count('alt="waveform"') == 3
    marked = '<mark>the number 0 is shown</mark> <mark class="odd">in black and white</mark>'
    assert marked in page
    assert "0.0 to 1.0 s" in page


def test_the_page_needs_nothing_else_and_runs_nothing(tmp_path):
    root = flickr8k_fixture.write_flickr8k(tmp_path / "flickr", images=4, seed=1)
    page, found = page_of(opened("flickr8k:split=dev", root), heading="<b>&")
    assert found.without_captions == 0
    assert "<h1>&lt;b&gt;&amp;</h1>" in page
    links = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert links
    assert all(link.startswith("data:image/") for link in links)
    assert "<script" not in page
    assert "http" not in page


class Odd:
    """Clips with words that look like markup, and media that cannot be read."""

    report = types.MappingProxyType({})

    def __len__(self):
        return 1

    def __getitem__(self, index):
        def unreadable():
            raise BadInput("unreadable_video", "<damaged>")

        sound = Waveform(np.zeros(0, np.float32), 8000)
        spoken = (Caption("a <script>alert(1)</script> & b", -1.0, 2.0), Caption("🙂"))
        return Clip("<id>", unreadable, lambda: sound, spoken, labels={"<l>": 1})


def test_words_are_no_markup():
    page, found = page_of(Odd())
    assert found.problems == {"unreadable_video": 1}
    assert "&lt;damaged&gt;" in page
    assert "<script" not in page
    assert "<id>" not in page
    text = html.unescape(re.sub(r"</?(mark|span)[^>]*>", "", page))
    assert "a <script>alert(1)</script> & b" in text
    assert "-1.0 to 2.0 s" in page


def test_a_drawn_sample_repeats_itself_and_nothing(folder):
    source = opened("video_folder:validation=0.0,seconds=0.2", folder)

    def drawn(seed):
        seen, _ = inspect.look(source, shown=6, counted=1, seed=seed, segmenter="words")
        return [clip.index for clip in seen]

    looks = [drawn(1), drawn(1), drawn(2)]
    assert looks[0] == looks[1] != looks[2]
    assert len(set(looks[0])) == 6


def test_the_program(repository, tmp_path):
    def run(*arguments):
        return programs.run("fgmm.data.inspect", *arguments, cwd=repository)

    output = tmp_path / "page.html"
    # Where another run would write, if names were not drawn.
    (tmp_path / "page.html.partial").mkdir()
    ran = run("--source=narrated_shapes:split=validation", f"--output={output}", "--sample=3")
    assert ran.returncode == 0, ran.stderr
    assert output.read_text().count('alt="frames"') == 24
    for arguments, code, message in [
        (["--source=nope", f"--output={output}"], 2, "--source='nope' is unknown"),
        (["--source=narrated_shapes", f"--output={output}/b"], 2, "cannot be written"),
    ]:
        ran = run(*arguments, "--records=1", "--sample=1")
        assert ran.returncode == code
        assert message in ran.stderr.splitlines()[-1]
