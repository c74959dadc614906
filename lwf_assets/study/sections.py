"""The sections of a study file, as frozen and validated settings: one class per section, one sentence per key.

Values that are ours and not the paper's are most of them: see docs/method.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from lwf_assets.engine.activation_memory import TOKEN_BUDGET
from lwf_assets.extensions import check_name
from lwf_assets.tasks.settings import TaskSettings

TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
LossReduction = Literal["mean", "sum"]
RowsAtOnce = Literal["auto"] | PositiveInt

OBJECTIVES = ("ascent", "npo", "simnpo", "none")
"""The unlearning objectives that are built in."""


class Settings(BaseModel):
    """Base of every section: frozen, unknown keys refused, non-finite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class HubModel(Settings):
    """A model on the Hugging Face hub, at one revision."""

    kind: Literal["hub"]
    id: str = Field(min_length=1, description="Repository id, for example meta-llama/Llama-3.2-1B.")
    revision: str = Field(
        min_length=1, description="Commit hash: a branch name moves, and with it what was learned from."
    )

    @field_validator("id")
    @classmethod
    def _is_no_directory(cls, value: str) -> str:
        # A directory is recognized by its contents, which a hub source would ignore.
        if value.startswith(("/", "./", "../", "~")):
            raise ValueError("a directory on this machine is given as {kind: directory, path: ..}")
        return value


class DirectoryModel(Settings):
    """A model directory on this machine, as `save_pretrained` writes it."""

    kind: Literal["directory"]
    path: Path = Field(description="Directory with config.json, weights and tokenizer; relative to the study file.")


class PackagedGgufModel(Settings):
    """A GGUF file inside an installed Python package: no hub and no download at run time."""

    kind: Literal["gguf_package"]
    package: str = Field(min_length=1, description="Import name of the installed package.")
    file: str = Field(min_length=1, description="Name of the GGUF file inside the package.")


ModelSource = Annotated[HubModel | DirectoryModel | PackagedGgufModel, Field(discriminator="kind")]


class AdapterSettings(Settings):
    """A low-rank adapter on the frozen model, which the fine-tunes train instead of its weights (LoRA, by PEFT)."""

    kind: Literal["lora"] = Field(description="Kind of adapter: W + alpha / rank * B A, with A and B trained.")
    rank: PositiveInt = Field(16, description="Rank of the update of each weight.")
    alpha: PositiveInt = Field(32, description="Scales the update, by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the adapter's inputs that are dropped in training.")
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        "all-linear",
        description="Layers that carry an adapter: `all-linear`, every linear layer but the output head, or a list of "
        "how the names of modules end (`[q_proj, v_proj]`).",
    )


class ModelSettings(Settings):
    """The pre-trained model that learns and forgets."""

    source: ModelSource
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of the stored weights.")
    max_length: PositiveInt | None = Field(None, description="Context in tokens; null: what the model's config says.")
    truncate_prompts: bool = Field(False, description="Cut a too long prompt from the left instead of refusing it.")
    chat_template: Path | None = Field(
        None,
        description="File with a Jinja chat template, for a model that has none or in place of its own; relative to "
        "the study file.",
    )
    prior: str | None = Field(
        None, description="Name of the knowledge, under `priors`, that the model is taught before the study begins."
    )
    adapter: AdapterSettings | None = Field(
        None, description="What every fine-tune of the study trains instead of all weights; null: all weights."
    )
    token_budget: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Tokens in memory at once, padding included, where per-sample gradients or losses are taken; "
        f"changes nothing but memory and time. auto: what fits on a GPU, {TOKEN_BUDGET} on a CPU.",
    )
    tf32: bool = Field(
        False,
        description="On a GPU, multiply float32 values in TF32, which is faster and changes figures by about 1e-3.",
    )


class GenerationSettings(Settings):
    """How the model writes down what it knows (D_self)."""

    engine: Literal["transformers", "vllm"] = Field(
        "transformers",
        description="What generates. vllm is for large corpora on a GPU and needs the extra of that name; it samples "
        "the same distribution with other draws.",
    )
    max_new_tokens: PositiveInt = Field(64, description="Longest response, in tokens.")
    temperature: PositiveFloat = Field(1.0, description="1 samples the model's own distribution, as the method wants.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus; 1 keeps the whole distribution.")
    samples_per_prompt: PositiveInt = Field(1, description="Responses drawn for each prompt.")
    batch_size: RowsAtOnce = Field(
        "auto",
        description="Prompts answered at once; auto: 16 on a CPU, what fits on a GPU. Changes nothing but speed.",
    )
    seed: NonNegativeInt = Field(0, description="Seed of the draws.")


class TrainingSettings(Settings):
    """The fine-tune on D_L: the same for the reference and for LWF, so that they differ in the forgetting alone."""

    max_steps: PositiveInt | None = Field(None, description="Optimizer steps; give this or epochs.")
    epochs: PositiveFloat | None = Field(None, description="Passes over D_L; give this or max_steps.")
    batch_size: PositiveInt = Field(8, description="Samples per step, over all processes together.")
    gradient_accumulation: PositiveInt = Field(1, description="Batches per optimizer step.")
    learning_rate: PositiveFloat = Field(3e-5, lt=1, description="Peak learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Learning-rate schedule.")
    warmup_steps: NonNegativeInt = Field(0, description="Steps of linear warm-up.")
    weight_decay: float = Field(0.0, ge=0, lt=1, description="AdamW's decoupled weight decay.")
    max_gradient_norm: PositiveFloat = Field(1.0, description="Gradients are clipped to this norm.")
    autocast: Literal["auto", "bfloat16", "off"] = Field(
        "auto", description="Mixed precision; auto: bfloat16 where the device computes in it."
    )
    log_every: PositiveInt = Field(1, description="Steps between points of the loss curve.")
    validate_every: PositiveInt | None = Field(
        None, description="Steps between points of the validation curve, on the validation rows; null: no such curve."
    )
    checkpoint_every: PositiveInt = Field(200, description="Steps between checkpoints that a killed run resumes from.")

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSettings:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of max_steps and epochs")
        return self

    def arguments(self) -> dict[str, Any]:
        """These settings as keyword arguments of `engine.training.fine_tune.fine_tune`."""
        return self.model_dump(exclude={"validate_every"})

    def optimizer_steps(self, rows: int) -> int:
        """Optimizer steps of a fine-tune on `rows` rows, counted as the Trainer counts them."""
        if self.max_steps is not None:
            return self.max_steps
        assert self.epochs is not None
        batches = math.ceil(rows / self.batch_size)
        return math.ceil(self.epochs * max(1, math.ceil(batches / self.gradient_accumulation)))


class ReferenceSettings(Settings):
    """Which point stands for theta_L*, the learning task's optimum. The paper's way is not known; these are ours."""

    optimum: Literal["end", "steps", "gradient_step"] = Field(
        "end", description="End of the vanilla fine-tune, its state after `steps`, or one averaged gradient step."
    )
    steps: PositiveInt | None = Field(None, description="Optimizer steps, when optimum is steps.")

    @model_validator(mode="after")
    def _steps_when_asked(self) -> ReferenceSettings:
        if (self.optimum == "steps") != (self.steps is not None):
            raise ValueError("steps goes with `optimum: steps`, and only with it")
        return self


class FisherSettings(Settings):
    """The diagonal Fisher information of D_L at theta_L*."""

    samples: PositiveInt | None = Field(256, description="Rows of D_L to average over; null: all of them.")
    loss_reduction: LossReduction = Field("mean", description="Loss of a sample: mean or sum over response tokens.")
    seed: NonNegativeInt = Field(0, description="Seed of the draw of rows.")


class ConfidenceSettings(Settings):
    """Forgetting confidence FC(x), and which part of D_self is forgotten (D_U)."""

    alpha: PositiveFloat | None = Field(
        None, description="Length of the gradient step to theta*(x); null: learning_rate."
    )
    loss_reduction: LossReduction = Field("mean", description="Loss of a sample: mean or sum over response tokens.")
    selection_ratio: float | None = Field(None, gt=0, le=1, description="Share of D_self to forget; or give a count.")
    selection_count: PositiveInt | None = Field(None, description="Number of samples to forget; or give a ratio.")
    end: Literal["high", "low", "random"] = Field("high", description="Which end of the FC ranking is forgotten.")
    seed: NonNegativeInt = Field(0, description="Seed of the ranking when end is random.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Type in which the Fisher diagonal and the difference of the weights are held while the terms are "
        "computed; sums are in float32 in any case. bfloat16 takes half the memory: an 8B model on one GPU of 80 GB.",
    )
    space: Literal["weights", "adapter"] | None = Field(
        None,
        description="With `model.adapter`, what FC is over: the `weights` that carry an adapter, or the `adapter`'s "
        "own parameters; null: the weights. Without an adapter FC is over all parameters.",
    )

    @model_validator(mode="before")
    @classmethod
    def _half_by_default(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("selection_ratio") is None and values.get("selection_count") is None:
            return {**values, "selection_ratio": 0.5}
        return values

    @model_validator(mode="after")
    def _one_size(self) -> ConfidenceSettings:
        if self.selection_ratio is not None and self.selection_count is not None:
            raise ValueError("give selection_ratio or selection_count, not both")
        return self


class RetentionSettings(Settings):
    """What holds on to the rest while D_U is unlearned (gradient difference): a loss on the part of D_self that was
    scored but not chosen."""

    kind: Literal["nll", "kl"] = Field(
        "nll", description="NLL of the retained text, or KL divergence from the base model on it."
    )
    weight: PositiveFloat = Field(1.0, description="Weight of the retention loss beside the unlearning loss.")
    batch_size: PositiveInt = Field(8, description="Retained samples per unlearning step.")


class UnlearningSettings(Settings):
    """The unlearning of D_U during the fine-tune."""

    objective: str = Field(
        "ascent",
        description="What an unlearning step climbs: `ascent` (the NLL itself), the bounded losses `npo` and `simnpo`, "
        "an objective of an installed package, or `none` (it only retains, as a control).",
    )
    beta: PositiveFloat | None = Field(
        None, description="Inverse temperature of NPO and SimNPO; null: 0.1 and 2.5, as in their papers."
    )
    gamma: float = Field(0.0, ge=0, description="Reward margin of SimNPO.")
    retain: RetentionSettings | None = Field(
        None, description="Gradient difference: a retention loss beside it; null: none."
    )

    interval: PositiveInt = Field(5, description="N_u: learning steps between two unlearning steps.")
    forgetting_rate: PositiveFloat = Field(
        1e-5, lt=1, description="Learning rate of the ascent's own optimizer; follows the learner's schedule."
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="The ascent's own optimizer.")
    per_sample_cap: PositiveFloat = Field(
        4.0, description="A sample whose NLL (nats per token) is at or above this is forgotten: it pushes nothing."
    )
    batch_size: PositiveInt = Field(8, description="Samples of D_U per unlearning step.")
    max_gradient_norm: PositiveFloat = Field(1.0, description="The ascent's gradients are clipped to this norm.")
    timing: Literal["periodic", "upfront", "random"] = Field(
        "periodic", description="Every interval, all before learning, or the same number at random steps."
    )

    @field_validator("objective")
    @classmethod
    def _objective_is_known(cls, value: str) -> str:
        return check_name("lwf.objectives", value, OBJECTIVES, "objective")

    @model_validator(mode="after")
    def _does_something(self) -> UnlearningSettings:
        if self.objective == "none" and self.retain is None:
            raise ValueError("objective none goes with `retain`: without it an unlearning step would do nothing")
        return self


class EvaluationSettings(Settings):
    """How models are compared."""

    batch_size: RowsAtOnce = Field(
        "auto", description="Items answered at once; auto: 16 on a CPU, what fits on a GPU. Changes nothing but speed."
    )
    response_examples: NonNegativeInt = Field(
        6, description="Forgetting prompts answered by every model in the report."
    )
    primary_measure: Literal["accuracy", "target_nll", "learning_auc"] = Field(
        "accuracy",
        description="What the verdict is about: share of right answers, NLL of the test targets, or the area under the "
        "learning curve (how fast was it learned?).",
    )
    learning_levels: tuple[PositiveFloat, ...] = Field(
        (1.0, 0.5, 0.1), description="NLL levels, in nats per token: how many steps does it take to get there?"
    )
    least_seeds: int = Field(3, ge=2, description="With fewer seeds there is no verdict.")
    known_conflicts: tuple[TaskName, ...] = Field(
        (),
        description="Forgetting tasks that are known to contradict the learning task; the report of a cell that mixes "
        "them with others then says how well FC finds them.",
    )
    neutral_text: Path | None = Field(
        None, description="JSONL file with `id` and `text`: text that no fine-tune should make less likely (utility)."
    )
    untouched_tasks: dict[TaskName, TaskSettings] = Field(
        default_factory=dict, description="Tasks that are neither learned nor forgotten, scored for utility, by name."
    )


class ProbeSettings(Settings):
    """Whether what was forgotten is gone or only hidden."""

    models: tuple[str, ...] = Field(
        ("reference", "lwf"), min_length=1, description="Which models are probed: reference, lwf, or names of arms."
    )
    relearning_steps: PositiveInt = Field(8, description="AdamW steps on the forgotten samples.")
    relearning_rate: PositiveFloat = Field(1e-5, lt=1, description="Their constant learning rate.")
    relearning_batch_size: PositiveInt = Field(8, description="Their samples per step.")
    quantization: tuple[Literal[8, 4], ...] = Field((8, 4), description="Bits of the weights, looked at again.")
    prompt_forms: tuple[str, ...] = Field(
        ("{prompt}\n", "Please answer.\n{prompt}"),
        description="Changed prompts: `{prompt}` stands for the one that was unlearned.",
    )

    @field_validator("prompt_forms")
    @classmethod
    def _shows_the_prompt(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if odd := [form for form in value if "{prompt}" not in form]:
            raise ValueError(f"{odd[0]!r} does not show the prompt; write {{prompt}}")
        return value


class PriorSettings(Settings):
    """Knowledge that a model is given before the study begins: a fine-tune of the pre-trained model on some tasks.

    For studies of negative transfer, in which it must be known what the model knows.
    """

    tasks: dict[TaskName, TaskSettings] = Field(min_length=1, description="What is taught, by name.")
    training: TrainingSettings = Field(description="How it is taught.")
    seed: NonNegativeInt = Field(0, description="Seed of the order of the rows.")


class ComputeSettings(Settings):
    """On how many devices of this machine a step computes; changes nothing but time and memory."""

    processes: PositiveInt = Field(
        1,
        description="Processes that share a step that computes with a model, each on a CUDA device of its own, or on "
        "its share of the CPU's cores; 1: in the process of the build.",
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="How they train: each with the whole model (ddp), or with a part of it (fsdp, CUDA devices only).",
    )


class AutomationSettings(Settings):
    """What builds the study by itself, once Dagster's daemon runs."""

    cron: str | None = Field(
        None, min_length=1, description="When to build, as a cron expression (`0 3 * * 1`); null: on no schedule."
    )
    timezone: str = Field("UTC", description="Time zone of `cron`, for example Europe/Berlin.")
    watch_data: bool = Field(False, description="Build when the content of a file that the study reads has changed.")

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r} is not a time zone; give a name such as Europe/Berlin") from None
        return value


class PromotionSettings(Settings):
    """When a new LWF model takes the place of the champion in the model registry."""

    margin: NonNegativeFloat = Field(
        0.0,
        description="How much worse than the champion it may be in `evaluation.primary_measure`, in the measure's own "
        "unit: the whole 95 % interval must be on this side of it.",
    )
    bounds: dict[str, float] = Field(
        default_factory=dict,
        description="What must not be lost, by measure (`untouched_accuracy`, `neutral_nll`): the least mean that will "
        "do, or the highest where lower is better.",
    )
