"""The page of reliability says what its file says."""

import json

import pytest

from fgmm.config import ConfigError
from fgmm.report import faults

ORIGIN = {"commit": "abc", "cpu": "2 cores", "jax": "1", "seed": 0, "date": "2000-01-01"}
PLACE = "before\n<!-- faults -->\nold\n<!-- end -->\nafter\n"


def trial(moment, ended, equal, seconds=None):
    return {
        **{"fault": "kill", "moment": moment, "ended": ended, "equal": equal},
        **{"seconds": seconds, "at_step": 3, "continued_from": 0, "noted": ""},
    }


def test_a_row_counts_its_trials():
    trials = [trial("step 4", [-9, 1], True, 2.0), trial("step 7", [-9, 1], False, 11.0)]
    trials += [trial("at a start", [2], None)]
    result = {"faults": {"kill": {"trials": trials, "failures": ["AssertionError: no"], **ORIGIN}}}
    page = faults.fill(PLACE, result)
    assert "| kill |  | 2 | 1, SIGKILL | 11 s | 1 of 2 |" in page
    assert "| kill | at a start | 1 | 2 |  | – |" in page
    assert "| failed | AssertionError: no | 1 |" in page
    assert "old" not in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert faults.fill(page, result) == page
    with pytest.raises(ConfigError, match="the page has no <!-- faults -->"):
        faults.fill("nothing", result)


def test_the_page_of_reliability_is_what_its_file_says(repository):
    page = (repository / "docs" / "reliability.md").read_text()
    result = json.loads((repository / "docs" / "results" / "faults.json").read_text())
    assert faults.fill(page, result) == page
    for entry in result["faults"].values():
        assert not entry["failures"]
        assert all(trial["equal"] is not False for trial in entry["trials"])
