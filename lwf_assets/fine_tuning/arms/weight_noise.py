"""Arm `weight_noise`: a control that perturbs the weights as much as LWF moved them, in random directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.fine_tuning.sharded import refuse_sharded
from lwf_assets.store.layout import read_ledger
from lwf_assets.study.arms import WeightNoiseArm

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lwf_assets.fine_tuning.per_seed import Treatment
    from lwf_assets.graph.work import Work
    from lwf_assets.study.arms import WeightNoiseArm


def fine_tune(work: Work, arm: WeightNoiseArm) -> dict[str, Any]:
    """Take steps and norms from the ledger of LWF's run of the same seed."""
    refuse_sharded(work, arm.kind)
    from lwf_assets.engine.training.weight_noise import WeightNoise
    from lwf_assets.fine_tuning.per_seed import Treatment, fine_tune_per_seed

    ledger = read_ledger(work.input("lwf_checkpoint"), work.study.seeds)
    norms: dict[int, dict[int, float]] = {seed: {} for seed in work.study.seeds}
    for entry in ledger:
        norms[entry["seed"]][entry["step"]] = entry["update_norm"]

    def treat(seed: int, model: PreTrainedModel) -> Treatment:
        return Treatment((WeightNoise(norms[seed], seed=seed),))

    return fine_tune_per_seed(work, treat, label="Fine-tune with weight noise")
