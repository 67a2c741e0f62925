"""`error_stats` counts an element as saturated if its code was clipped, not if it is an end."""

from __future__ import annotations

import numpy as np
import pytest

import zeropoint as zp


@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
def test_the_ends_themselves_do_not_count(backend: str, convention: str) -> None:
    params = zp.QuantParams(1, 0, "int8", qmin=-4, qmax=3, convention=convention)
    for values, saturated in [
        ([-4, -4, 3, 3, 0], 0),
        ([-4.25, 3.25], 0),  # these round to the ends
        ([-5, 3], 1),
        ([-4, 4], 1),
        ([-9, 9, 1e30], 3),
    ]:
        stats = zp.error_stats(np.array(values, np.float32), params)
        assert stats.saturated == saturated
