import pytest

from configs.quickstart import get_config
from fgmm import config as configs
from fgmm.config import ConfigError, variants


def test_what_is_left_of_variants():
    assert variants.without("a=1,b=2,c=3", "b", "d") == "a=1,c=3"
    assert variants.without(None, "a") == variants.without("a=1", "a") == ""


def test_variants_are_parsed_by_the_type_of_their_default():
    assert configs.variant("a=3,b=0.5,c=true", a=1, b=1.0, c=False).to_dict() == {
        "a": 3,
        "b": 0.5,
        "c": True,
    }
    assert configs.variant(None, a=1).a == 1
    with pytest.raises(ConfigError, match="variant 'z=1' is unknown; allowed: a=1"):
        configs.variant("z=1", a=1)
    with pytest.raises(ConfigError, match="variant a='x' is not of type int"):
        configs.variant("a=x", a=1)
    with pytest.raises(ConfigError, match="must be true or false"):
        configs.variant("c=1", c=False)
    assert get_config("noise=0.25").data.source.noise == 0.25


def test_a_variant_with_a_few_values():
    found = variants.variant("fine=mil_nce", fine="info_nce", kind="video")
    variants.check_choices(found, fine={"info_nce": 1, "mil_nce": 2}, kind=("video", "image"))
    message = "variant fine='mil_nce' is unknown; allowed: info_nce, mil_ncc; did you mean mil_ncc"
    with pytest.raises(ConfigError, match=message):
        variants.check_choices(found, fine=("info_nce", "mil_ncc"))
