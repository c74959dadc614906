"""What is said of an effect, and how small an effect could have been seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from lwf_assets.errors import LwfError
from lwf_assets.statistics import Effect, minimum_detectable_effect, paired_effect, seed_effect, verdict


def _effect(mean: float, standard_error: float = 0.1, seeds: int = 5, freedom: float = 4.0) -> Effect:
    half = stats.t.ppf(0.975, freedom) * standard_error
    p_value = 2 * stats.t.sf(abs(mean) / standard_error, freedom)
    return Effect(mean, mean - half, mean + half, standard_error, p_value, seeds, 200, freedom)


@pytest.mark.parametrize(
    ("mean", "higher_is_better", "kind"),
    [(0.5, True, "helps"), (0.5, False, "hurts"), (-0.5, True, "hurts"), (-0.5, False, "helps")],
)
def test_the_direction_is_the_measures(mean: float, higher_is_better: bool, kind: str) -> None:
    assert verdict(_effect(mean), higher_is_better=higher_is_better) == kind


@pytest.mark.parametrize(("mean", "kind"), [(0.279, "helps"), (0.276, "no detectable effect")])
def test_the_verdict_turns_where_the_interval_leaves_zero(mean: float, kind: str) -> None:
    effect = _effect(mean)
    assert (effect.low > 0) == (kind == "helps")
    assert verdict(effect, higher_is_better=True) == kind


def test_the_adjusted_p_decides_too() -> None:
    effect = _effect(0.5)
    assert verdict(effect, higher_is_better=True, adjusted_p=0.049) == "helps"
    assert verdict(effect, higher_is_better=True, adjusted_p=0.051) == "no detectable effect"
    # It cannot make an effect of what the interval does not see.
    assert verdict(_effect(0.1), higher_is_better=True, adjusted_p=0.01) == "no detectable effect"


def test_too_few_seeds_say_nothing_however_clear_it_looks() -> None:
    array = 1 + 0.01 * np.random.default_rng(0).normal(size=(1, 50))
    for effect in (paired_effect(array), paired_effect(np.vstack([array, array])), seed_effect([3.0])):
        assert verdict(effect, higher_is_better=True, adjusted_p=0.001) == "too few seeds to say"
    assert verdict(paired_effect(array), higher_is_better=True, least_seeds=1) == "helps"


def test_what_does_not_vary_is_no_proof() -> None:
    assert verdict(seed_effect([-40.0] * 3), higher_is_better=False) == "too few seeds to say"
    assert verdict(paired_effect(np.zeros((3, 9))), higher_is_better=True) == "no detectable effect"


def test_an_unknown_p_is_no_effect() -> None:
    unknown = Effect(0.5, math.nan, math.nan, 0.1, math.nan, 5, 200, 4.0)
    assert verdict(unknown, higher_is_better=True) == "no detectable effect"


@pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan])
def test_an_adjusted_p_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(LwfError, match="adjusted_p is"):
        verdict(_effect(0.5), higher_is_better=True, adjusted_p=wrong)


@pytest.mark.parametrize("freedom", [2.0, 3.7, 4.0, 99.0])
@pytest.mark.parametrize(("power", "confidence"), [(0.8, 0.95), (0.9, 0.99), (0.5, 0.9)])
def test_at_the_minimum_the_power_is_as_asked(freedom: float, power: float, confidence: float) -> None:
    effect = _effect(0.0, standard_error=0.37, freedom=freedom)
    smallest = minimum_detectable_effect(effect, power=power, confidence=confidence)
    critical, size = stats.t.ppf(1 - (1 - confidence) / 2, freedom), smallest / 0.37

    def found(spread: float) -> float:
        """The probability of being found where the squared standard error is estimated `spread` times too large."""
        away = stats.norm.sf(critical * spread**0.5 - size) + stats.norm.cdf(-critical * spread**0.5 - size)
        return float(away * freedom * stats.chi2.pdf(freedom * spread, freedom))

    assert quad(found, 0, np.inf, limit=500)[0] == pytest.approx(power, abs=1e-6)


def test_a_textbook_sample_size() -> None:
    # 34 pairs find half a standard deviation with power 0.8 (Cohen 1988; G*Power).
    effect = Effect(0.0, 0.0, 0.0, 1 / math.sqrt(34), 1.0, 34, 0, 33.0)
    assert minimum_detectable_effect(effect) == pytest.approx(0.495, abs=0.002)


def test_no_minimum_without_a_standard_error_or_a_power() -> None:
    assert math.isnan(minimum_detectable_effect(seed_effect([1.0])))
    assert math.isnan(minimum_detectable_effect(seed_effect([1.0, 1.0, 1.0])))
    for power in (0.05, 1.0, 80):
        with pytest.raises(LwfError, match="power is"):
            minimum_detectable_effect(_effect(0.1), power=power)
