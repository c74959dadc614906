"""Intervals, rank correlation and shares of variance against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lwf_assets.statistics import bootstrap_interval, rank_correlation, shares_of_variance

unhurried = settings(deadline=None)  # imports and a busy machine take their time
_numbers = st.floats(-1e3, 1e3)
_many = st.lists(_numbers, min_size=1, max_size=30)


@unhurried
@given(values=_many)
def test_the_interval_holds_the_mean_and_lies_within_the_values(values: list[float]) -> None:
    interval = bootstrap_interval(values)
    slack = 1e-9 * max(map(abs, values))
    assert interval.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack
    assert interval == bootstrap_interval(values)


def test_the_interval_is_as_wide_as_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400).tolist()
    interval = bootstrap_interval(values)
    half = 1.96 * np.std(values) / 20
    assert interval.low < interval.mean < interval.high
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    intervals = [bootstrap_interval(generator.normal(size=40).tolist()) for _ in range(200)]
    assert 0.88 <= np.mean([interval.low <= 0 <= interval.high for interval in intervals]) <= 0.98


def test_another_seed_draws_another_interval() -> None:
    values = [0.0, 1.0, 5.0, 7.0, 2.0, 3.5]
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    ends = {
        (bootstrap_interval(values, seed=seed).low, bootstrap_interval(values, seed=seed).high) for seed in range(9)
    }
    assert len(ends) > 1


@unhurried
@given(value=_numbers, count=st.integers(1, 20))
def test_equal_values_have_an_interval_of_no_width(value: float, count: int) -> None:
    interval = bootstrap_interval([value] * count)
    assert interval.low == pytest.approx(value)
    assert interval.high == pytest.approx(value)


def test_what_was_not_measured_is_left_out() -> None:
    assert bootstrap_interval([1.0, math.nan, 2.0, 4.0]) == bootstrap_interval([1.0, 2.0, 4.0])
    for nothing in ([], [math.nan, math.nan]):
        interval = bootstrap_interval(nothing)
        assert all(math.isnan(figure) for figure in (interval.mean, interval.low, interval.high))


def _ranks(values: list[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


@unhurried
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


@unhurried
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
