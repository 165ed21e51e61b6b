"""The examples of docs/losses.md and the commands of docs/data.md run as they stand."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests.data.video_fixture import write_howto100m

REPOSITORY = pathlib.Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "losses.md").read_text()
EXAMPLES = re.findall(r"\n## ([^\n]+)\n(?:(?!\n## ).)*?```python\n(.*?)```", PAGE, re.S)


def test_there_are_three_examples():
    assert len(EXAMPLES) == PAGE.count("```python") == 3


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_an_example_runs(title, code):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
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
