import collections

from fgmm.data.corpora import files, labelled


def test_fields_keep_the_lines_within_them(tmp_path):
    content = 'name,said\r\na,"a dog\r\nbarks twice"\r\nb,x\u2028y\x85z\r\n\r\nc,\r\n'
    (tmp_path / "a.csv").write_bytes(content.encode())
    report = collections.Counter()
    rows = labelled.read_table(files.open_files(tmp_path), "a.csv", ("name", "said"), report)
    said = [row["said"].split() for row in rows]
    assert said == [["a", "dog", "barks", "twice"], ["x", "y", "z"]]
    assert report == {"malformed_line": 1}


def test_lines_end_where_the_file_says(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffA man\x85 rides \r\n\r\n b\u2028c\n".encode())
    lines = labelled.read_lines(files.open_files(tmp_path), "a.txt")
    assert lines == ["A man\x85 rides", "b\u2028c"]
