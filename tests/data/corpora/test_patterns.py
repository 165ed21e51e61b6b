import pytest

from fgmm.config import ConfigError
from fgmm.data.corpora import patterns


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{9..11}.tar", ["9.tar", "10.tar", "11.tar"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("x{a{0..1},c}", ["xa0", "xc", "xa1", "xc"]),
        ("plain", ["plain"]),
    ],
)
def test_braces_are_those_of_a_shell(pattern, names):
    assert list(patterns.expanded(pattern)) == names


@pytest.fixture
def folder(tmp_path):
    for name in (
        "a/0.tar",
        "a/1.tar",
        "b/0.tar",
        "b/.hidden.tar",
        "b/0.json",
        "odd[1].tar",
        "c/0.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c" / "pair_list-0.index.arrow").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ["a/0.tar", "a/1.tar", "b/0.tar", "odd[1].tar"]),
        ("a/0.tar", ["a/0.tar"]),
        ("*/0.tar", ["a/0.tar", "b/0.tar"]),
        ("{b,a}/*.tar", ["b/0.tar", "a/0.tar", "a/1.tar"]),
        ("{a/1,a/1,a/2}.tar", ["a/1.tar", "a/2.tar"]),
        ("odd[1].tar", ["odd[1].tar"]),
        ("c/*.tar", []),
        ("c/*", ["c/0.csv"]),
    ],
)
def test_files_that_a_path_names(folder, path, names):
    found = patterns.named(str(folder / path), (".tar",))
    assert found == [str(folder / name) for name in names]


def test_the_folder_of_a_pattern(folder, monkeypatch):
    for path in ("a/{0..1}.tar", "a/*.tar", "a/0.tar", "a"):
        assert patterns.folder_of(str(folder / path)) == str(folder / "a")
    assert patterns.folder_of(str(folder / "{a,b}" / "0.tar")) == str(folder)
    monkeypatch.chdir(folder)
    assert patterns.folder_of("{0..1}.tar") == str(folder)


def test_more_names_than_a_corpus_has_are_refused(monkeypatch):
    monkeypatch.setattr(patterns, "_MOST", 10)
    assert len(patterns.named("{0..9}.tar", (".tar",))) == 10
    with pytest.raises(ConfigError, match=r"root='{0\.\.99}\.tar' stands for more than 10 names"):
        patterns.named("{0..99}.tar", (".tar",))


def test_linked_folders_are_read_once(folder):
    (folder / "latest").symlink_to(folder / "a")
    (folder / "a" / "itself").symlink_to(folder)
    found = patterns.named(str(folder), (".tar",))
    assert found == [str(folder / name) for name in ("a/0.tar", "a/1.tar", "b/0.tar", "odd[1].tar")]
