"""Effects over crossed seeds and items: right on data of which the truth is known, and on numbers worked out apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from lwf_assets.errors import LwfError
from lwf_assets.statistics import Effect, paired_effect, seed_effect

few = settings(max_examples=40)

# Worked out by hand: seed means 2 and 4, item means 1, 3, 5, mean 3; the rest is 1, 0, -1 and -1, 0, 1.
SMALL = np.array([[1.0, 2.0, 3.0], [1.0, 4.0, 7.0]])


def test_a_small_table_worked_out_by_hand() -> None:
    effect = paired_effect(SMALL)
    # var(seed means)/2 = 1; var(item means)/3 = 4/3; noise: sum of squares 4, over 2 degrees of freedom, over 6 cells.
    seed, item = 1.0, 4 / 3 - 4 / 2 / 6
    assert effect.mean == 3
    assert effect.standard_error == pytest.approx(math.sqrt(seed + item))
    critical = (seed * stats.t.ppf(0.975, 1) + item * stats.t.ppf(0.975, 2)) / (seed + item)
    half = critical * math.sqrt(seed + item)
    assert (effect.low, effect.high) == pytest.approx((3 - half, 3 + half))
    assert (effect.seeds, effect.items, effect.confidence) == (2, 3, 0.95)


def _slow(array: NDArray[np.float64]) -> tuple[float, float, float]:
    """The three variances by loops over the definitions of a two-way table without replication."""
    seeds, items = array.shape
    mean = sum(array[s, i] for s in range(seeds) for i in range(items)) / (seeds * items)
    of_seed = [sum(array[s]) / items for s in range(seeds)]
    of_item = [sum(array[:, i]) / seeds for i in range(items)]
    ms_seed = items * sum((m - mean) ** 2 for m in of_seed) / (seeds - 1)
    ms_item = seeds * sum((m - mean) ** 2 for m in of_item) / (items - 1)
    ms_rest = sum((array[s, i] - of_seed[s] - of_item[i] + mean) ** 2 for s in range(seeds) for i in range(items)) / (
        (seeds - 1) * (items - 1)
    )
    cells = seeds * items
    return ms_seed / cells, max(ms_item - ms_rest, 0) / cells, ms_item / cells


@few
@given(seeds=st.integers(2, 6), items=st.integers(2, 12), draw=st.integers(0, 10**6), spread=st.floats(0, 3))
def test_the_interval_is_the_wider_of_crossed_and_items_alone(seeds: int, items: int, draw: int, spread: float) -> None:
    generator = np.random.default_rng(draw)
    array = generator.normal(size=(seeds, items)) + spread * generator.normal(size=(1, items))
    seed, item, alone = _slow(array)
    quantiles = stats.t.ppf(0.95, [seeds - 1, items - 1])
    crossed_half = (seed * quantiles[0] + item * quantiles[1]) / math.sqrt(seed + item)
    half = max(crossed_half, quantiles[1] * math.sqrt(alone))
    effect = paired_effect(array, confidence=0.9)
    assert effect.high - effect.mean == pytest.approx(half, rel=1e-9)
    assert effect.mean - effect.low == pytest.approx(half, rel=1e-9)
    assert effect.standard_error**2 == pytest.approx(seed + item if crossed_half == half else alone)
    # The interval is that of a t distribution with the degrees of freedom that it says.
    assert effect.standard_error * stats.t.ppf(0.95, effect.degrees_of_freedom) == pytest.approx(half, rel=1e-6)
    assert min(seeds, items) - 1 - 1e-9 <= effect.degrees_of_freedom <= max(seeds, items) - 1 + 1e-9


@few
@given(seeds=st.integers(2, 5), draw=st.integers(0, 10**6), effect=st.floats(-3, 3), seed_sd=st.floats(0, 2))
def test_an_interval_of_confidence_one_less_p_ends_at_zero(
    seeds: int, draw: int, effect: float, seed_sd: float
) -> None:
    generator = np.random.default_rng(draw)
    array = effect + seed_sd * generator.normal(size=(seeds, 1)) + generator.normal(size=(seeds, 20))
    p_value = paired_effect(array).p_value
    if not 1e-6 < p_value < 1 - 1e-6:
        return
    found = paired_effect(array, confidence=1 - p_value)
    nearest = min(abs(found.low), abs(found.high))
    assert nearest == pytest.approx(0, abs=1e-5 * (found.high - found.low))


def test_without_any_variance_of_items_it_is_the_t_test_of_the_seeds() -> None:
    of_seed = np.array([0.3, 0.9, 1.4, 0.2])
    effect = paired_effect(np.repeat(of_seed[:, None], 50, axis=1))
    test = stats.ttest_1samp(of_seed, 0)
    assert (effect.low, effect.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert effect.p_value == pytest.approx(test.pvalue)
    assert effect.degrees_of_freedom == 3


@pytest.mark.parametrize("seeds", [1, 4])
def test_with_seeds_all_alike_it_is_the_t_test_of_the_items(seeds: int) -> None:
    of_item = np.random.default_rng(0).normal(0.4, 1, size=30)
    effect = paired_effect(np.repeat(of_item[None], seeds, axis=0))
    test = stats.ttest_1samp(of_item, 0)
    assert (effect.low, effect.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert effect.p_value == pytest.approx(test.pvalue)
    assert (effect.seeds, effect.degrees_of_freedom) == (seeds, 29)


def test_seeds_that_agree_by_chance_do_not_make_it_surer_than_the_items_allow() -> None:
    # Each seed gains on one item of its own: the seeds' means are equal to the last bit.
    array = np.zeros((3, 40))
    array[[0, 1, 2], [0, 1, 2]] = 1
    effect = paired_effect(array)
    assert effect.low < 0 < effect.high
    assert effect.p_value == pytest.approx(stats.ttest_1samp(array.mean(axis=0), 0).pvalue)


def test_what_is_added_to_both_models_item_by_item_changes_nothing() -> None:
    generator = np.random.default_rng(3)
    arm, reference = generator.normal(size=(2, 3, 25))
    hard = 100 * generator.normal(size=25)
    _assert_alike(paired_effect(arm - reference), paired_effect((arm + hard) - (reference + hard)))


@few
@given(draw=st.integers(0, 10**6))
def test_the_order_of_seeds_and_items_changes_nothing(draw: int) -> None:
    generator = np.random.default_rng(draw)
    array = generator.normal(size=(4, 9)) + generator.normal(size=(4, 1))
    shuffled = array[generator.permutation(4)][:, generator.permutation(9)]
    _assert_alike(paired_effect(array), paired_effect(shuffled))


def test_turned_round_and_scaled_the_effect_is_turned_round_and_scaled() -> None:
    array = np.random.default_rng(5).normal(0.3, 1, size=(3, 20))
    plain, turned = paired_effect(array), paired_effect(-2 * array)
    assert (turned.low, turned.high) == pytest.approx((-2 * plain.high, -2 * plain.low))
    assert turned.p_value == pytest.approx(plain.p_value)


def _assert_alike(one: Effect, other: Effect) -> None:
    for name in ("mean", "low", "high", "standard_error", "p_value", "degrees_of_freedom"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3])
def test_differences_that_do_not_vary_have_no_known_spread(value: float) -> None:
    for effect in (paired_effect(np.full((3, 10), value)), seed_effect([value] * 3)):
        assert effect.standard_error == 0
        assert effect.low == effect.mean == effect.high == pytest.approx(value)
        assert effect.p_value == 1 if value == 0 else math.isnan(effect.p_value)


def test_an_effect_beyond_doubt_has_a_p_value_of_about_zero() -> None:
    array = 1e6 + np.random.default_rng(0).normal(size=(10, 200))
    assert 0 <= paired_effect(array).p_value < 1e-40


def test_a_number_a_seed_is_the_paired_t_test() -> None:
    arm, reference = [1.83, 0.50, 1.62, 2.48, 1.68], [0.878, 0.647, 0.598, 2.05, 1.06]
    effect = seed_effect(np.subtract(arm, reference), confidence=0.9)
    test = stats.ttest_rel(arm, reference)
    assert effect.p_value == pytest.approx(test.pvalue)
    assert (effect.low, effect.high) == pytest.approx(tuple(test.confidence_interval(0.9)))
    assert effect.standard_error == pytest.approx(np.std(np.subtract(arm, reference), ddof=1) / math.sqrt(5))
    assert (effect.seeds, effect.items, effect.degrees_of_freedom, effect.confidence) == (5, 0, 4, 0.9)


def test_one_number_alone_has_no_interval() -> None:
    effect = seed_effect([0.7])
    assert (effect.mean, effect.seeds) == (0.7, 1)
    assert all(math.isnan(number) for number in (effect.low, effect.high, effect.standard_error, effect.p_value))


@pytest.mark.parametrize(
    ("differences", "complaint"),
    [
        ([1.0, 2.0], r"\[seeds, items\].*shape \(2,\)"),
        (np.zeros((0, 4)), "shape"),
        ([[1.0], [2.0]], "one item.*seed_effect"),
        ([[1.0, 2.0], [3.0, math.nan]], "seed 1, item 1 is nan"),
        ([[math.inf, 2.0], [3.0, 1.0]], "seed 0, item 0 is inf"),
    ],
)
def test_bad_differences_are_refused(differences: list[list[float]], complaint: str) -> None:
    with pytest.raises(LwfError, match=complaint):
        paired_effect(differences)


def test_bad_numbers_of_seeds_are_refused() -> None:
    with pytest.raises(LwfError, match="seed 1 is nan"):
        seed_effect([1.0, math.nan])
    with pytest.raises(LwfError, match="shape"):
        seed_effect([[1.0, 2.0]])
    for confidence in (0, 1, 95):
        with pytest.raises(LwfError, match=r"between 0 and 1, such as 0\.95"):
            seed_effect([1.0, 2.0], confidence=confidence)
