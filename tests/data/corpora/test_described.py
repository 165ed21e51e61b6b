import collections

from fgmm.data.corpora import described, files
from fgmm.data.schema import Caption


def test_files_of_one_group_have_names_of_their_own(tmp_path):
    said = (Caption("words", 0.0, 1.0),)
    segments = [
        described.Segment(f"clip{number}", f"{name}.mp4", said, group)
        for number, (name, group) in enumerate([("a", "x"), ("b", "x"), ("c", "y"), ("d", "")])
    ]
    listing = described.Listing(files.Folder(tmp_path), segments, collections.Counter())
    found = [(record.clip_id, record.group) for record in described.RawFiles(listing)]
    assert found == [("a.mp4", "x"), ("b.mp4", "x"), ("y", "y"), ("d.mp4", "")]
