"""Arm `extra_steps`: a control that learns in the time that LWF spends on unlearning."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from lwf_assets.study.arms import ArmSettings

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work
    from lwf_assets.study.sections import TrainingSettings


class ExtraStepsArm(ArmSettings):
    """Control: the plain fine-tune with one more learning step for each unlearning step of LWF."""

    kind: Literal["extra_steps"] = Field(description="Says that this arm is the control with extra learning steps.")


def fine_tune(work: Work, arm: ExtraStepsArm) -> dict[str, Any]:
    """Train as long as LWF does, learning and unlearning steps together; the schedule stretches over all of them."""
    from lwf_assets.assets import learning_data
    from lwf_assets.fine_tuning.per_seed import fine_tune_per_seed
    from lwf_assets.store.tables import read_rows

    rows = len(read_rows(work.input("learning_data") / learning_data.TRAIN))
    steps = learning_steps(work.study.training, rows)
    extra = steps // work.study.unlearning.interval
    training = work.study.training.model_copy(update={"max_steps": steps + extra, "epochs": None})
    return fine_tune_per_seed(work, label="Fine-tune with extra steps", training=training)


def learning_steps(training: TrainingSettings, rows: int) -> int:
    """Optimizer steps of a fine-tune on so many rows, counted as the Trainer counts them."""
    if training.max_steps is not None:
        return training.max_steps
    assert training.epochs is not None
    batches = math.ceil(rows / training.batch_size)
    return math.ceil(training.epochs * max(1, math.ceil(batches / training.gradient_accumulation)))
