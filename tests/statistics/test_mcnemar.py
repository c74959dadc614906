"""McNemar's test against published numbers, statsmodels, and every sign flip counted one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from lwf_assets.errors import LwfError
from lwf_assets.statistics import mcnemar
from lwf_assets.statistics.mcnemar import sign_flip_p

unhurried = settings(deadline=None, max_examples=60)


def _answers(arm_alone: int, reference_alone: int, both: int = 5, neither: int = 3) -> tuple[list[int], list[int]]:
    arm = [1] * arm_alone + [0] * reference_alone + [1] * both + [0] * neither
    reference = [0] * arm_alone + [1] * reference_alone + [1] * both + [0] * neither
    return arm, reference


@pytest.mark.parametrize(
    ("arm_alone", "reference_alone", "p_value"),
    [
        # Bentur et al. 2009 in Fagerland, Lydersen and Laake 2013: exact 0.070, mid-p 0.039.
        (1, 7, 0.0390625),
        # No more than five pairs, all one way: exact 1/16, mid-p half of it.
        (5, 0, 1 / 32),
        # Balanced: one less half the chance of balance, 6/16 (Fagerland et al., section 2).
        (2, 2, 1 - 6 / 16 / 2),
        (0, 0, 1.0),
    ],
)
def test_published_and_countable_tables(arm_alone: int, reference_alone: int, p_value: float) -> None:
    arm, reference = _answers(arm_alone, reference_alone)
    result = mcnemar([arm], [reference])
    (pairs,) = result.by_seed
    assert (pairs.arm_alone, pairs.reference_alone) == (arm_alone, reference_alone)
    assert pairs.p_value == pytest.approx(p_value)
    assert result.p_value == pytest.approx(p_value)


@unhurried
@given(arm_alone=st.integers(0, 60), reference_alone=st.integers(0, 60))
def test_the_exact_p_of_statsmodels_less_half_of_what_is_as_extreme(arm_alone: int, reference_alone: int) -> None:
    from scipy.stats import binom

    if arm_alone == reference_alone:
        return
    exact = statsmodels_mcnemar([[5, arm_alone], [reference_alone, 3]], exact=True).pvalue
    seen = binom.pmf(min(arm_alone, reference_alone), arm_alone + reference_alone, 0.5)
    arm, reference = _answers(arm_alone, reference_alone)
    assert mcnemar([arm], [reference]).by_seed[0].p_value == pytest.approx(exact - seen, rel=1e-9)


def _flip_every_sign(leads: NDArray[np.int64]) -> float:
    sums = np.array([
        abs(sum(sign * lead for sign, lead in zip(signs, leads, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(leads))
    ])  # fmt: skip
    seen = abs(leads.sum())
    return float(min(1.0, (sums > seen).mean() + (sums == seen).mean() / 2))


@unhurried
@given(leads=st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_the_joint_p_counts_every_flip_of_signs(leads: list[int]) -> None:
    array = np.array(leads)
    expected = _flip_every_sign(array) if array.any() else 1.0
    assert sign_flip_p(array) == pytest.approx(expected, abs=1e-12)


def test_seeds_that_answer_alike_are_one_seed() -> None:
    arm, reference = _answers(9, 2)
    once = mcnemar([arm], [reference]).p_value
    assert mcnemar([arm] * 5, [reference] * 5).p_value == pytest.approx(once)
    assert once > 0.01  # 45 to 10 independent pairs would have been far below it


def test_the_joint_test_adds_up_an_items_seeds() -> None:
    generator = np.random.default_rng(0)
    arm, reference = generator.integers(2, size=(2, 3, 12))
    result = mcnemar(arm, reference)
    assert result.p_value == pytest.approx(sign_flip_p((arm - reference).sum(axis=0)))
    assert [pairs.p_value for pairs in result.by_seed] == [mcnemar([a], [r]).p_value for a, r in zip(arm, reference)]  # noqa: B905
    assert mcnemar(reference, arm).p_value == pytest.approx(result.p_value)
    shuffled = generator.permutation(12)
    assert mcnemar(arm[:, shuffled], reference[:, shuffled]).p_value == pytest.approx(result.p_value)


def test_the_joint_test_is_as_often_wrong_as_it_says() -> None:
    generator = np.random.default_rng(1)
    p_values = []
    for _ in range(500):
        # What an item does to both models is common to its seeds, so its three answers go together.
        lead = 0.7 * generator.normal(size=60)
        arm = lead + 0.5 * generator.normal(size=(3, 60)) > 0
        reference = -lead + 0.5 * generator.normal(size=(3, 60)) > 0
        p_values.append(mcnemar(arm, reference).p_value)
    assert 0.03 <= np.mean(np.array(p_values) < 0.05) <= 0.07


def test_bad_answers_are_refused() -> None:
    with pytest.raises(LwfError, match=r"arm_correct holds 0\.5"):
        mcnemar([[0.5, 1]], [[0, 1]])
    with pytest.raises(LwfError, match="reference_correct holds nan"):
        mcnemar([[0, 1]], [[0, float("nan")]])
    with pytest.raises(LwfError, match=r"\(1, 2\) and reference_correct \(1, 3\)"):
        mcnemar([[0, 1]], [[0, 1, 1]])
    with pytest.raises(LwfError, match=r"must be \[seeds, items\]"):
        mcnemar([0, 1], [0, 1])
