import os

import pytest

from fgmm import atomic


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    atomic.write_text(path, "before")
    assert path.read_text() == "before"
    moved = os.replace

    def dies(*paths):
        assert path.read_text() == "before"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_text(path, "after")
    assert path.read_text() == "before"
    monkeypatch.setattr(os, "replace", moved)
    atomic.write_text(path, "after")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "after"
