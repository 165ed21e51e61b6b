import math

import numpy as np
import pytest

from fgmm.data.corpora.windows import NarrationWindows
from fgmm.data.schema import Caption

# Of a piece that lasts 10 s, of which the first narration began before it and the last ends after.
SPOKEN = (
    Caption("before", -1.0, 0.5),
    Caption("first", 0.5, 2.0),
    Caption("second", 2.0, 5.0),
    Caption("over", 8.5, 15.0),
)
DURATION = 10.0


def test_windows_stay_in_a_piece_around_what_begins_there():
    narrated = NarrationWindows(3.2, 4.0, 2)
    drawn = [narrated(b"", SPOKEN, np.random.default_rng(seed), DURATION) for seed in range(200)]
    starts = [window.start for window, _ in drawn]
    assert min(starts) >= 0
    assert DURATION - 3.2 - 0.5 < max(starts) <= DURATION - 3.2
    said = [{caption.text for caption in near} for _, near in drawn]
    # What began before is a neighbour, and never the only one.
    assert {"before", "first"} in said
    assert {"first", "second"} in said
    for window, near in drawn:
        for caption in near:
            (known,) = [one for one in SPOKEN if one.text == caption.text]
            assert caption.start == pytest.approx(known.start - window.start)


def test_where_all_began_before_the_piece_they_are_drawn():
    narrated = NarrationWindows(3.2, 4.0, 2)
    for seed in range(20):
        window, near = narrated(
            b"", (Caption("long", -30.0, 90.0),), np.random.default_rng(seed), DURATION
        )
        assert 0 <= window.start <= DURATION - 3.2
        assert near[0].start == -30.0 - window.start


def test_what_is_said_after_the_end_gets_no_window_before_it():
    late = (Caption("late", 20.0, 24.0),)
    assert NarrationWindows(3.2, 4.0, 2)(b"", late, None, DURATION)[0].start == pytest.approx(20.4)
    assert NarrationWindows(3.2, 4.0, 2)(b"", late, None, math.inf)[0].start == pytest.approx(20.4)
    # Shorter than a window.
    assert NarrationWindows(3.2, 4.0, 2)(b"", (Caption("a", 0.5, 1.0),), None, 2.0)[0].start == 0.0
