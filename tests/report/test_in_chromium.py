"""Both pages in Debian's Chromium, headless: nothing on the console, data in plots, clips found.

They need ``apt-get install chromium`` and the extras ``browser`` and ``search``.
"""

import contextlib
import shutil
import threading
import time

import pytest
from PIL import Image

from tests import programs
from tests.report import pages_fixture

pytestmark = pytest.mark.long

MILLISECONDS = 60_000


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium; apt-get install chromium")
    with playwright.sync_playwright() as started:
        # As root there is no sandbox.
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(chromium, address, width=1600, scheme="light"):
    """A page, of which nothing may reach the console."""
    size = {"width": width, "height": 900}
    context = chromium.new_context(viewport=size, color_scheme=scheme)
    context.set_default_timeout(MILLISECONDS)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert said == []


@pytest.fixture(scope="module")
def report(tmp_path_factory, request):
    run = pages_fixture.write_run(tmp_path_factory.mktemp("run"))
    flags = (f"--workdir={run}", "--clips=1", "--gallery=6")
    result = programs.run("fgmm.report.build", *flags, cwd=request.config.rootpath)
    assert result.returncode == 0, result.stderr
    return (run / "report" / "index.html").as_uri()


@pytest.mark.parametrize("width", [400, 900, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_fits_and_its_plots_have_data(chromium, report, width, scheme):
    with opened(chromium, report, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        plots = page.locator("figure.plot")
        assert plots.count() >= 6
        for plot in plots.all():
            box = plot.locator("polyline").first.bounding_box()
            assert box["width"] > 0.4 * min(width, 340)
            points = plot.locator("polyline").first.get_attribute("points").split()
            assert len(points) == 2
            # In pixels of the screen.
            size = page.evaluate(
                "text => text.getBoundingClientRect().height",
                plot.locator("text").first.element_handle(),
            )
            assert size >= 9
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert (_lightness(paper) > _lightness(ink)) == (scheme == "light")
        assert _lightness(paper) - _lightness(ink) > 150 or scheme == "dark"
        images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
        assert images
        assert all(complete and natural for complete, natural in images)


def until(page, expression):
    """Waits. The page's policy forbids what playwright itself would wait with."""
    for _ in range(MILLISECONDS // 100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise TimeoutError(expression)


def _lightness(colour):
    return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")) / 3


@pytest.fixture(scope="module")
def searching():
    """The address of the search page on a small corpus."""
    uvicorn = pytest.importorskip("uvicorn")
    from fgmm.report import search, search_server
    from fgmm.report.finder import Finder
    from fgmm.trained import Model

    experiment = pages_fixture.experiment()
    source = experiment.source(experiment.config.evals.retrieval.source, "source")
    model = Model(experiment, pages_fixture.state())
    found = search.banks(experiment, model.state, source, "joint")
    application = search_server.application(
        Finder(model, found, "joint"),
        source,
        title="Search",
        hosts=["127.0.0.1"],
        upload_bytes=2**20,
    )
    with search.bound("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


@pytest.mark.parametrize("width", [400, 1600])
def test_a_sentence_finds_clips_that_play(chromium, searching, width):
    with opened(chromium, searching, width) as page:
        page.fill("#query", "a red star moves left while a blue square jumps")
        page.click("text=Search >> visible=true >> nth=-1")
        page.wait_for_selector("#hits li")
        assert page.locator("#hits li").count() == 6
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("#hits canvas[data-phrase]").nth(5).wait_for()
        phrases = page.locator("#said span")
        assert phrases.nth(0).inner_text() == "a red star moves left"
        # A letter that a string of JavaScript counts twice.
        page.fill("#query", "🐕 a red star moves left while a blue square jumps")
        page.click("text=Search >> visible=true >> nth=-1")
        until(page, "document.querySelector('#said').innerText.startsWith('🐕')")
        until(page, "document.querySelector('#said span') !== null")
        assert "a blue square jumps" in phrases.last.inner_text()
        assert phrases.last.inner_text().endswith("jumps")
        assert phrases.nth(0).inner_text().endswith("left")
        page.fill("#query", "a red star moves left while a blue square jumps")
        page.click("text=Search >> visible=true >> nth=-1")
        until(page, "document.querySelector('#said span')?.innerText === 'a red star moves left'")
        page.locator("#hits canvas[data-phrase]").nth(5).wait_for()
        painted = "document.querySelector('#hits canvas').toDataURL()"
        before = page.evaluate(painted)
        phrases.nth(0).hover()
        assert page.locator("#hits canvas[data-phrase='0']").count() == 6
        assert page.evaluate(painted) != before
        page.locator("#hits .screen").nth(0).click()
        page.locator("video").wait_for()
        until(page, "document.querySelector('video').readyState >= 1")
        assert page.evaluate("document.querySelector('video').videoWidth") > 0


def test_a_picture_finds_clips_and_bad_input_is_a_line(chromium, searching, tmp_path):
    Image.fromarray(pages_fixture.picture()).save(tmp_path / "clip.png")
    with opened(chromium, searching) as page:
        page.set_input_files("#file", tmp_path / "clip.png")
        page.wait_for_selector("#hits li")
        assert page.inner_text("#said") == "clip.png"
        assert "by the coarse score" in page.inner_text("#status")
        (tmp_path / "large.png").write_bytes(bytes(2**20 + 1))
        page.set_input_files("#file", tmp_path / "large.png")
        page.wait_for_selector("#status.bad")
        assert page.inner_text("#status") == "the file is larger than 1 MB"
        assert page.locator("#hits li").count() == 0
        page.fill("#query", "  ")
        page.press("#query", "Enter")
        page.wait_for_selector("text=the query is empty")
        assert page.inner_text("#status") == "the query is empty; type a sentence"
