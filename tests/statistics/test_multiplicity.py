"""Holm's adjustment against its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwf_assets.errors import LwfError
from lwf_assets.statistics import holm


def test_a_table_worked_out_by_hand() -> None:
    # In order 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1, and never less than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def _slow(p_values: list[float]) -> list[float]:
    order = sorted(range(len(p_values)), key=lambda row: p_values[row])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, row in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[row]))
        adjusted[row] = highest
    return adjusted


@settings(max_examples=15)
@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=12), gap=st.integers(0, 12))
def test_the_definition_and_what_was_not_tested(p_values: list[float], gap: int) -> None:
    assert holm(p_values) == pytest.approx(_slow(p_values))
    gap = min(gap, len(p_values))
    adjusted = holm([*p_values[:gap], math.nan, *p_values[gap:]])
    assert math.isnan(adjusted.pop(gap))
    assert adjusted == pytest.approx(_slow(p_values))


def test_nothing_to_adjust() -> None:
    assert holm([]) == []
    assert [math.isnan(p_value) for p_value in holm([math.nan, math.nan])] == [True, True]


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.inf])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(LwfError, match="p-value 1 is"):
        holm([0.5, wrong])
