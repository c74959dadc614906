"""Arm `other_base`: the plain fine-tune of a base that was taught something else, the control for prior knowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.study.arms import OtherBaseArm

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work
    from lwf_assets.study.arms import OtherBaseArm


def fine_tune(work: Work, arm: OtherBaseArm) -> dict[str, Any]:
    """Train as the reference, from another place."""
    from lwf_assets.fine_tuning.per_seed import fine_tune_per_seed

    return fine_tune_per_seed(work, label=f"Fine-tune after {arm.prior}", base=work.input("control_base"))
