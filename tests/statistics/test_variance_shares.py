"""Shares of variance against their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lwf_assets.statistics import shares_of_variance

_numbers = st.floats(-1e3, 1e3)


@given(rows=st.lists(st.tuples(_numbers, _numbers, _numbers), min_size=2, max_size=20))
def test_shares_of_variance_add_up_to_one(rows: list[tuple[float, float, float]]) -> None:
    parts = dict(zip("abc", ([*column] for column in zip(*rows, strict=True)), strict=True))
    totals = [sum(row) for row in rows]
    assume(np.var(totals) > 1e-6 * max(1.0, *(np.var(part) for part in parts.values())))
    shares = shares_of_variance(parts)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    for name, share in shares.items():
        assert share == pytest.approx(np.cov(parts[name], totals, bias=True)[0, 1] / np.var(totals), abs=1e-6)


def test_shares_of_variance_of_known_parts() -> None:
    assert shares_of_variance({"all": [1.0, 2.0, 5.0], "none": [7.0, 7.0, 7.0]}) == pytest.approx({"all": 1, "none": 0})
    # Against the sum: a part that offsets another has a negative share.
    assert shares_of_variance({"up": [0.0, 2.0], "down": [0.0, -1.0]}) == pytest.approx({"up": 2, "down": -1})
    assert shares_of_variance({"a": [1.0, 1.0], "b": [2.0, 2.0]}) == {"a": None, "b": None}
    assert shares_of_variance({"a": [1.0, math.nan], "b": [2.0, 2.0]}) == {"a": None, "b": None}
