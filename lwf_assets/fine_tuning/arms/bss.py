"""Arm `bss`: Batch Spectral Shrinkage (Chen et al., NeurIPS 2019), a baseline against negative transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.study.arms import BssArm

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lwf_assets.fine_tuning.per_seed import Treatment
    from lwf_assets.graph.work import Work
    from lwf_assets.study.arms import BssArm


def fine_tune(work: Work, arm: BssArm) -> dict[str, Any]:
    """Add the penalty to the learner's loss."""
    from lwf_assets.engine.training.penalties.batch_spectral_shrinkage import BatchSpectralShrinkage
    from lwf_assets.fine_tuning.per_seed import Treatment, fine_tune_per_seed

    def treat(seed: int, model: PreTrainedModel) -> Treatment:
        return Treatment(penalty=BatchSpectralShrinkage(weight=arm.weight, k=arm.singular_values))

    return fine_tune_per_seed(work, treat, label="Fine-tune with BSS")
