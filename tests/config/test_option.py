"""Options are checked against what they declare."""

import dataclasses

import pytest

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    count: int = option(1, low=1)
    share: float = option(0.5, low=0, high=1)
    seconds: float = option(2.0, above=0)
    most: float = option(0.0, high=3)
    split: str = option("train", choices=("train", "test"))
    kept: int = dataclasses.field(init=False, default=-9, metadata={"low": 0})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, r"^count=0 must be at least 1$"),
        ({"share": 1.5}, r"^share=1\.5 must be from 0 to 1$"),
        ({"share": float("nan")}, r"^share=nan must be from 0 to 1$"),
        ({"seconds": 0.0}, r"^seconds=0\.0 must be greater than 0$"),
        ({"most": 4.0}, r"^most=4\.0 must be at most 3$"),
        ({"split": "dev"}, r"^split='dev' is unknown; allowed: train, test$"),
    ],
)
def test_what_is_out_of_bounds_is_named(given, message):
    with pytest.raises(ConfigError, match=message):
        check_options(Options(**given))


def test_bounds_themselves_are_allowed():
    check_options(Options(count=1, share=0.0, most=3.0))
    check_options(Options(share=1.0, seconds=1e-9, split="test"))
