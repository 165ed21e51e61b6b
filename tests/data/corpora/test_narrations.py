import os

from fgmm.data.corpora import narrations


def test_processes_of_one_number_do_not_write_one_index(tmp_path):
    path = tmp_path / "captions.json"
    path.write_text('{"a": {"start": [0], "end": [1], "text": ["one"]}}')
    # Where another machine's process of this number would write.
    (tmp_path / f"captions.json.index.npy.{os.getpid()}").mkdir()
    narrations.JsonFile(path)
    assert (tmp_path / "captions.json.index.npy").exists()
