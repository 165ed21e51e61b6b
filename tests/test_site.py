"""The site of docs/ builds without a warning, and its links lead somewhere."""

import html
import html.parser
import os
import re
import socket
import subprocess
import sys
import urllib.parse

import pytest

from tests.conftest import REPOSITORY


def sphinx(out, *options):
    return subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"),
            *(f"--doctree-dir={out.parent / 'doctrees'}", *options, REPOSITORY / "docs", out),
        ],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_pages_are_read_without_a_warning(tmp_path):
    built = sphinx(tmp_path / "nothing", "--builder=dummy")
    assert built.returncode == 0, built.stdout + built.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "html"
    built = sphinx(out)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


class Page(html.parser.HTMLParser):
    """What a page links to, and what a link to it may end with."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id") or found.get("name"))
        if link := found.get("href") or found.get("src"):
            self.links.add(link)


@pytest.mark.long
def test_links_within_the_site_lead_somewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 50
    lost = set()
    for path, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
            target = target if parts.path else path
            known = pages[target].anchors if target in pages else {parts.fragment}
            if not target.exists() or (parts.fragment and parts.fragment not in known):
                lost.add((str(path.relative_to(site)), link))
    assert not lost


@pytest.mark.long
def test_the_front_page_is_the_readme(site):
    front = (site / "index.html").read_text()
    titles = re.findall(r"^## (.+)$", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    assert titles
    assert all(f"<h2>{title}<" in front for title in titles)
    assert 'href="data.html#tars-lists-and-saved-datasets"' in front
    assert 'href="repository/fgmm/config/sections.py.html"' in front


@pytest.mark.long
def test_the_reference_has_all_that_is_public(site):
    from fgmm import losses

    reference = (site / "api.html").read_text()
    names = {f"fgmm.losses.{name}" for name in losses.__all__}
    names |= {"fgmm.load", "fgmm.trained.Model.embed_video"}
    assert names <= set(re.findall(r'id="([\w.]+)"', reference))
    shown = html.unescape(re.sub(r"<[^>]+>", "", reference))
    assert "Float[Array, 'B N D']" in shown
    assert "jaxtyping.Float" not in shown


@pytest.mark.long
def test_keys_of_the_config_are_listed(site):
    options = re.sub(r"<[^>]+>", "", (site / "options.html").read_text())
    assert "optimizer.learning_rate=" in options
    assert "T, frames of a clip." in options


@pytest.mark.long
def test_links_to_other_sites_lead_somewhere(tmp_path):
    try:
        socket.create_connection(("arxiv.org", 443), timeout=10).close()
    except OSError:
        pytest.skip("no network")
    checked = sphinx(tmp_path / "links", "--builder=linkcheck")
    assert checked.returncode == 0, checked.stdout + checked.stderr
