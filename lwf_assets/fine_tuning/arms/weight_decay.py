"""Arm `weight_decay`: weights are drawn toward zero, a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from lwf_assets.study.arms import ArmSettings

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


class WeightDecayArm(ArmSettings):
    """Baseline: the plain fine-tune with AdamW's decoupled weight decay."""

    kind: Literal["weight_decay"] = Field(description="Says that this arm is weight decay toward zero.")
    weight: float = Field(0.1, gt=0, lt=1, description="Weight decay; takes the place of training.weight_decay.")


def fine_tune(work: Work, arm: WeightDecayArm) -> dict[str, Any]:
    """Train as the reference, with decay."""
    from lwf_assets.fine_tuning.per_seed import fine_tune_per_seed

    training = work.study.training.model_copy(update={"weight_decay": arm.weight})
    return fine_tune_per_seed(work, label="Fine-tune with weight decay", training=training)
