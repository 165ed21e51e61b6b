import pytest

from fgmm.models.video.r2plus1d18 import middle_width


@pytest.mark.parametrize(
    ("before", "after", "middle"),
    [(64, 64, 144), (64, 128, 230), (128, 256, 460), (512, 512, 1152)],
)
def test_channels_between_space_and_time_are_torchvisions(before, after, middle):
    assert middle_width(before, after) == middle
    assert 9 * before * middle + 3 * middle * after <= 27 * before * after
