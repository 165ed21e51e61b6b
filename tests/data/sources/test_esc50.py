import shutil
import zipfile

import pytest

from fgmm.data.sources import esc10, esc50
from fgmm.data.sources.esc50 import Source
from tests.data.corpora_fixture import ESC50, write_esc50


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_esc50(tmp_path_factory.mktemp("corpus") / "ESC-50-master")


def test_labels_are_targets_and_groups_are_folds(corpus):
    source = Source(root=str(corpus), seconds=1.0)
    assert len(esc50.CLASSES) == len(set(esc50.CLASSES)) == 50
    clips = [source[i] for i in range(len(source))]
    assert [clip.labels["sound"] for clip in clips[::5]] == list(ESC50.values())
    names = [esc50.CLASSES[clip.labels["sound"]].replace(" ", "_") for clip in clips[::5]]
    assert names == list(ESC50)
    assert [clip.group for clip in clips] == list("12345") * 4
    assert len(clips[0].audio().samples) == 16_000
    assert clips[0].video is None
    assert not source.report


def test_the_archive_as_it_is_published_has_a_folder_above(corpus, tmp_path):
    with zipfile.ZipFile(tmp_path / "master.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(corpus.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(corpus.parent).as_posix())
    for root in (tmp_path / "master.zip", corpus.parent):
        source = Source(root=str(root))
        assert len(source) == 20
        assert source[0].clip_id == "audio/1-1000-A-0.wav"
        assert source[0].audio().samples.any()


def test_esc10_is_the_marked_part_of_it(corpus):
    source = esc10.Source(root=str(corpus))
    assert len(source) == 15
    assert esc10.Source.classes["sound"][9] == "chainsaw"
    labels = [source.classes["sound"][source[i].labels["sound"]] for i in range(0, 15, 5)]
    assert labels == ["dog", "sea waves", "chainsaw"]


def test_categories_that_are_no_class_are_counted(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    with (own / "meta" / "esc50.csv").open("a") as table:
        table.write("1-1000-A-0.wav,1,50,unheard_of,False,1,A\n")
    source = Source(root=str(own))
    assert len(source) == 20
    assert source.report == {"malformed_line": 1}
