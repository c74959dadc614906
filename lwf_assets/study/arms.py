"""What all arms of a study have in common: settings, and what they are made from.

An arm is one way to fine-tune, trained from the same base, data, seeds and step budget as the reference and LWF, and
compared with them in the same report. Each kind is a module of this package: its settings and its fine-tune.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from lwf_assets.study.sections import ConfidenceSettings, Settings, TaskName, UnlearningSettings

Overrides = dict[str, Any]


class ArmSettings(Settings):
    """Base of every kind of arm."""

    inputs: ClassVar[tuple[str, ...]] = ("base_model", "learning_data")
    """The assets that its checkpoint is made from."""
    per_forgetting_task: ClassVar[bool] = False
    """Whether there is one such model for each forgetting task, or one alone."""

    learning_tasks: tuple[TaskName, ...] | None = Field(
        None, description="Learning tasks that it is trained on; null: all of them."
    )


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

    def confidence_settings(self, study: ConfidenceSettings) -> ConfidenceSettings:
        """The study's selection with what differs here. A ratio takes the place of a count and the other way round."""
        values = study.model_dump()
        if self.confidence.keys() & {"selection_ratio", "selection_count"}:
            values |= {"selection_ratio": None, "selection_count": None}
        return ConfidenceSettings.model_validate(values | self.confidence)

    def unlearning_settings(self, study: UnlearningSettings) -> UnlearningSettings:
        """The study's unlearning with what differs here."""
        return UnlearningSettings.model_validate(_merged(study.model_dump(), self.unlearning))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(inherited, Mapping)
        merged[key] = _merged(inherited, value) if both else value  # type: ignore[arg-type]
    return merged
