"""What the sections declare agrees with the code that it is for."""

import dataclasses

import pytest

from fgmm.config import as_dict, check_keys, defaults, differences, sections
from fgmm.config.option import declared, is_section
from fgmm.losses.exchange import EXCHANGES
from fgmm.losses.objective import LEVELS, PAIRS

SECTIONS = [kind for kind in vars(sections).values() if dataclasses.is_dataclass(kind)]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_option_says_what_it_means(section):
    for name, option in declared(section).items():
        assert is_section(option.type) or option.help, name


def test_choices_are_those_of_the_losses():
    assert declared(sections.Options)["exchange"].choices == EXCHANGES
    assert declared(sections.TermPlace)["pair"].choices == tuple(PAIRS)
    assert declared(sections.TermPlace)["level"].choices == LEVELS


@pytest.mark.parametrize(
    ("key", "value", "operational"),
    [
        ("mesh.fsdp", 2, True),
        ("exchange", "ring", True),
        ("data.tokenizer", "elsewhere.model", True),
        ("data.tokenizer_fingerprint", "x", False),
        ("data.threads", 7, True),
        ("data.frames", 4, False),
        ("checkpoint.keep_last", 9, True),
        ("progress", False, True),
        ("seed", 1, False),
        ("transforms.flip", True, False),
    ],
)
def test_what_may_change_when_a_run_is_resumed(key, value, operational):
    changed = defaults()
    changed.update_from_flattened_dict({key: value})
    check_keys(changed)
    assert (differences(defaults(), changed) == []) is operational


def test_defaults_are_fresh():
    config = defaults()
    config.model.spaces.joint.width = 7
    assert as_dict(defaults())["model"]["spaces"]["joint"]["width"] == 64
