"""A real Trainer on a tiny model, and callbacks that watch it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from by_hand import weights
from tiny import random_samples
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from lwf_assets.engine.samples import Sample, collate

LEARNED = random_samples(16, seed=11)


def collate_for_trainer(samples: list[Sample]) -> dict[str, Tensor]:
    """As anyone would write it for their own Trainer."""
    return vars(collate(samples)).copy()


def trainer(
    folder: Path, model: PreTrainedModel, callbacks: Sequence[TrainerCallback] = (), **settings: Any
) -> Trainer:
    """Six quiet steps at a constant rate, unless told otherwise."""
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "logging_strategy": "no",
    }
    fixed = {"report_to": "none", "disable_tqdm": True, "remove_unused_columns": False, "use_cpu": True, "bf16": False}
    arguments = TrainingArguments(output_dir=str(folder), **fixed | defaults | settings)
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=list(LEARNED),
        data_collator=collate_for_trainer,
        callbacks=list(callbacks),
    )


class Snapshots(TrainerCallback):
    """The weights after each learning step: before unlearning if it comes before that callback."""

    def __init__(self) -> None:
        self.at: dict[int, dict[str, Tensor]] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: PreTrainedModel, **kwargs: Any) -> None:
        self.at[state.global_step] = weights(model)

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: PreTrainedModel, **kwargs: Any) -> None:
        self.at[state.global_step] = weights(model)


class StoppedError(Exception):
    """Raised by `StopAt`."""


class StopAt(TrainerCallback):
    """A failure after a given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise StoppedError


class Poison(TrainerCallback):
    """One weight becomes no number after a given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: PreTrainedModel, **kwargs: Any) -> None:
        self.on_step_end(args, state, control, model=model)

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: PreTrainedModel, **kwargs: Any) -> None:
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))
