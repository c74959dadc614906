"""Differences in a measure of a whole test set: macro-F1, and the mean, of which the answer is known otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from lwf_assets.errors import LwfError
from lwf_assets.statistics import bootstrap_statistic, macro_f1, paired_effect

CLASSES = ["bad", "fair", "good"]


def _mean(answers: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return weights @ answers / weights.sum(axis=1)


@pytest.mark.parametrize("seeds", [1, 2, 3, 8])
@pytest.mark.parametrize(("seed_sd", "item_sd"), [(1.0, 0.2), (0.0, 1.0), (0.1, 0.6)])
def test_of_the_mean_it_is_the_paired_effect(seeds: int, seed_sd: float, item_sd: float) -> None:
    generator = np.random.default_rng(seeds)
    arm = (
        0.3
        + seed_sd * generator.normal(size=(seeds, 1))
        + item_sd * generator.normal(size=(1, 60))
        + 0.5 * generator.normal(size=(seeds, 60))
    )
    reference = generator.normal(size=(seeds, 60)) * 0.5
    drawn, closed = bootstrap_statistic(_mean, arm, reference, resamples=4000), paired_effect(arm - reference)
    assert drawn.mean == pytest.approx(closed.mean)
    assert drawn.standard_error == pytest.approx(closed.standard_error, rel=0.05)
    assert drawn.high - drawn.low == pytest.approx(closed.high - closed.low, rel=0.08)
    assert (drawn.seeds, drawn.items, drawn.confidence) == (closed.seeds, closed.items, closed.confidence)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, "", None]), st.integers(0, 3)),
        min_size=1,
        max_size=20,
    )
)
def test_macro_f1_is_scikit_learns(rows: list[tuple[str, str | None, int]]) -> None:
    labels, answers, counts = zip(*rows, strict=True)
    weights = np.array([np.ones(len(rows)), counts], dtype=float)
    found = macro_f1(labels, classes=CLASSES)(np.array(answers, dtype=object), weights)
    taken = [answer or "" for answer in answers]
    for row, weight in enumerate(weights):
        if weight.any():
            expected = f1_score(labels, taken, labels=CLASSES, average="macro", zero_division=0, sample_weight=weight)
            assert found[row] == pytest.approx(expected)


def test_the_classes_are_those_of_the_labels() -> None:
    answers = np.array(["a", "c", "b"], dtype=object)
    found = macro_f1(["a", "a", "b"])(answers, np.ones((1, 3)))
    assert found == pytest.approx([(2 / 3 + 1) / 2])


def _answers(generator: np.random.Generator, labels: NDArray[Any], right: float, seeds: int) -> NDArray[Any]:
    is_right = generator.random((seeds, len(labels))) < right
    return np.where(is_right, labels, generator.choice(CLASSES, size=is_right.shape)).astype(object)


def test_a_difference_in_macro_f1_is_found_where_there_is_one_and_seldom_where_there_is_none() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(CLASSES, size=90, p=[0.2, 0.3, 0.5])
    statistic = macro_f1(labels.tolist())
    found = {0.5: 0, 0.95: 0}
    for right in found:
        for draw in range(100):
            arm, reference = _answers(generator, labels, right, 3), _answers(generator, labels, 0.5, 3)
            effect = bootstrap_statistic(statistic, arm, reference, resamples=200, seed=draw)
            found[right] += effect.low > 0 or effect.high < 0
    assert found[0.5] <= 10
    assert found[0.95] >= 90


def test_the_estimate_is_the_mean_over_seeds_of_the_difference() -> None:
    generator = np.random.default_rng(4)
    labels = generator.choice(CLASSES, size=50)
    arm, reference = _answers(generator, labels, 0.7, 3), _answers(generator, labels, 0.5, 3)
    effect = bootstrap_statistic(macro_f1(labels.tolist()), arm.tolist(), reference.tolist())
    by_seed = [
        f1_score(labels, a.tolist(), average="macro") - f1_score(labels, r.tolist(), average="macro")
        for a, r in zip(arm, reference, strict=True)
    ]
    assert effect.mean == pytest.approx(np.mean(by_seed))
    assert effect == bootstrap_statistic(macro_f1(labels.tolist()), arm, reference)


def test_few_items_are_not_taken_for_surer_than_they_are() -> None:
    # Resamples of 4 items vary by 3/4 of what 4 new items would.
    arm = np.array([[1.0, 2.0, 4.0, 9.0]])
    drawn = bootstrap_statistic(_mean, arm, np.zeros((1, 4)), resamples=20000)
    assert drawn.standard_error == pytest.approx(paired_effect(arm).standard_error, rel=0.02)


def test_another_seed_draws_other_items() -> None:
    generator = np.random.default_rng(0)
    arm, reference = generator.normal(size=(1, 40)), generator.normal(size=(1, 40))
    one, other = (bootstrap_statistic(_mean, arm, reference, seed=seed) for seed in (0, 1))
    assert one == bootstrap_statistic(_mean, arm, reference, seed=0)
    assert one.standard_error != other.standard_error == pytest.approx(one.standard_error, rel=0.1)


def test_models_that_answer_alike_differ_by_nothing() -> None:
    labels = ["bad", "good", "good", "fair"]
    answers = [["bad", "bad", "good", "fair"], ["bad", "good", "good", "bad"]]
    effect = bootstrap_statistic(macro_f1(labels), answers, answers, resamples=50)
    assert (effect.mean, effect.low, effect.high, effect.p_value) == (0, 0, 0, 1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(LwfError, match=r"\(1, 3\) and reference \(1, 2\)"):
        bootstrap_statistic(_mean, [[1.0, 2.0, 3.0]], [[1.0, 2.0]])
    with pytest.raises(LwfError, match="two items"):
        bootstrap_statistic(_mean, [[1.0], [2.0]], [[1.0], [2.0]])
    with pytest.raises(LwfError, match="3 labels and answers of shape"):
        bootstrap_statistic(macro_f1(["a", "b", "a"]), [["a", "b"]], [["a", "b"]])
    with pytest.raises(LwfError, match="label of at least one item"):
        macro_f1([])
    with pytest.raises(LwfError, match="not finite on every resample"):
        bootstrap_statistic(lambda answers, weights: np.where(weights[:, 0] > 0, 1, np.nan), [[1, 2]], [[1, 2]])
