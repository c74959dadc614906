"""Arm `extra_steps`: a control that learns in the time that LWF spends on unlearning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.store.layout import TRAIN_ROWS
from lwf_assets.study.arms import ExtraStepsArm

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work
    from lwf_assets.study.arms import ExtraStepsArm


def fine_tune(work: Work, arm: ExtraStepsArm) -> dict[str, Any]:
    """Train as long as LWF does, learning and unlearning steps together; the schedule stretches over all of them."""
    from lwf_assets.fine_tuning.per_seed import fine_tune_per_seed
    from lwf_assets.store.tables import read_rows

    rows = len(read_rows(work.input("learning_data") / TRAIN_ROWS))
    steps = work.study.training.optimizer_steps(rows)
    extra = steps // work.study.unlearning.interval
    training = work.study.training.model_copy(update={"max_steps": steps + extra, "epochs": None})
    return fine_tune_per_seed(work, label="Fine-tune with extra steps", training=training)
