import pytest

from fgmm.config import ConfigError
from fgmm.report import page

PLACES = "# Page\n\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b: c -->\n<!-- end -->\n"


def test_each_table_comes_into_its_place_and_nothing_else_changes():
    filled = page.filled(PLACES, {"a": "A\\1", "b: c": "B"})
    assert filled == (
        "# Page\n\n<!-- a -->\n\nA\\1\n\n<!-- end -->\nbetween\n"
        "<!-- b: c -->\n\nB\n\n<!-- end -->\n"
    )
    assert page.filled(filled, {"b: c": "B"}) == filled


@pytest.mark.parametrize("text", ["# Page\n", "<!-- a -->\nno end\n"])
def test_a_table_without_a_place_is_an_error(text):
    with pytest.raises(ConfigError, match="no <!-- a --> and <!-- end -->"):
        page.filled(text, {"a": "A"})


def test_rows():
    assert page.markdown([["a", "b"], ["---", "---:"]]) == "| a | b |\n| --- | ---: |"
