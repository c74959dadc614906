"""Arm `l2_sp`: weights are pulled to where they started (L2-SP; Li et al., ICML 2018), a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.fine_tuning.sharded import refuse_sharded
from lwf_assets.study.arms import L2SpArm

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lwf_assets.fine_tuning.per_seed import Treatment
    from lwf_assets.graph.work import Work
    from lwf_assets.study.arms import L2SpArm


def fine_tune(work: Work, arm: L2SpArm) -> dict[str, Any]:
    """Add the penalty to the learner's loss."""
    refuse_sharded(work, arm.kind)
    from lwf_assets.engine.training.penalties.l2_sp import L2SP
    from lwf_assets.fine_tuning.per_seed import Treatment, fine_tune_per_seed

    def treat(seed: int, model: PreTrainedModel) -> Treatment:
        return Treatment(penalty=L2SP(model, weight=arm.weight))

    return fine_tune_per_seed(work, treat, label="Fine-tune with L2-SP")
