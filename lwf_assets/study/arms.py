"""The arms of a study, as settings: what is trained and compared in addition to the reference and LWF.

An arm is one way to fine-tune, trained from the same base, data, seeds and step budget as the reference and LWF, and
compared with them in the same report. A kind of arm is a class here, its name in `Arm`, and its training in the module
of `lwf_assets/fine_tuning/arms/` that is named as the kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from lwf_assets.study.sections import ConfidenceSettings, Settings, TaskName, UnlearningSettings

Overrides = dict[str, Any]


class ArmSettings(Settings):
    """Base of every kind of arm."""

    inputs: ClassVar[tuple[str, ...]] = ("base_model", "learning_data")
    """The assets that its checkpoint is made from."""
    per_forgetting_task: ClassVar[bool] = False
    """Whether there is one such model for each forgetting task, or one alone."""

    follows_unlearning_interval: ClassVar[bool] = False
    """Whether the study's `unlearning.interval` decides how long it is trained."""
    keeps_starting_weights: ClassVar[bool] = False
    """Whether a second copy of the weights is held during the fine-tune."""
    needs_all_weights: ClassVar[str | None] = None
    """Why it cannot be trained as an adapter; None: it can."""

    learning_tasks: tuple[TaskName, ...] | None = Field(
        None, description="Learning tasks that it is trained on; null: all of them."
    )

    @property
    def only_forgetting_tasks(self) -> tuple[TaskName, ...] | None:
        """The forgetting tasks that it is limited to; None: no limit."""
        return None

    @property
    def taught_prior(self) -> TaskName | None:
        """The prior knowledge that its own base is taught; None: it starts from the study's base model."""
        return None

    def confidence_settings(self, study: ConfidenceSettings) -> ConfidenceSettings | None:
        """How it chooses what to forget, given the study's settings; None: it forgets nothing by itself."""
        return None

    def unlearning_settings(self, study: UnlearningSettings) -> UnlearningSettings | None:
        """How it unlearns, given the study's settings; None: it unlearns nothing."""
        return None


class ForgettingArmSettings(ArmSettings):
    """Base of those that differ from LWF in some setting of the forgetting."""

    inputs: ClassVar[tuple[str, ...]] = ("base_model", "learning_data", "confidence_terms")
    per_forgetting_task: ClassVar[bool] = True

    forgetting_tasks: tuple[TaskName, ...] | None = Field(
        None, description="Forgetting tasks that it is trained with (`mixed` is one); null: all of them."
    )
    confidence: Overrides = Field(
        default_factory=dict, description="Keys of `confidence` that differ from the study's."
    )
    unlearning: Overrides = Field(
        default_factory=dict, description="Keys of `unlearning` that differ from the study's."
    )

    @property
    def only_forgetting_tasks(self) -> tuple[TaskName, ...] | None:
        return self.forgetting_tasks

    def confidence_settings(self, study: ConfidenceSettings) -> ConfidenceSettings:
        """The study's selection with what differs here. A ratio takes the place of a count and the other way round."""
        values = study.model_dump()
        if self.confidence.keys() & {"selection_ratio", "selection_count"}:
            values |= {"selection_ratio": None, "selection_count": None}
        return ConfidenceSettings.model_validate(values | self.confidence)

    def unlearning_settings(self, study: UnlearningSettings) -> UnlearningSettings:
        """The study's unlearning with what differs here."""
        return UnlearningSettings.model_validate(_merged(study.model_dump(), self.unlearning))


class LwfArm(ForgettingArmSettings):
    """LWF with some settings of its own: the ablations and sweeps, and other unlearning objectives."""

    kind: Literal["lwf"] = Field(description="Says that this arm is a variant of LWF.")


class RandomTokensArm(ForgettingArmSettings):
    """Control: unlearns random tokens, as many and as long as LWF's samples, at the same steps. If it does as well,
    then forgetting that knowledge is not the cause."""

    kind: Literal["random_tokens"] = Field(description="Says that this arm is the control with random tokens.")
    seed: NonNegativeInt = Field(0, description="Seed of the draw of tokens.")


class WeightNoiseArm(ArmSettings):
    """Control: after the steps at which LWF unlearned, random noise of the same Euclidean norm as LWF's update."""

    inputs: ClassVar[tuple[str, ...]] = ("base_model", "learning_data", "lwf_checkpoint")
    per_forgetting_task: ClassVar[bool] = True

    kind: Literal["weight_noise"] = Field(description="Says that this arm is the control with weight noise.")
    forgetting_tasks: tuple[TaskName, ...] | None = Field(
        None, description="Forgetting tasks whose LWF run gives steps and norms; null: all of them."
    )

    @property
    def only_forgetting_tasks(self) -> tuple[TaskName, ...] | None:
        return self.forgetting_tasks


class ExtraStepsArm(ArmSettings):
    """Control: the plain fine-tune with one more learning step for each unlearning step of LWF."""

    follows_unlearning_interval: ClassVar[bool] = True

    kind: Literal["extra_steps"] = Field(description="Says that this arm is the control with extra learning steps.")


class BssArm(ArmSettings):
    """Baseline: the plain fine-tune with a penalty on the smallest singular values of each batch's feature matrix."""

    kind: Literal["bss"] = Field(description="Says that this arm is Batch Spectral Shrinkage.")
    weight: PositiveFloat = Field(1e-3, description="Weight of the penalty; 0.001 as in its paper.")
    singular_values: PositiveInt = Field(1, description="How many of the smallest are penalised; 1 as in its paper.")


class L2SpArm(ArmSettings):
    """Baseline: the plain fine-tune with a penalty on the squared distance from the base model's weights."""

    keeps_starting_weights: ClassVar[bool] = True
    needs_all_weights: ClassVar[str | None] = (
        "l2_sp holds back the model's own weights, which do not move where an adapter is trained"
    )

    kind: Literal["l2_sp"] = Field(description="Says that this arm is L2-SP.")
    weight: PositiveFloat = Field(1e-2, description="Weight of half the squared distance.")


class WeightDecayArm(ArmSettings):
    """Baseline: the plain fine-tune with AdamW's decoupled weight decay."""

    kind: Literal["weight_decay"] = Field(description="Says that this arm is weight decay toward zero.")
    weight: float = Field(0.1, gt=0, lt=1, description="Weight decay; takes the place of training.weight_decay.")


class OtherBaseArm(ArmSettings):
    """Control: the plain fine-tune of a base with other prior knowledge. How much faster it learns is the negative
    transfer that there is to remove."""

    inputs: ClassVar[tuple[str, ...]] = ("control_base", "learning_data")

    kind: Literal["other_base"] = Field(description="Says that this arm starts from another base.")
    prior: TaskName = Field(description="Name of the knowledge, under `priors`, that its base is taught.")

    @property
    def taught_prior(self) -> TaskName:
        return self.prior


Arm = Annotated[
    LwfArm | RandomTokensArm | WeightNoiseArm | ExtraStepsArm | BssArm | L2SpArm | WeightDecayArm | OtherBaseArm,
    Field(discriminator="kind"),
]
"""One arm, of any kind."""


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(inherited, Mapping)
        merged[key] = _merged(inherited, value) if both else value  # type: ignore[arg-type]
    return merged
