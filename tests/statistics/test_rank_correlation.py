"""Rank correlation against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lwf_assets.statistics import rank_correlation


def _ranks(values: list[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


@given(pairs=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=20))
def test_rank_correlation_is_the_correlation_of_the_ranks(pairs: list[tuple[int, int]]) -> None:
    first, second = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    assume(len(set(first)) > 1 and len(set(second)) > 1)
    expected = np.corrcoef(_ranks(first), _ranks(second))[0, 1]
    assert rank_correlation(first, second) == pytest.approx(expected, abs=1e-9)


def test_rank_correlation_sees_order_alone() -> None:
    values = [0.1, 5.0, -3.0, 2.0]
    assert rank_correlation(values, [math.exp(value) for value in values]) == pytest.approx(1)
    assert rank_correlation(values, [-(value**3) for value in values]) == pytest.approx(-1)


@pytest.mark.parametrize("second", [[1.0, 1.0, 1.0], [1.0, math.nan, 2.0], [1.0, math.inf, 2.0]])
def test_no_rank_correlation_where_nothing_can_be_said(second: list[float]) -> None:
    assert rank_correlation([1.0, 2.0, 3.0], second) is None
    assert rank_correlation(second, [1.0, 2.0, 3.0]) is None
