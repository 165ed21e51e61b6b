"""The page of reliability says what its file says."""

import json

from benchmarks.pages import faults_table, named_tables

ORIGIN = {"commit": "abc", "cpu": "2 cores", "jax": "1", "seed": 0, "date": "2000-01-01"}


def trial(moment, ended, equal, seconds=None):
    return {
        **{"fault": "kill", "moment": moment, "ended": ended, "equal": equal},
        **{"seconds": seconds, "at_step": 3, "continued_from": 0, "noted": ""},
    }


def test_a_row_counts_its_trials():
    trials = [trial("step 4", [-9, 1], True, 2.0), trial("step 7", [-9, 1], False, 11.0)]
    trials += [trial("at a start", [2], None)]
    result = {"faults": {"kill": {"trials": trials, "failures": ["AssertionError: no"], **ORIGIN}}}
    table = faults_table.tables(result)["faults"]
    assert "| kill |  | 2 | 1, SIGKILL | 11 s | 1 of 2 |" in table
    assert "| kill | at a start | 1 | 2 |  | – |" in table
    assert "| failed | AssertionError: no | 1 |" in table
    assert table.endswith("Commit abc; 2 cores, jax 1; seeds 0; 2000-01-01.")


def test_the_page_of_reliability_is_what_its_file_says(repository):
    page = (repository / "docs" / "measured" / "reliability.md").read_text()
    result = json.loads((repository / "docs" / "results" / "faults.json").read_text())
    assert named_tables.filled(page, faults_table.tables(result)) == page
    for entry in result["faults"].values():
        assert not entry["failures"]
        assert all(trial["equal"] is not False for trial in entry["trials"])
