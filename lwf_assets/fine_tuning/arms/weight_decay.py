"""Arm `weight_decay`: weights are pulled toward zero, a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.study.arms import WeightDecayArm

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work
    from lwf_assets.study.arms import WeightDecayArm


def fine_tune(work: Work, arm: WeightDecayArm) -> dict[str, Any]:
    """Train as the reference, with decay."""
    from lwf_assets.fine_tuning.per_seed import fine_tune_per_seed

    training = work.study.training.model_copy(update={"weight_decay": arm.weight})
    return fine_tune_per_seed(work, label="Fine-tune with weight decay", training=training)
