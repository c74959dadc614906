"""Which differences are taken, of what, and which verdict they get; golden numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lwf_assets.comparison.effects import curve_in_use, differences, effects_of, figures_of, with_curve_measures
from lwf_assets.comparison.evaluations import Evaluation
from lwf_assets.comparison.records import ArmEffect
from lwf_assets.errors import LwfError


def _table(rows: dict[int, list[float]], *, names: str = "abcdefgh") -> pd.DataFrame:
    width = len(next(iter(rows.values())))
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(names[:width]))


def _per_seed(values: dict[int, float]) -> pd.DataFrame:
    return pd.DataFrame({"": values})


def _model(kind: str, values: dict[str, pd.DataFrame], **other: Any) -> Evaluation:
    empty = pd.DataFrame()
    defaults: dict[str, Any] = {
        "key": kind,
        "name": kind,
        "label": kind,
        "kind": kind,
        "description": "",
        "seeds": [0, 1, 2],
        "steps": 10,
        "sample_nll": empty,
        "training": empty,
        "validation": empty,
        "answers": empty,
        "labels": {},
        "examples": {},
    }
    return Evaluation(values=values, **{**defaults, **other})


def _effect(arm: pd.DataFrame, reference: pd.DataFrame, measure: str = "accuracy") -> ArmEffect:
    (effect,) = effects_of(
        [_model("base", {}), _model("reference", {measure: reference}), _model("lwf", {measure: arm})],
        measure,
        least_seeds=3,
    )
    return effect


def test_one_seed_is_the_t_interval_over_the_items() -> None:
    # Differences 1, 0, 0, 1: mean 1/2, standard error sqrt(1/3) / 2.
    effect = _effect(_table({0: [1, 1, 0, 1]}), _table({0: [0, 1, 0, 0]}))

    half = stats.t.ppf(0.975, 3) * math.sqrt(1 / 3) / 2
    assert (effect.mean, effect.reference_mean, effect.items, effect.seeds) == (0.75, 0.25, 4, 1)
    assert effect.difference.mean == 0.5
    assert effect.difference.low == pytest.approx(0.5 - half)
    assert effect.difference.high == pytest.approx(0.5 + half)
    assert effect.verdict == "too few seeds to say"


def test_pairs_are_by_seed_and_item_whatever_their_order() -> None:
    arm = _table({2: [3.0, 1.0], 0: [5.0, 2.0], 7: [100.0, 100.0]}, names="ba")
    reference = _table({0: [1.0, 1.0], 2: [0.0, 2.0]})

    found = differences(arm, reference)

    assert found.loc[0, "a"] == 1.0
    assert found.loc[0, "b"] == 4.0
    assert found.loc[2].to_dict() == {"b": 1.0, "a": 1.0}
    assert 7 not in found.index


def test_items_on_one_side_alone_are_an_error_that_names_one() -> None:
    with pytest.raises(LwfError, match=r"accuracy is paired item by item, but 2 items .* 'b'"):
        _effect(_table({0: [1, 1]}), _table({0: [1, 0]}, names="ac"))


def test_an_item_without_a_value_is_left_out_on_both_sides() -> None:
    effect = _effect(_table({0: [1, 1, math.nan]}), _table({0: [0, 1, 1]}))

    assert effect.items == 2
    assert effect.difference.mean == 0.5


def _noisy(shift: float, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    names = [str(index) for index in range(60)]
    values = shift + rng.normal(0, 0.05, (4, 60))
    return {"accuracy": pd.DataFrame(values, columns=names), "target_nll": pd.DataFrame(-values, columns=names)}


def test_a_known_effect_and_none_get_their_verdicts_in_both_directions() -> None:
    rng = np.random.default_rng(0)
    models = [
        _model("reference", _noisy(0.5, rng)),
        _model("lwf", _noisy(0.7, rng)),
        _model("bss", _noisy(0.5, rng)),
        _model("npo", _noisy(0.3, rng)),
    ]
    found = {(e.model, e.measure): e for e in effects_of(models, "accuracy", least_seeds=3)}

    for measure in ("accuracy", "target_nll"):
        assert found["lwf", measure].verdict == "helps"
        assert found["bss", measure].verdict == "no detectable effect"
        assert found["npo", measure].verdict == "hurts"
    assert 0 < found["bss", "accuracy"].minimum_detectable < 0.1
    assert found["lwf", "target_nll"].difference.mean < 0


def test_holm_is_over_the_models_of_the_primary_measure_alone() -> None:
    rng = np.random.default_rng(1)
    models = [_model("reference", _noisy(0.5, rng)), *(_model(kind, _noisy(0.5, rng)) for kind in ("lwf", "a", "b"))]
    effects = effects_of(models, "accuracy", least_seeds=3)

    primary = sorted((e for e in effects if e.measure == "accuracy"), key=lambda e: e.p_value)
    by_hand = np.minimum(np.maximum.accumulate([e.p_value * n for e, n in zip(primary, (3, 2, 1), strict=True)]), 1)
    assert [e.adjusted_p for e in primary] == pytest.approx(by_hand.tolist())
    assert all(math.isnan(e.adjusted_p) for e in effects if e.measure == "target_nll")


def test_a_verdict_heeds_the_adjusted_p() -> None:
    # One of ten models has p near 0.03: alone an effect, among ten none.
    rng = np.random.default_rng(3)
    arm = pd.DataFrame(rng.normal(0, 1, (3, 200)), columns=[str(i) for i in range(200)])
    arm = arm - arm.mean().mean()
    zero = arm * 0
    alone = _effect(arm + 0.16, zero)
    assert 0.01 < alone.p_value < 0.05
    assert alone.verdict == "helps"
    others = [_model(str(n), {"accuracy": arm + 0.001 * n}) for n in range(9)]
    crowd = effects_of(
        [_model("reference", {"accuracy": zero}), _model("lwf", {"accuracy": arm + 0.16}), *others],
        "accuracy",
        least_seeds=3,
    )
    assert crowd[0].verdict == "no detectable effect"
    assert crowd[0].adjusted_p == pytest.approx(10 * alone.p_value)
    # What would be found among ten is larger than what would be found alone.
    assert crowd[0].minimum_detectable > 1.2 * alone.minimum_detectable


def test_a_measure_with_no_better_side_is_higher_or_lower() -> None:
    rng = np.random.default_rng(2)
    tables = [
        pd.DataFrame(shift + rng.normal(0, 0.05, (3, 30)), columns=[str(i) for i in range(30)]) for shift in (2, 1)
    ]

    assert _effect(tables[0], tables[1], "forgotten_nll").verdict == "higher"
    assert _effect(tables[1], tables[0], "forgotten_nll").verdict == "lower"


def test_a_value_per_seed_is_students_t_over_the_seeds() -> None:
    effect = _effect(_per_seed({0: 3.0, 1: 4.0, 2: 8.0}), _per_seed({0: 1.0, 1: 1.0, 2: 2.0}), "distance")

    test = stats.ttest_1samp([2.0, 3.0, 6.0], 0)
    assert effect.p_value == pytest.approx(test.pvalue)
    assert effect.difference.low == pytest.approx(test.confidence_interval().low)
    assert effect.items == 0


def _falling(*, start: float, seeds: int = 3, end: int = 10) -> pd.DataFrame:
    steps = list(range(end + 1))
    return pd.DataFrame({seed: [start - 0.1 * step for step in steps] for seed in range(seeds)}, index=steps)


def test_curve_measures_are_over_the_steps_that_all_took() -> None:
    models = [
        _model("base", {}),
        _model("reference", {}, training=_falling(start=2.0)),
        _model("longer", {}, training=_falling(start=2.0, end=40)),
    ]
    _, reference, longer = with_curve_measures(models, [1.5, 0.5])

    # A line from 2 to 1 over ten steps has mean 1.5, and comes to it at step 5.
    assert reference.values["learning_auc"][""].tolist() == pytest.approx([1.5] * 3)
    assert reference.values["steps_to_nll_1.5"][""].tolist() == pytest.approx([5.0] * 3)
    assert reference.values["steps_to_nll_0.5"][""].isna().all()
    assert longer.values["learning_auc"][""].tolist() == pytest.approx([1.5] * 3)
    assert longer.values["steps_to_nll_0.5"][""].isna().all()


def test_the_validation_curve_is_taken_only_where_every_model_has_one() -> None:
    both = {"training": _falling(start=2.0), "validation": _falling(start=3.0)}
    with_all = [_model("reference", {}, **both), _model("lwf", {}, **both)]
    without = [with_all[0], _model("lwf", {}, training=_falling(start=2.0))]

    assert curve_in_use(with_all) == "NLL of the validation split"
    assert with_curve_measures(with_all, [])[0].values["learning_auc"].iloc[0, 0] == pytest.approx(2.5)
    assert curve_in_use(without) == "training loss"
    assert with_curve_measures(without, [])[0].values["learning_auc"].iloc[0, 0] == pytest.approx(1.5)


def test_a_level_that_one_seed_never_reached_has_no_difference() -> None:
    reached, not_all = _per_seed({0: 4.0, 1: 5.0}), _per_seed({0: 4.0, 1: math.nan})
    models = [_model("reference", {"steps_to_nll_1": reached}), _model("lwf", {"steps_to_nll_1": not_all})]

    assert effects_of(models, "accuracy", least_seeds=3) == []
    assert math.isnan(figures_of(models[1]).measures["steps_to_nll_1"].mean)


def test_macro_f1_is_taken_from_the_answers_with_an_interval_over_items_and_seeds() -> None:
    labels = dict(zip("abcdefgh", "xxxxyyyy", strict=True))
    right = pd.DataFrame([list("xxxxyyyy")] * 3, columns=list("abcdefgh"))
    half = pd.DataFrame([list("xxxyyyyx"), list("xxxyxyyy"), list("xyxxyyyx")], columns=list("abcdefgh"))
    models = [
        _model("reference", {"macro_f1": _per_seed(dict.fromkeys(range(3), 0.75))}, answers=half, labels=labels),
        _model("lwf", {"macro_f1": _per_seed(dict.fromkeys(range(3), 1.0))}, answers=right, labels=labels),
    ]
    (effect,) = effects_of(models, "macro_f1", least_seeds=3)

    # Three of four right in either class, in every seed.
    assert effect.difference.mean == pytest.approx(0.25)
    assert effect.items == 8
    assert effect.difference.low < 0.25 < effect.difference.high
