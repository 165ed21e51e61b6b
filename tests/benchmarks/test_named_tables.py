import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks.pages import named_tables
from fgmm.config import ConfigError

PLACES = "# Page\n\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b: c -->\n<!-- end -->\n"


def test_each_table_comes_into_its_place_and_nothing_else_changes():
    filled = named_tables.filled(PLACES, {"a": "A\\1", "b: c": "B"})
    assert filled == (
        "# Page\n\n<!-- a -->\n\nA\\1\n\n<!-- end -->\nbetween\n"
        "<!-- b: c -->\n\nB\n\n<!-- end -->\n"
    )
    assert named_tables.filled(filled, {"b: c": "B"}) == filled


@pytest.mark.parametrize("text", ["# Page\n", "<!-- a -->\nno end\n"])
def test_a_table_without_a_place_is_an_error(text):
    with pytest.raises(ConfigError, match="no <!-- a --> and <!-- end -->"):
        named_tables.filled(text, {"a": "A"})


def test_rows():
    assert named_tables.markdown([["a", "b"], ["---", "---:"]]) == "| a | b |\n| --- | ---: |"


def test_a_page_is_filled_from_the_results_beside_its_folder(tmp_path):
    (tmp_path / "measured").mkdir()
    (tmp_path / "results").mkdir()
    page = tmp_path / "measured" / "page.md"
    page.write_text(PLACES)
    (tmp_path / "results" / "a.json").write_text('{"value": 3}')
    if "page" not in flags.FLAGS:
        flags.DEFINE_string("page", None, "")
    with flagsaver.flagsaver(page=str(page)):
        results = named_tables.fill_page("a.json", lambda r: {"a": f"value {r['value']}"})
        assert results == {"value": 3}
        assert page.read_text() == named_tables.filled(PLACES, {"a": "value 3"})
        with pytest.raises(ConfigError, match=r"b\.json is missing"):
            named_tables.fill_page("b.json", lambda r: {})
