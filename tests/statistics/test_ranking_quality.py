"""Precision, recall, average precision and ROC AUC of a ranking against scikit-learn and all orders of the ties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from lwf_assets.errors import LwfError
from lwf_assets.statistics import precision_recall_of_ranking
from lwf_assets.statistics.ranking_quality import _measures, _stratified, expected_average_precision

FIGURES = ("precision", "recall", "average_precision")
few = settings(max_examples=40)


def test_a_ranking_worked_out_by_hand() -> None:
    quality = precision_recall_of_ranking([9, 8, 7, 6, 5], [True, False, True, False, False], top=3, resamples=50)
    assert quality.precision.value == pytest.approx(2 / 3)
    assert quality.recall.value == 1
    assert quality.average_precision.value == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert [getattr(quality, name).at_random for name in ("precision", "recall")] == [0.4, 0.6]


@few
@given(rows=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=7), data=st.data())
def test_ties_at_the_cut_count_with_the_mean_over_their_orders(
    rows: list[tuple[int, bool]], data: st.DataObject
) -> None:
    positives = sum(positive for _, positive in rows)
    assume(0 < positives < len(rows))
    top = data.draw(st.integers(1, len(rows)))
    hits = [
        sum(positive for _, positive in sorted(order, key=lambda row: -row[0])[:top])
        for order in itertools.permutations(rows)
    ]
    scores, labels = zip(*rows, strict=True)
    quality = precision_recall_of_ranking(scores, labels, top, resamples=5)
    assert quality.precision.value == pytest.approx(np.mean(hits) / top)
    assert quality.recall.value == pytest.approx(np.mean(hits) / positives)


@pytest.mark.parametrize("ties", [False, True])
def test_resamples_are_measured_as_scikit_learn_measures_them(ties: bool) -> None:
    generator = np.random.default_rng(0)
    positive = generator.random(40) < 0.4
    score = generator.integers(5, size=40) if ties else generator.permutation(40)
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    weights = _stratified(positive, 30, seed=1)
    drawn = _measures(weights[:, order], positive[order], ends, top=10)
    for row, weight in enumerate(weights):
        counts = weight.astype(int)
        repeated, labels = np.repeat(score, counts), np.repeat(positive, counts)
        assert drawn["average_precision"][row] == pytest.approx(average_precision_score(labels, repeated))
        quality = precision_recall_of_ranking(repeated, labels, 10, resamples=2)
        assert drawn["precision"][row] == pytest.approx(quality.precision.value)
        assert drawn["recall"][row] == pytest.approx(quality.recall.value)
    # Stratified: each class has as many as it had.
    assert (weights[:, positive].sum(axis=1) == positive.sum()).all()
    assert (weights[:, ~positive].sum(axis=1) == (~positive).sum()).all()


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    positive = np.arange(120) < 40
    truth = 0.5785  # the mean precision of 6,000 such draws, to 0.001
    held = []
    for draw in range(150):
        figure = precision_recall_of_ranking(
            generator.normal(size=120) + positive, positive, 40, resamples=200, seed=draw
        ).precision
        held.append(figure.low <= truth <= figure.high)
    assert 0.88 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("positives", [1, 2, 4])
def test_what_is_expected_at_random_is_the_mean_over_all_rankings(positives: int) -> None:
    positive = np.arange(5) < positives
    average = np.mean([average_precision_score(positive, order) for order in itertools.permutations(range(5))])
    assert expected_average_precision(5, positives) == pytest.approx(average)
    quality = precision_recall_of_ranking(range(5), positive, 2, resamples=2)
    assert quality.average_precision.at_random == pytest.approx(average)


def test_of_one_sample_at_random() -> None:
    assert expected_average_precision(1, 1) == 1


def test_the_order_of_the_samples_changes_only_the_draw() -> None:
    generator = np.random.default_rng(5)
    score, positive = generator.normal(size=200), generator.random(200) < 0.5
    shuffled = generator.permutation(200)
    one = precision_recall_of_ranking(score, positive, 50)
    other = precision_recall_of_ranking(score[shuffled], positive[shuffled], 50)
    for name in FIGURES:
        assert getattr(one, name).value == pytest.approx(getattr(other, name).value)
        assert getattr(one, name).low == pytest.approx(getattr(other, name).low, abs=0.03)
        assert getattr(one, name).low < getattr(one, name).value < getattr(one, name).high
    assert precision_recall_of_ranking(score, positive, 50) == one


def test_bad_rankings_are_refused() -> None:
    with pytest.raises(LwfError, match="sample 1 is nan"):
        precision_recall_of_ranking([1.0, math.nan], [True, False], 1)
    with pytest.raises(LwfError, match="0 of 2 samples are conflicting"):
        precision_recall_of_ranking([1.0, 2.0], [False, False], 1)
    with pytest.raises(LwfError, match="2 of 2 samples are conflicting"):
        precision_recall_of_ranking([1.0, 2.0], [True, True], 1)
    for top in (0, 3):
        with pytest.raises(LwfError, match="from 1 to the 2 samples"):
            precision_recall_of_ranking([1.0, 2.0], [True, False], top)
    with pytest.raises(LwfError, match="each sample needs one of both"):
        precision_recall_of_ranking([1.0, 2.0], [True], 1)
