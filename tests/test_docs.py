"""Pages for readers: links and commands are there, examples run as they stand."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests import compilation
from tests.data.video_fixture import write_howto100m

REPOSITORY = pathlib.Path(__file__).parents[1]
PAGES = [REPOSITORY / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))


def anchors(page):
    """Names that a link to a page may end with: of its headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    named = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return named | set(re.findall(r'<a name="([^"]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
class TestPage:
    def test_links_lead_somewhere(self, page):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        links = re.findall(r"\]\(([^)\s]+)\)", text)
        for link in links:
            if re.match(r"https?:", link):
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            if anchor:
                assert anchor in anchors(target), link

    def test_what_it_names_is_there(self, page):
        """Programs, scripts and files of this repository; X and my_ stand for what readers have."""
        text = page.read_text()
        for module in re.findall(r"python3? -m ((?:fgmm|benchmarks|tests)[\w.]*)", text):
            path = REPOSITORY / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
        rooms = "benchmarks|configs|docs|fgmm|launch|tests"
        for path in re.findall(rf"(?<![\w/.@-])((?:{rooms})/[\w/.]*\w)(?![\w{{*])", text):
            if "my_" not in path and not path.endswith("/X.py"):
                assert (REPOSITORY / path).exists(), path


PAGE = (REPOSITORY / "docs" / "losses.md").read_text()
EXAMPLES = [
    (section.partition("\n")[0], code)
    for section in PAGE.split("\n## ")
    for code in re.findall(r"```python\n(.*?)```", section, re.S)
]


def test_every_example_is_found():
    assert len(EXAMPLES) == PAGE.count("```python") >= 4


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_an_example_runs(title, code):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": compilation.flags(devices=8),
        "PYTHONPATH": str(REPOSITORY),
    }
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


DATA = (REPOSITORY / "docs" / "data.md").read_text()
# Programs run one after the other in one process, for each import takes seconds.
RUN_ALL = """
import json, runpy, sys
from absl import app, flags, logging
known = set(flags.FLAGS)
for module, *arguments in json.loads(sys.argv[1]):
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert not ended.code, (module, ended.code)
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
"""


def test_howto100m_from_files_to_a_page(tmp_path):
    section = DATA.partition("## HowTo100M, from files to the first step")[2]
    block = re.search(r"```bash\n(.*?)```", section, re.S)[1].replace("\\\n", " ")
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["python", "-m"]] * 5
    assert commands[-1][2] == "fgmm.main"
    write_howto100m(tmp_path / "howto100m", 6)
    run = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps([command[2:] for command in commands[:-1]])],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert "all shards of prepared are as they were written" in run.stdout
    assert (tmp_path / "look.html").stat().st_size > 10_000
    manifest = json.loads((tmp_path / "prepared" / "manifest.json").read_text())
    assert [shard["records"] for shard in manifest["shards"]] == [6]
