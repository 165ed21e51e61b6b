import pathlib

import pytest

import fgmm
from fgmm import command_line, remote
from fgmm.config import ConfigError
from fgmm.data.sources.video_folder import Source
from fgmm.data.text import tokenizers
from fgmm.train import checkpoint


def test_a_local_path_is_fine():
    for path in ("runs/a", "/runs/a", "a:b/c", pathlib.Path("C:/runs"), "~/runs", "x:1"):
        remote.refuse(path, "--workdir")


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://bucket/run", "https://host/run"])
def test_remote_storage_is_refused_in_one_line(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scheme = url.partition(":")[0]
    for opens in (
        fgmm.load,
        lambda path: checkpoint.load(pathlib.Path(path)),
        lambda path: checkpoint.WorkdirLock(pathlib.Path(path)),
        command_line.folder_to_write,
        lambda path: command_line.file_to_write(f"{path}/result.json"),
        lambda path: Source(root=path),
        tokenizers.load,
    ):
        with pytest.raises(ConfigError, match=f"{scheme}:// is remote storage.* mount it") as error:
            opens(url)
        assert "\n" not in str(error.value)
    # No folder of that name was made.
    assert not list(tmp_path.iterdir())
