"""The interval of a mean over items, against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwf_assets.statistics import bootstrap_interval

_numbers = st.floats(-1e3, 1e3)
_many = st.lists(_numbers, min_size=1, max_size=30)


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
