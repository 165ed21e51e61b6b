import collections
import io
import os
import pickle
import stat
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data.corpora.files import Archive, find, open_files, read_json, read_text, rooted, stems

CONTENT = {
    "a.txt": b"hello",
    "deep/er/b.bin": np.random.default_rng(0).bytes(5000),
    "deep/empty": b"",
    "long/" + "n" * 150 + ".txt": b"a name longer than plain tar headers hold",
    "größe.txt": b"unicode",
}


def write_tar(path, content=CONTENT, mode="w", prefix=""):
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path, content=CONTENT, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(params=["folder", "tar", "tar with dots", "zip", "stored zip"])
def packed(request, tmp_path):
    path = tmp_path / "packed"
    match request.param:
        case "folder":
            for name, data in CONTENT.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(data)
        case "tar":
            write_tar(path)
        case "tar with dots":
            write_tar(path, prefix="./")
        case "zip":
            write_zip(path)
        case "stored zip":
            write_zip(path, method=zipfile.ZIP_STORED)
    return path


def test_files_are_read_by_name(packed):
    files = open_files(packed)
    for name, data in CONTENT.items():
        assert name in files
        assert files.read(name) == data
    assert "deep" not in files
    with pytest.raises(FileNotFoundError):
        files.read("nothing")


def test_names_folders_and_what_is_below_one(packed):
    files = open_files(packed)
    assert sorted(files.names()) == sorted(CONTENT)
    assert files.folders() == ["deep", "long"]
    below = pickle.loads(pickle.dumps(files.below("deep")))
    assert sorted(below.names()) == ["empty", "er/b.bin"]
    assert below.read("er/b.bin") == CONTENT["deep/er/b.bin"]
    assert "a.txt" not in below


def test_a_corpus_begins_where_its_landmark_is(packed):
    files = open_files(packed)
    assert rooted(files, "a.txt") is files
    assert "er/b.bin" in rooted(files, "er/b.bin")
    assert rooted(files, "nowhere") is files


def test_files_are_found_by_their_last_names(packed):
    files = open_files(packed)
    assert find(files, ["b.bin", "a.txt", "none"]) == ["deep/er/b.bin", "a.txt"]
    report = collections.Counter()
    assert stems(files, (".bin",), report) == {"b": "deep/er/b.bin"}
    assert not report


def test_what_begins_with_a_dot_is_passed_over(tmp_path):
    content = {"a.txt": b"", "._a.txt": b"", ".git/a.txt": b"", "deep/.b": b""}
    archive = open_files(write_tar(tmp_path / "packed", content))
    for name, data in content.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    folder = open_files(tmp_path / "folder")
    assert list(archive.names()) == list(folder.names()) == ["a.txt"]


def test_text_and_json_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "good.json").write_text('\ufeff{"a": 1}')
    folder = open_files(tmp_path)
    assert read_json(folder, "good.json") == {"a": 1}
    for name in ("latin.txt", "none.txt"):
        with pytest.raises(ConfigError, match=f"has no readable {name}"):
            read_text(folder, name)
    with pytest.raises(ConfigError, match=r"bad\.json is no JSON"):
        read_json(folder, "bad.json")


def test_files_can_be_pickled_and_read_by_many_threads(packed):
    files = pickle.loads(pickle.dumps(open_files(packed)))
    names = list(CONTENT) * 100
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(files.read, names)) == [CONTENT[name] for name in names]


@pytest.mark.parametrize("name", ["../up", "/absolute", "in/../../up", "./../up"])
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_names_that_lead_out_of_the_archive_are_refused(tmp_path, name, write):
    path = write(tmp_path / "unsafe", {"fine": b"", name: b"bad"})
    with pytest.raises(ConfigError, match="unsafe name"):
        open_files(path)


def test_missing_damaged_and_compressed_archives_are_refused(tmp_path):
    (tmp_path / "text.tar").write_text("no archive\n" * 100)
    (tmp_path / "empty.tar").write_bytes(b"")
    write_tar(tmp_path / "packed.tar.gz", mode="w:gz")
    (tmp_path / "cut.tar").write_bytes(write_tar(tmp_path / "whole.tar").read_bytes()[:3000])
    (tmp_path / "cut.zip").write_bytes(write_zip(tmp_path / "whole.zip").read_bytes()[:3000])
    write_zip(tmp_path / "lzma.zip", method=zipfile.ZIP_LZMA)
    for name in ["missing", "text.tar", "empty.tar", "packed.tar.gz", "cut.tar", "cut.zip"]:
        with pytest.raises(ConfigError, match=name):
            open_files(tmp_path / name)
    with pytest.raises(
        ConfigError, match="encrypted, or compressed by a method other than deflate"
    ):
        open_files(tmp_path / "lzma.zip")


def test_links_to_nothing_are_no_files(tmp_path):
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo(f"link{kind.decode()}")
            member.type, member.linkname = kind, "elsewhere"
            archive.addfile(member)
    files = open_files(tmp_path / "links.tar")
    assert "link1" not in files
    assert "link2" not in files


def test_links_of_an_archive_to_its_files_are_these_files(tmp_path):
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        for name, target, kind in (
            ("a/soft.txt", "../b/second.txt", tarfile.SYMTYPE),  # before what it leads to
            ("b/second.txt", "first.txt", tarfile.SYMTYPE),
            ("hard.txt", "b/first.txt", tarfile.LNKTYPE),
            ("folder", "b", tarfile.SYMTYPE),
            ("around", "a/around", tarfile.SYMTYPE),
            ("a/around", "../around", tarfile.SYMTYPE),
        ):
            archive.addfile(link(name, target, kind))
        member = tarfile.TarInfo("b/first.txt")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"words"))
    files = open_files(tmp_path / "links.tar")
    names = ["a/soft.txt", "b/first.txt", "b/second.txt", "hard.txt"]
    assert list(files.names()) == names
    assert [files.read(name) for name in names] == [b"words"] * 4
    assert files.stat("hard.txt")[0] == 5


def test_damage_that_shows_when_reading_is_an_os_error(tmp_path):
    path = write_zip(tmp_path / "damaged.zip", {"a": bytes(5000)})
    archive = Archive(path)
    data = bytearray(path.read_bytes())
    data[31:36] = b"\xff" * 5
    path.write_bytes(data)
    with pytest.raises(OSError, match="'a' is damaged"):
        archive.read("a")
    path.write_bytes(data[:33])
    with pytest.raises(OSError, match="ends within"):
        archive.read("a")


def link(name, target, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        link("a/up", "../../passwd", tarfile.SYMTYPE),
        link("absolute", "/etc/passwd", tarfile.SYMTYPE),
        link("a/hard", "../passwd", tarfile.LNKTYPE),
        link("a/hard", "/etc/passwd", tarfile.LNKTYPE),
        link("../folder", "", tarfile.DIRTYPE),
        link("../link", "a", tarfile.SYMTYPE),
        link("device", "", tarfile.CHRTYPE),
        link("disk", "", tarfile.BLKTYPE),
        link("pipe", "", tarfile.FIFOTYPE),
    ],
)
def test_links_that_lead_out_and_devices_are_refused(tmp_path, member):
    with tarfile.open(tmp_path / "unsafe.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(ConfigError, match=r"unsafe name|leads out|a device or a pipe"):
        open_files(tmp_path / "unsafe.tar")


@pytest.mark.parametrize(("target", "safe"), [("b.txt", True), ("../../etc/passwd", False)])
def test_links_in_zip_files(tmp_path, target, safe):
    info = zipfile.ZipInfo("a/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as archive:
        archive.writestr(info, target)
        archive.writestr("a/b.txt", "words")
    if safe:
        assert open_files(tmp_path / "links.zip").read("a/link") == b"words"
    else:
        with pytest.raises(ConfigError, match="leads out"):
            open_files(tmp_path / "links.zip")


def test_names_that_no_file_can_have_are_missing_files(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret").write_text("secret")
    folder = open_files(tmp_path / "folder")
    for name in ("../secret", str(tmp_path / "secret"), "nul\0", "long" * 1000, "\ud800"):
        assert name not in folder
        with pytest.raises(FileNotFoundError):
            folder.read(name)


def test_a_member_larger_than_its_archive_is_refused(tmp_path):
    data = bytearray(write_tar(tmp_path / "whole.tar", {"a": b"hello"}).read_bytes())
    data[124:136] = b"77777777777\0"
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 8 * 32)
    (tmp_path / "large.tar").write_bytes(data)
    with pytest.raises(ConfigError, match=r"ends within its member 'a'|unexpected end of data"):
        open_files(tmp_path / "large.tar")


def test_a_member_that_would_fill_the_memory_is_an_os_error(tmp_path, monkeypatch):
    monkeypatch.setattr("fgmm.data.corpora.files._LARGEST", 4000)
    archive = Archive(write_zip(tmp_path / "bomb.zip", {"a": bytes(5000), "b": bytes(3000)}))
    assert archive.read("b") == bytes(3000)
    with pytest.raises(OSError, match="'a' of 5000 bytes is too large"):
        archive.read("a")


def test_a_member_of_more_than_one_read(tmp_path, monkeypatch):
    """The system gives at most 2 GiB at a time."""
    files, read = open_files(write_tar(tmp_path / "a.tar")), os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: read(file, min(size, 7), offset))
    assert files.read("deep/er/b.bin") == CONTENT["deep/er/b.bin"]


def test_a_zip_file_with_a_member_without_a_name_is_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "nameless.zip", "w") as archive:
        archive.writestr("a.txt", b"hello")
        archive.writestr("b", b"hello")
        archive.filelist[1].filename = ""
    assert "a.txt" in open_files(tmp_path / "nameless.zip")


def test_links_to_folders_are_followed_once(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for path in (root / "b" / "inside.mp4", elsewhere / "deep" / "outside.mp4"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    links = {
        root / "a": root / "b",  # its files are found without it
        root / "b" / "up": root,  # a cycle
        root / "c": elsewhere,
        root / "d": elsewhere,  # the same once more
        elsewhere / "back": root,  # a cycle by way of another folder
        root / "e": tmp_path / "nowhere",
    }
    for link, target in links.items():
        link.symlink_to(target)
    files = open_files(root)
    # A link to nothing is a file that cannot be read.
    assert list(files.names()) == ["e", "b/inside.mp4", "c/deep/outside.mp4"]
    assert "c/deep/outside.mp4" in files
