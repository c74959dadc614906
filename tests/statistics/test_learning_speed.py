"""The area under a learning curve and the steps to a level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwf_assets.errors import LwfError
from lwf_assets.statistics import area_under_curve, steps_to_reach

_curves = st.lists(st.tuples(st.integers(1, 50), st.floats(-10, 10)), min_size=1, max_size=12)


def test_the_area_weighs_with_the_spacing() -> None:
    # 10 steps at a mean of 3, 90 at a mean of 1.5.
    assert area_under_curve([0, 10, 100], [4, 2, 1]) == pytest.approx((10 * 3 + 90 * 1.5) / 100)
    assert area_under_curve([7], [2.5]) == 2.5


@given(curve=_curves, start=st.integers(-100, 100), height=st.floats(-5, 5))
def test_the_area_is_the_mean_of_the_interpolated_curve(
    curve: list[tuple[int, float]], start: int, height: float
) -> None:
    steps = [start + int(at) for at in np.cumsum([gap for gap, _ in curve])]
    values = [value for _, value in curve]
    area = area_under_curve(steps, values)
    assert min(values) - 1e-9 <= area <= max(values) + 1e-9
    # The middle of each unit of steps: exact for lines whose ends are whole numbers.
    if len(steps) > 1:
        assert area == pytest.approx(np.interp(np.arange(steps[0], steps[-1]) + 0.5, steps, values).mean(), abs=1e-9)
    assert area_under_curve(steps, [value + height for value in values]) == pytest.approx(area + height, abs=1e-9)


def test_steps_to_a_level() -> None:
    steps, values = [0, 10, 40, 50], [4.0, 2.0, 1.0, 3.0]
    assert steps_to_reach(steps, values, 3.0) == 5
    assert steps_to_reach(steps, values, 1.5) == 25
    assert steps_to_reach(steps, values, 2.0) == 10
    assert steps_to_reach(steps, values, 1.0) == 40
    assert steps_to_reach(steps, values, 9.0) == 0  # there from the start
    assert steps_to_reach(steps, values, 0.9) is None
    assert steps_to_reach([5], [2.0], 2.0) == 5
    assert steps_to_reach([5], [2.0], 1.9) is None


@given(curve=_curves, level=st.floats(-10, 10))
def test_it_is_the_first_step_at_the_level(curve: list[tuple[int, float]], level: float) -> None:
    steps = [int(at) for at in np.cumsum([gap for gap, _ in curve])]
    values = [value for _, value in curve]
    found = steps_to_reach(steps, values, level)
    if found is None:
        assert min(values) > level
        return
    assert np.interp(found, steps, values) <= level + 1e-6
    before = np.linspace(steps[0], found, 50)[:-1] if found > steps[0] else []
    assert all(value >= level - 1e-6 for value in np.interp(before, steps, values))
    assert steps_to_reach(steps, [-value for value in values], -level, rising=True) == found


@pytest.mark.parametrize("function", [area_under_curve, lambda steps, values: steps_to_reach(steps, values, 1.0)])
@pytest.mark.parametrize(
    ("steps", "values", "complaint"),
    [
        ([], [], "at least one"),
        ([1, 2], [1.0], "one value a step"),
        ([1, 2, 2], [1.0, 2.0, 3.0], "step 2 of the curve comes after step 2"),
        ([3, 1], [1.0, 2.0], "step 1 of the curve comes after step 3"),
        ([1, 2], [1.0, math.nan], r"point 1 of the curve is \(2.0, nan\)"),
    ],
)
def test_bad_curves_are_refused(function, steps, values, complaint) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LwfError, match=complaint):
        function(steps, values)


def test_a_level_must_be_a_number() -> None:
    with pytest.raises(LwfError, match="level is nan"):
        steps_to_reach([1], [1.0], math.nan)
