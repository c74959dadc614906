"""What is said beside the figures of a cell."""

from __future__ import annotations

import pytest

from lwf_assets.comparison.cell_report import saturation, unreached
from lwf_assets.comparison.records import ArmEffect, ModelFigures
from lwf_assets.statistics.interval import Interval


def _models(accuracy: float, *measures: str) -> list[ModelFigures]:
    known = {"accuracy": Interval(accuracy, accuracy, accuracy)} | dict.fromkeys(measures, Interval(9.0, 9.0, 9.0))
    return [ModelFigures(model, [0], known) for model in ("base", "reference", "lwf")]


@pytest.mark.parametrize(("accuracy", "said"), [(0.99, True), (0.005, True), (0.97, False), (0.5, False)])
def test_a_saturated_accuracy_is_told_of(accuracy: float, said: bool) -> None:
    notes = saturation(_models(accuracy), "accuracy")

    assert bool(notes) is said
    assert all("evaluation.primary_measure" in note for note in notes)


def test_another_primary_measure_cannot_be_saturated() -> None:
    assert saturation(_models(1.0), "target_nll") == []


def test_levels_that_not_every_seed_reached_are_named() -> None:
    effect = ArmEffect("lwf", "steps_to_nll_1", 9, 9, Interval(0, 0, 0), 1, 1, 1, "", 3, 0)
    models = _models(0.5, "steps_to_nll_1", "steps_to_nll_0.1")

    (note,) = unreached(models, [effect])
    assert "NLL 0.1," in note
    assert unreached(_models(0.5, "steps_to_nll_1"), [effect]) == []
