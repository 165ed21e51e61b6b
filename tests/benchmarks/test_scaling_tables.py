"""The tables of docs/measured/scaling.md are those of the model and of its counts."""

import json
import re

import pytest

from benchmarks.pages import named_tables, scaling_tables


def test_the_page_is_what_the_code_says(repository):
    path = repository / "docs" / "measured" / "scaling.md"
    results = json.loads((repository / "docs" / "results" / "scaling.json").read_text())
    made = scaling_tables.tables(results)
    page = path.read_text()
    assert named_tables.filled(page, made) == page
    assert set(made) == set(re.findall(r"<!-- (scaling: [^>]+) -->", page))
    for row in results["programs"]:
        assert row["loss_bytes"] == pytest.approx(row["loss_bytes_by_formula"], rel=0.03)
        assert row["loss_flops"] == pytest.approx(row["loss_flops_by_formula"], rel=0.03)
