"""Every measure declares which way is the better one, or there is no verdict on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluated import Cell, usual_models

from lwf_assets.assets import eval_report
from lwf_assets.comparison.measures import MEASURES, measure_of, steps_to
from lwf_assets.comparison.promotion import decide_promotion
from lwf_assets.errors import LwfError
from lwf_assets.store.layout import read_summary
from lwf_assets.study.sections import PromotionSettings


@pytest.mark.parametrize("name", ["latency_seconds", "invalid_bytes", "my_nll", "speed"])
def test_the_direction_of_an_unknown_measure_is_not_guessed(name: str) -> None:
    assert measure_of(name).higher_is_better is None


def test_those_that_are_known_say_theirs() -> None:
    assert MEASURES["accuracy"].higher_is_better
    assert MEASURES["target_nll"].higher_is_better is False
    assert MEASURES["distance"].higher_is_better is None
    assert measure_of(steps_to(0.5)).higher_is_better is False


def test_without_a_direction_there_is_no_verdict(tmp_path: Path) -> None:
    work = Cell(tmp_path, models=usual_models(lwf_gain=0.3)).work()
    eval_report.materialize(work)
    verdicts = {e["measure"]: e["verdict"] for e in read_summary(work.out)["effects"] if e["model"] == "lwf"}
    assert verdicts["accuracy"] == "helps"
    assert verdicts["forgotten_nll"] == "higher"
    assert {verdicts[name] for name in verdicts if measure_of(name).higher_is_better is None}.isdisjoint(
        {"helps", "hurts"}
    )


def test_nothing_without_a_direction_can_be_a_condition(tmp_path: Path) -> None:
    work = Cell(tmp_path, models=usual_models()).work()
    evaluations = [(cell, artifact) for cell, artifact in work.inputs.items() if cell.asset == "evaluation"]
    folders = {cell.partition.model: artifact.path for cell, artifact in evaluations}
    (forget_set,) = (artifact.path for cell, artifact in work.inputs.items() if cell.asset == "scored_forget_set")
    with pytest.raises(LwfError, match="distance has no better direction, so it cannot be bounded; choose from"):
        decide_promotion(
            folders["lwf.dental"],
            None,
            forget_set,
            PromotionSettings(bounds={"distance": 1.0}),
            measure="accuracy",
            forgetting_task="dental",
        )
