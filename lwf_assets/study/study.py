"""The study: what a person wants done, as frozen and validated settings.

`sections.py` has the sections and `arms.py` the arms; `file.py` reads them from YAML. Which asset depends on which of
them is in `lwf_assets/graph/`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from lwf_assets.study.arms import Arm, ArmSettings
from lwf_assets.study.sections import (
    AutomationSettings,
    ComputeSettings,
    ConfidenceSettings,
    EvaluationSettings,
    FisherSettings,
    GenerationSettings,
    ModelSettings,
    PriorSettings,
    ProbeSettings,
    PromotionSettings,
    ReferenceSettings,
    Settings,
    TaskName,
    TrainingSettings,
    UnlearningSettings,
)
from lwf_assets.tasks.settings import TaskSettings

MIXED = "mixed"
"""The forgetting task that is the union of all the others."""

BASE, REFERENCE, LWF = "base", "reference", "lwf"
"""The models that every study compares; no arm may take their names."""

ARM_NAME = r"^[a-z][a-z0-9_]*$"
ArmName = Annotated[str, Field(pattern=ARM_NAME, max_length=40)]


class Study(Settings):
    """A whole study, as its file says it."""

    name: TaskName = Field(description="Name of the study: names MLflow's experiment and registered models.")
    description: str = Field("", description="What the study is for, in a sentence.")
    model: ModelSettings
    priors: dict[TaskName, PriorSettings] = Field(
        default_factory=dict, description="Knowledge that a base is taught before the study begins, by name."
    )
    learning_tasks: dict[TaskName, TaskSettings] = Field(min_length=1, description="What is learned, by name.")
    forgetting_tasks: dict[TaskName, TaskSettings] = Field(min_length=1, description="What is forgotten, by name.")
    mixed: bool = Field(False, description="Add the forgetting task `mixed`: all the others together.")
    generation: GenerationSettings = GenerationSettings()
    training: TrainingSettings
    reference: ReferenceSettings = ReferenceSettings()
    fisher: FisherSettings = FisherSettings()
    confidence: ConfidenceSettings = ConfidenceSettings()
    unlearning: UnlearningSettings = UnlearningSettings()
    arms: dict[ArmName, Arm] = Field(
        default_factory=dict,
        description="What else is trained and compared beside the reference and LWF, by name in small letters.",
    )
    evaluation: EvaluationSettings = EvaluationSettings()
    probe: ProbeSettings | None = Field(None, description="Whether it is really forgotten; null: not looked at.")
    promotion: PromotionSettings | None = Field(
        None, description="When a new model becomes the champion; null: whoever registers it decides."
    )
    compute: ComputeSettings = ComputeSettings()
    automation: AutomationSettings = AutomationSettings()
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1, description="One fine-tune of each kind per seed.")

    @model_validator(mode="after")
    def _names(self) -> Study:
        if MIXED in self.learning_tasks or MIXED in self.forgetting_tasks:
            raise ValueError(f"no task may be called {MIXED!r}: write `mixed: true` to forget all tasks together")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: must be unique")
        if not any(f != learned for f in self.forgetting_names for learned in self.learning_tasks):
            raise ValueError("forgetting_tasks: name a task that is not the learning task itself")
        _check_known("model.prior", [self.model.prior] if self.model.prior else [], self.priors)
        _check_known("evaluation.known_conflicts", self.evaluation.known_conflicts, self.forgetting_tasks)
        if self.probe is not None:
            _check_known("probe.models", self.probe.models, (REFERENCE, LWF, *self.arms))
        return self

    @model_validator(mode="after")
    def _arms_fit(self) -> Study:
        for name, arm in self.arms.items():
            key = f"arms.{name}"
            if name in (BASE, REFERENCE, LWF):
                raise ValueError(f"{key}: every study has a model of this name; choose another name for the arm")
            _check_known(f"{key}.learning_tasks", arm.learning_tasks or (), self.learning_tasks)
            _check_known(f"{key}.forgetting_tasks", arm.only_forgetting_tasks or (), self.forgetting_names)
            _check_known(f"{key}.prior", [arm.taught_prior] if arm.taught_prior else [], self.priors)
            _check_overrides(key, arm, self)
            if self.model.adapter is not None and arm.needs_all_weights is not None:
                raise ValueError(f"{key}: {arm.needs_all_weights}; leave the arm out, or model.adapter")
        return self

    @model_validator(mode="after")
    def _space_fits(self) -> Study:
        if self.confidence.space is not None and self.model.adapter is None:
            raise ValueError(
                "confidence.space: goes with model.adapter, and only with it; without one FC is over all parameters"
            )
        return self

    @model_validator(mode="after")
    def _adapters_are_not_sharded(self) -> Study:
        if self.compute.strategy == "fsdp" and self.model.adapter is not None:
            raise ValueError("compute.strategy: fsdp does not shard adapters; take ddp, or leave out model.adapter")
        return self

    @property
    def learning_names(self) -> tuple[str, ...]:
        """Learning tasks, in the order of the file."""
        return tuple(self.learning_tasks)

    @property
    def forgetting_names(self) -> tuple[str, ...]:
        """Forgetting tasks, in the order of the file, `mixed` last."""
        return (*self.forgetting_tasks, *((MIXED,) if self.mixed else ()))

    @property
    def alpha(self) -> float:
        """Alpha of FC: the study's, or the fine-tune's learning rate."""
        return self.alpha_of(self.confidence)

    @property
    def confidence_space(self) -> Literal["weights", "adapter"] | None:
        """What FC is over: the weights that carry an adapter, the adapter's own parameters; None: all parameters."""
        return None if self.model.adapter is None else self.confidence.space or "weights"

    def alpha_of(self, confidence: ConfidenceSettings) -> float:
        """Alpha of FC under other settings of the selection."""
        return confidence.alpha if confidence.alpha is not None else self.training.learning_rate


class OverrideError(ValueError):
    """What an arm says in place of a section's keys does not fit the section; `mistakes` are reported below `key`."""

    def __init__(self, key: str, section: Any, mistakes: ValidationError) -> None:
        super().__init__(f"{key}: {mistakes}")
        self.key = key
        self.section = section
        self.mistakes = mistakes


def _check_known(key: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            choice = f"choose from {', '.join(known)}" if known else "the study defines none"
            raise ValueError(f"{key}: unknown name {name!r}; {choice}")


def _check_overrides(key: str, arm: ArmSettings, study: Study) -> None:
    for shared in ("loss_reduction", "precision", "space"):
        if shared in getattr(arm, "confidence", ()):
            raise ValueError(f"{key}.confidence.{shared}: all arms share the gradients; set it for the study")
    for section, check in (
        ("confidence", lambda: arm.confidence_settings(study.confidence)),
        ("unlearning", lambda: arm.unlearning_settings(study.unlearning)),
    ):
        try:
            check()
        except ValidationError as error:
            raise OverrideError(f"{key}.{section}", Study.model_fields[section].annotation, error) from None
