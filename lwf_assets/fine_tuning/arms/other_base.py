"""Arm `other_base`: the plain fine-tune of a base that was taught something else, the control for prior knowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lwf_assets.study.arms import ArmSettings
from lwf_assets.study.sections import TaskName

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


class OtherBaseArm(ArmSettings):
    """Control: the plain fine-tune of a base with other prior knowledge. How much faster it learns is the negative
    transfer that there is to remove."""

    inputs: ClassVar[tuple[str, ...]] = ("control_base", "learning_data")

    kind: Literal["other_base"] = Field(description="Says that this arm starts from another base.")
    prior: TaskName = Field(description="Name of the knowledge, under `priors`, that its base is taught.")


def fine_tune(work: Work, arm: OtherBaseArm) -> dict[str, Any]:
    """Train as the reference, from another place."""
    from lwf_assets.fine_tuning.per_seed import fine_tune_per_seed

    return fine_tune_per_seed(work, label=f"Fine-tune after {arm.prior}", base=work.input("control_base"))
