import os

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.convert import word_list

WORDS = ["add", "it's", "crème"]


@pytest.mark.parametrize("kind", [str, object])
def test_words_in_order(tmp_path, kind):
    path = tmp_path / "words.npy"
    np.save(path, np.array(WORDS, kind), allow_pickle=True)
    assert word_list.read(path) == WORDS


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_is_executed(tmp_path):
    path = tmp_path / "words.npy"
    np.save(path, np.array(["add", Evil(tmp_path / "made")], object), allow_pickle=True)
    with pytest.raises(ConfigError, match=r"words\.npy is no list of words: its pickle asks for"):
        word_list.read(path)
    assert not (tmp_path / "made").exists()
    np.load(path, allow_pickle=True)  # which would have
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(3), "it holds int, not strings alone"),
        (np.array(["a", 1], object), "it holds int, not strings alone"),
        (np.array([["a", "b"]]), r"it has shape \(1, 2\), not \[words\]"),
        (np.array("a"), r"it has shape \(\), not \[words\]"),
        (np.array([], str), "it is empty"),
        (np.array([b"a"]), "it holds bytes, not strings alone"),
    ],
)
def test_other_arrays_are_named(tmp_path, array, message):
    path = tmp_path / "words.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(ConfigError, match=message):
        word_list.read(path)


@pytest.mark.parametrize("kind", [str, object])
def test_damaged_files_are_named(tmp_path, kind):
    path = tmp_path / "words.npy"
    np.save(path, np.array(WORDS, kind), allow_pickle=True)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ConfigError, match=r"words\.npy is no list of words"):
        word_list.read(path)
    path.write_text("add it's")
    with pytest.raises(ConfigError, match=r"words\.npy is no list of words"):
        word_list.read(path)
    with pytest.raises(ConfigError, match=r"gone\.npy cannot be read: No such file"):
        word_list.read(tmp_path / "gone.npy")
