"""What the reports say, as sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_data import NAN, NO_EFFECT, UNKNOWN, Page, some_effect, some_report, with_effect

from lwf_assets.reports.numbers import bounds, common_exponent, decimals, fixed, probability, unit_of
from lwf_assets.reports.page import cell_page
from lwf_assets.reports.wording import (
    caution,
    outcome,
)
from lwf_assets.statistics.interval import Interval


def test_outcome_says_the_verdict_the_numbers_and_what_could_have_been_seen() -> None:
    assert outcome(some_report()) == (
        "No detectable effect of forgetting. Accuracy: LWF 0.48, reference 0.46, difference +0.02 (95 % interval -0.06 "
        "to +0.10, p 0.6). A true difference of 0.11 or more would have been found four times out of five."
    )


@pytest.mark.parametrize(
    ("verdict", "difference", "begin"),
    [
        ("helps", Interval(0.05, 0.01, 0.09), "Forgetting helps. Accuracy: LWF"),
        ("hurts", Interval(-0.05, -0.09, -0.01), "Forgetting hurts. Accuracy: LWF"),
        ("too few seeds to say", Interval(0.05, 0.01, 0.09), "Too few seeds to say (3 trained). Accuracy: LWF"),
        ("too few seeds to say", UNKNOWN, "Too few seeds to say (3 trained). Accuracy: LWF"),
        ("too few seeds to say", Interval(0.1, 0.1, 0.1), "No verdict: the difference is the same everywhere"),
    ],
)
def test_outcome_begins_with_the_verdict(verdict: str, difference: Interval, begin: str) -> None:
    sentence = outcome(with_effect(some_effect(difference, verdict)))

    assert sentence.startswith(begin)
    assert "nan" not in sentence
    assert "four times out of five" not in sentence
    assert "among all models" not in sentence


def test_outcome_of_two_that_did_alike_does_not_call_the_effect_zero() -> None:
    effect = replace(some_effect(Interval(0.0, 0.0, 0.0), "no detectable effect"), minimum_detectable=NAN)

    assert outcome(with_effect(effect)).endswith(
        "The two are equal on all 128 items, so the smallest detectable difference is unknown."
    )


def test_outcome_has_holms_p_where_it_is_another() -> None:
    effect = replace(some_effect(Interval(0.05, 0.01, 0.09), "no detectable effect"), p_value=0.02, adjusted_p=0.16)

    sentence = outcome(with_effect(effect))
    assert "p 0.02, after Holm's adjustment 0.16)" in sentence
    assert "with all models compared that is not enough" in sentence
    assert "among all models" not in outcome(some_report())


def test_a_cell_whose_primary_measure_is_missing_says_so() -> None:
    report = replace(some_report(), effects=[])

    assert outcome(report).startswith("Not measured: Accuracy")
    assert outcome(report) in Page(cell_page(report)).text


def test_probabilities_are_never_written_as_zero() -> None:
    assert [probability(value) for value in (0.0, 0.0004, 0.0123, 1.0, NAN)] == [
        "< 0.001",
        "< 0.001",
        "0.012",
        "1",
        "n/a",
    ]


def test_an_interval_just_above_zero_is_not_written_as_if_it_held_zero() -> None:
    assert bounds(Interval(0.045, 0.0004, 0.0896), signed=True) == "+0.0004 to +0.0896"


@given(st.floats(-1, 1), st.floats(1e-5, 0.5))
@settings(max_examples=200)
def test_written_bounds_lie_on_the_same_side_of_zero_as_the_interval(mean: float, half: float) -> None:
    interval = Interval(mean, mean - half, mean + half)
    low, high = (float(part) for part in bounds(interval, signed=True).split(" to "))

    if interval.low <= 0 <= interval.high:
        assert low <= 0 <= high
    elif min(abs(interval.low), abs(interval.high)) > 1e-6:
        assert low * high > 0


def test_numbers_are_written_with_the_digits_they_carry() -> None:
    assert decimals(Interval(0.5, 0.42, 0.58)) == 2
    assert decimals(Interval(0.5, 0.496, 0.504)) == 3
    assert fixed(-0.0001, 2) == "0.00"
    assert fixed(0.25, 2, signed=True) == "+0.25"
    assert fixed(None, 2) == fixed(NAN, 2) == "n/a"
    assert common_exponent([3e-7, -4e-6, NAN]) == -6
    assert common_exponent([0.5]) == common_exponent([]) == common_exponent([0.0]) == 0
    assert unit_of(-7) == " (×10⁻⁷)"  # noqa: RUF001
    assert unit_of(0) == ""


def test_one_seed_is_a_caution_and_several_are_named() -> None:
    one, three, mixed = caution({1}), caution({3}), caution({1, 3})

    assert one is not None
    assert one.startswith("Caution: with one seed")
    assert three is not None
    assert "the 3 seeds" in three
    assert mixed is not None
    assert "cell's seeds" in mixed
    single = some_effect(NO_EFFECT, "too few seeds to say", seeds=1)
    assert one in Page(cell_page(with_effect(single))).text
