"""What is wrong with the spaces of a config is named."""

import pytest

from fgmm import config
from fgmm.config import ConfigError
from fgmm.models import spaces

VA = {"modalities": ("video", "audio"), "width": 8}
VAT = {"modalities": ("video", "audio", "text"), "width": 4, "through": "va"}


def checked(**entries):
    return spaces.checked(config.with_space_defaults(entries), ("video", "audio", "text"))


def test_options_are_completed():
    found = checked(va={**VA, "modalities": ["video", "audio"], "hidden": {"audio": 3}}, vat=VAT)
    assert found["va"] == {
        "modalities": ("video", "audio"),
        "width": 8,
        "hidden": {"video": 0, "audio": 3},
        "pool": "mean",
        "gate": "none",
        "bias": False,
        "unit_length": True,
        "dtype": "float32",
        "through": "",
    }
    assert found["vat"]["hidden"] == {"video": 0, "audio": 0, "text": 0}
    assert checked(va={**VA, "hidden": 5})["va"]["hidden"] == {"video": 5, "audio": 5}
    # Text comes in by a head of its own, which may be another.
    assert checked(va=VA, vat={**VAT, "hidden": {"text": 5}})["vat"]["hidden"]["text"] == 5


@pytest.mark.parametrize(
    ("va", "vat", "message"),
    [
        ({}, {"through": "vb"}, r"vat\.through='vb' is unknown; allowed: va$"),
        ({}, {"through": "vat"}, r"vat\.through='vat' is unknown; allowed: va$"),
        ({"through": "vat"}, {}, r"va\.through='vat' leads in a circle: va -> vat -> va$"),
        (
            {},
            {"modalities": ("text",)},
            r"vat\.through='va' shares no modality with vat \(text\); it has video, audio$",
        ),
        (
            {},
            {"hidden": {"video": 5}},
            r"vat\.hidden=.*: video and audio come through va by one projection; give them",
        ),
        ({"hidden": {"text": 5}}, {}, r"va\.hidden names 'text', .*; allowed: video, audio$"),
        ({"hidden": -1}, {}, r"va\.hidden=-1 must be an int of at least 0, or a dict"),
        ({"hidden": {"video": "x"}}, {}, r"va\.hidden=\{'video': 'x'\} must be an int"),
        ({"hidden": "x"}, {}, r"va\.hidden='x' is not of type int or Mapping$"),
        ({"pool": "sum"}, {}, r"va\.pool='sum' is unknown; allowed: mean, max, gate, own$"),
        (
            {"pool": "gate"},
            {},
            r"va\.pool='gate' needs a gate: set model\.spaces\.va\.gate to linear",
        ),
        ({"gate": "deep"}, {}, r"va\.gate='deep' is unknown; allowed: none, linear, hidden$"),
        ({"width": 0}, {}, r"va\.width=0 must be at least 1$"),
        ({"width": 1.5}, {}, r"va\.width=1\.5 is not of type int$"),
        ({"dtype": "int8"}, {}, r"va\.dtype='int8' is unknown; allowed: float32, bfloat16$"),
        ({"bias": 1}, {}, r"va\.bias=1 is not of type bool$"),
        ({"after": "x"}, {}, r"va\.after='x' is unknown; allowed: bias, dtype, gate, hidden"),
        ({"modalities": ("video", "smell")}, {}, r"va\.modalities names 'smell', which has no"),
    ],
)
def test_wrong_spaces_are_named(va, vat, message):
    with pytest.raises(ConfigError, match=rf"^model\.spaces\.{message}"):
        checked(va=VA | va, vat=VAT | vat)


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"model\.spaces\.a\.width is required and not set"):
        checked(a={"modalities": ("video",)})
    with pytest.raises(ConfigError, match=r"model\.spaces\.a=3 must be a dict of keys"):
        checked(a=3)
    with pytest.raises(ConfigError, match=r"a\.through='b' is unknown; allowed: none, there is no"):
        checked(a={**VA, "through": "b"})


def test_a_circle_further_on_is_found():
    with pytest.raises(ConfigError, match=r"c\.through='a' leads in a circle: c -> a -> b -> a"):
        checked(c={**VA, "through": "a"}, a={**VA, "through": "b"}, b={**VA, "through": "a"})
