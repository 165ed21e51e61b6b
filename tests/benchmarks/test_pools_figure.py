"""The figure of the pools_figure."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.pages import pools_figure


@pytest.mark.parametrize(("pool", "temperature"), pools_figure.SHOWN)
def test_weights_and_derivatives_are_those_of_the_pool(pool, temperature):
    a = pools_figure.profile()
    weights, derivatives, s = pools_figure.attention(a, pool, temperature)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    # Raising all of a raises s by as much.
    np.testing.assert_allclose(derivatives.sum(), 1, rtol=1e-4)
    assert a.mean() - 1e-6 <= s <= a.max() + 1e-6
    nudged = a.copy()
    nudged[21] += 1e-3
    change = pools_figure.attention(nudged, pool, temperature)[2] - s
    np.testing.assert_allclose(change, 1e-3 * derivatives[21], atol=2e-6)


def test_the_picture_has_bars_in_it(tmp_path):
    path = tmp_path / "figures" / "pools.png"
    pools_figure.draw(pools_figure.profile(), path)
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[0] > 500
    blue = (np.abs(picture.astype(int) - (0x9D, 0xB8, 0xD9)).sum(-1) < 6).mean()
    assert 0.02 < blue < 0.3
