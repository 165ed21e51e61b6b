"""Options as they are declared, and the errors of values that are not as declared."""

import dataclasses
import math
from collections.abc import Mapping

import pytest

from fgmm.config.option import (
    REQUIRED,
    ConfigError,
    check_given,
    check_options,
    declared,
    described,
    of_type,
    option,
)


@dataclasses.dataclass(frozen=True)
class Section:
    """Options of every kind."""

    size: int = option(low=1, help="Of a picture.")
    share: float = option(0.5, low=0, high=1)
    decay: float = option(0.9, low=0, below=1)
    step: float = option(0.1, above=0)
    mode: str = option("min", choices=("min", "max"), operational=True)
    widths: tuple[int, ...] = option((8,), low=1)
    entry: Mapping = option({"name": "a"})
    most: int | None = option(None, low=2)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A section in another."""

    section: Section
    seed: int = 3


def test_options_of_a_dataclass_are_its_fields():
    found = declared(Section)
    assert list(found)[:2] == ["size", "share"]
    assert (found["size"].default, found["size"].low, found["size"].type) == (REQUIRED, 1, int)
    assert found["mode"].choices == ("min", "max")
    assert found["mode"].operational
    assert not found["share"].operational
    # Nobody else's changes to a default dict are seen.
    found["entry"].default["name"] = "b"
    assert declared(Section)["entry"].default == {"name": "a"}


def test_options_of_a_function_are_its_keyword_arguments():
    def function(x, *, rate: float, mode: str = "a"):
        del x, rate, mode

    found = declared(function)
    assert (found["rate"].type, found["rate"].default) == (float, REQUIRED)
    assert (found["mode"].type, found["mode"].default) == (str, "a")
    assert list(found) == ["rate", "mode"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sise": 3}, "a.sise=3 is unknown; allowed: decay, .*; did you mean size\\?$"),
        ({"zzz": 3}, "a.zzz=3 is unknown; allowed: .*, widths$"),
        ({"size": 1.5}, "a.size=1.5 is not of type int$"),
        ({"size": True}, "a.size=True is not of type int$"),
        ({"size": 0}, "a.size=0 must be at least 1$"),
        ({"share": 1.5}, "a.share=1.5 must be from 0 to 1$"),
        ({"share": math.nan}, "a.share=nan must be finite$"),
        ({"step": math.inf}, "a.step=inf must be finite$"),
        ({"step": 0}, "a.step=0 must be above 0$"),
        ({"decay": 1.0}, "a.decay=1.0 must be at least 0 and below 1$"),
        ({"mode": "mix"}, "a.mode='mix' is unknown; allowed: min, max; did you mean min\\?$"),
        ({"widths": (4, 0)}, r"a.widths=\(4, 0\) must be at least 1$"),
        ({"entry": 3}, "a.entry=3 must be a dict of keys$"),
        ({"entry": {"rate": math.nan}}, "a.entry.rate=nan must be finite$"),
        ({"most": "x"}, "a.most='x' is not of type int or NoneType$"),
        ({"most": 1}, "a.most=1 must be at least 2$"),
    ],
)
def test_a_wrong_value_is_one_line(given, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_given(declared(Section), given, key="a")


def test_right_values_pass():
    right = {"size": 1, "share": 1, "decay": 0, "mode": "max", "most": None, "entry": {}}
    check_given(declared(Section), right, key="a")
    check_options(Section(size=1))


def test_a_section_must_be_a_dict_of_keys():
    with pytest.raises(ConfigError, match="section=3 must be a dict of keys"):
        check_given(declared(Whole), {"section": 3}, key="")


def test_an_object_checks_its_own_options():
    with pytest.raises(ConfigError, match=r"^share=2\.0 must be from 0 to 1$"):
        check_options(Section(size=1, share=2.0))


def test_help_has_defaults_bounds_and_meaning():
    lines = list(described(Whole, "--config."))
    assert lines[0] == "  --config.section.size\n      Of a picture. (int, at least 1)"
    assert lines[4] == "  --config.section.mode='min'\n      (str, one of min, max)"
    assert lines[-1] == "  --config.seed=3\n      (int)"


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, float, True),
        (True, int, False),
        (1.0, int, False),
        (None, int | None, True),
        ([1, 2], tuple[int, ...], True),
        ([1, 2.5], tuple[int, ...], False),
        ([1, 2], tuple[int, int], True),
        ([1], tuple[int, int], False),
        ("a", tuple, False),
        ({}, dict, True),
    ],
)
def test_types_of_config_values(value, hint, fits):
    assert of_type(value, hint) is fits
