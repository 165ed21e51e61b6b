"""The table of how far losses on other devices are apart."""

import json

from benchmarks.pages import equality_table, named_tables

ROW = {
    "dtype": "float64",
    "devices": 8,
    "fsdp": 2,
    "grad_cache": 1,
    "accumulate": 1,
    "plain": False,
    "processes": 2,
    "first_steps": 1e-15,
    "all_steps": 2e-14,
}


def test_runs_are_described():
    assert equality_table.described(ROW) == ("2 processes of 4 devices", "fsdp=2")
    alone = {**ROW, "devices": 1, "fsdp": 1, "processes": 1}
    assert equality_table.described(alone) == ("1 process of 1 device", "as it is")


def test_the_page_is_what_its_file_says(repository):
    """Every number of devices ran in both types, and no loss is further away than allowed."""
    path = repository / "docs" / "measured" / "distributed.md"
    result = json.loads((repository / "docs" / "results" / "equality.json").read_text())
    page = path.read_text()
    assert named_tables.filled(page, equality_table.tables(result)) == page
    assert result["steps"] == 50
    for row in result["rows"]:
        most_first, most = result["allowed"][row["dtype"]]
        assert row["first_steps"] <= most_first
        assert row["all_steps"] <= most
    ran = {(row["dtype"], row["devices"]) for row in result["rows"]}
    assert ran == {(t, n) for t in ("float32", "float64") for n in (1, 2, 4, 8)}
    assert {row["processes"] for row in result["rows"]} == {1, 2, 4}
