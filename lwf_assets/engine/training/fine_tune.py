"""The fine-tune: a Hugging Face Trainer that stops at a loss that is not a number and survives being killed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lwf_assets.disk.sums import is_as_summed, write_sums
from lwf_assets.engine import processes
from lwf_assets.engine.loss import token_losses
from lwf_assets.engine.precision import Autocast, use_bfloat16
from lwf_assets.engine.row_separation import check_row_separation
from lwf_assets.engine.samples import IGNORED, Batch, Sample, collate
from lwf_assets.errors import LwfError
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from transformers import PreTrainedModel

    from lwf_assets.engine.training.penalties import Penalty


SHARDED: dict[str, Any] = {
    "fsdp": True,
    "fsdp_config": {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "state_dict_type": "FULL_STATE_DICT"},
}
"""Of the Trainer's arguments."""


@dataclass(frozen=True)
class LossPoint:
    """One point of the loss curve: mean learning loss (nats per response token) since the last one."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float


def fine_tune(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    *,
    seed: int,
    folder: Path,
    max_steps: int | None = None,
    epochs: float | None = None,
    batch_size: int = 8,
    gradient_accumulation: int = 1,
    learning_rate: float = 3e-5,
    schedule: Literal["linear", "cosine", "constant"] = "linear",
    warmup_steps: int = 0,
    weight_decay: float = 0.0,
    max_gradient_norm: float = 1.0,
    autocast: Autocast = "auto",
    log_every: int = 1,
    checkpoint_every: int = 200,
    pad_id: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
    progress: Progress = SILENT,
    label: str = "Fine-tuning",
    penalty: Penalty | None = None,
    sharded: bool = False,
) -> list[LossPoint]:
    """Train `model` in place on the response tokens of `samples`.

    Processes that have joined share each batch: the weights are those of one process, but for rounding (and for
    dropout, whose draws are others).

    Args:
        model: a causal language model, on its device.
        samples: D_L.
        seed: of the order of the samples (and of dropout, where the model has it).
        folder: where checkpoints go. Training resumes from the newest complete one in it.
        max_steps: optimizer steps; give this or `epochs`.
        epochs: passes over `samples`.
        batch_size: samples per step, over all processes together.
        gradient_accumulation: batches per optimizer step.
        learning_rate: AdamW's peak learning rate.
        schedule: of the learning rate.
        warmup_steps: steps of linear warm-up.
        weight_decay: AdamW's decoupled weight decay.
        max_gradient_norm: gradients are clipped to this norm.
        autocast: mixed precision; see `use_bfloat16`.
        log_every: steps between points of the loss curve.
        checkpoint_every: steps between checkpoints.
        pad_id: token that fills short rows.
        callbacks: for example `PeriodicUnlearning`.
        progress: notified of every step, and of the curve.
        label: what the phase is called.
        penalty: added to the loss of every batch; under gradient accumulation a step has the mean of its batches'
            penalties. The curve stays that of the learning loss; `progress` gets `learning/penalty` in addition.

        sharded: whether each of several processes has a part of the model (FSDP2, CUDA devices only); it is in parts
            afterwards: see `whole_model`.

    Returns:
        The loss curve from the first step on, also after a resume.

    Raises:
        ValueError: both or neither of `max_steps` and `epochs`.
        LwfError: no samples, a batch that the processes cannot share evenly, or a loss or penalty that is not finite;
            the message names the step.
    """
    if (max_steps is None) == (epochs is None):
        raise ValueError("give exactly one of max_steps and epochs")
    if not samples:
        raise LwfError("learning_data holds no training rows; raise rows.train or give more data")
    check_row_separation(model, samples)
    together = processes.here()
    if batch_size % together.world:
        raise LwfError(
            f"training.batch_size: {batch_size} cannot be shared evenly by compute.processes: {together.world}; take a "
            "multiple of it"
        )
    device = model.device
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size // together.world,
        gradient_accumulation_steps=gradient_accumulation,
        max_steps=max_steps or -1,
        num_train_epochs=epochs or 1.0,
        learning_rate=learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        max_grad_norm=max_gradient_norm,
        bf16=use_bfloat16(autocast, device),
        use_cpu=device.type == "cpu",
        seed=seed,
        data_seed=seed,
        logging_steps=log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=checkpoint_every,
        save_total_limit=2,  # the newest may be cut short; the one before it is whole
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
        **(SHARDED if sharded and together.world > 1 else {}),
    )
    trainer = _FineTuner(
        model=model,
        args=arguments,
        train_dataset=list(samples),
        data_collator=_Collator(pad_id, together),
        callbacks=[_Watch(progress, label), *callbacks, _WriteSums()],
        penalty=penalty,
    )
    if sharded and together.world > 1 and not trainer.is_fsdp_enabled:
        raise LwfError("compute.strategy: fsdp cannot be had on the devices of this machine; take ddp")
    trainer.remove_callback(PrinterCallback)  # stdout belongs to the caller
    newest = newest_whole_checkpoint(folder) if together.is_first else None
    trainer.train(resume_from_checkpoint=together.of_first(newest))
    # Else every later use of the model would run under the autocast of the training.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    points = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [
        LossPoint(int(p["step"]), float(p["loss"]), float(p["learning_rate"]), float(p.get("grad_norm", math.nan)))
        for p in points
    ]


def newest_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint in `folder` that is as it was written, if any; those that were cut short, or damaged since,
    are removed."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in checkpoints:
        if not is_as_summed(path):
            shutil.rmtree(path)
    whole = [path for path in checkpoints if path.exists()]
    return str(whole[-1]) if whole else None


class _Collator:
    """Samples to the tensors that a causal language model takes: of a batch, this process's share."""

    def __init__(self, pad_id: int, together: processes.Processes) -> None:
        self.pad_id = pad_id
        self.together = together

    def __call__(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        mine = [samples[index] for index in self.together.share(samples)]
        batch = collate(mine or samples[-1:], pad_id=self.pad_id)
        if not mine:  # the last batch of an epoch: take part in the step, and add nothing
            batch.labels.fill_(IGNORED)
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}


class _FineTuner(Trainer):  # type: ignore[misc]
    """Trainer that forms logits only where there is loss, and refuses to go on from a loss that is not a number."""

    def __init__(self, *args: Any, penalty: Penalty | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.penalty = penalty
        self._penalties: list[tuple[torch.Tensor, float]] = []  # since the last log: value, share of its step

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Every process draws the batches of one process, in its order; the collator takes the process's share of them.
        (accelerate would deal out batches instead, and fill up the last ones of an epoch with samples of the first.)"""
        world, own = processes.here().world, int(self.args.train_batch_size)
        self._train_batch_size = own * world
        loader: DataLoader[Any] = super().get_train_dataloader()
        self._train_batch_size = own
        if world > 1:
            sharded: Any = loader.batch_sampler
            sharded.num_processes, sharded.process_index, sharded.even_batches = 1, 0, False
        return loader

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Mean over the response tokens of the whole step, as transformers' own loss; with the penalty's gradient."""
        batch, together = Batch(**inputs), processes.here()
        with nullcontext() if self.penalty is None else self.penalty.watching(self.model):
            losses, counted = token_losses(model, batch)
        tokens = num_items_in_batch
        if tokens is None:
            tokens = counted.sum()
            together.add_up([tokens])
        # The processes' gradients are averaged, and their losses are to be added up.
        loss = losses.sum() * together.world / tokens
        if self.penalty is None:
            return loss
        penalty = self.penalty.value(self.model, batch)
        share = 1 / self.current_gradient_accumulation_steps
        self._penalties.append((penalty.detach(), share))
        if num_items_in_batch is not None:  # else Trainer divides by the number of batches itself
            penalty = penalty * share
        return loss + (penalty - penalty.detach())  # the gradient of both, the value of the learning loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            at_fault, value = "learning loss", loss
            if self._penalties and not torch.isfinite(self._penalties[-1][0]):
                at_fault, value = "penalty on the learning loss", self._penalties[-1][0]
            raise LwfError(
                f"the {at_fault} became {value.item()} at step {self.state.global_step + 1}; the run was stopped. "
                f"Lower training.learning_rate ({self.args.learning_rate}), or check the rows of learning_data"
            )
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Beside the mean learning loss since the last log, the mean penalty."""
        if "loss" in logs and self._penalties:
            steps = sum(share for _, share in self._penalties)
            logs["penalty"] = sum(value.item() * share for value, share in self._penalties) / steps
            self._penalties.clear()
        super().log(logs, *args, **kwargs)


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Tells `progress` of steps and of the loss curve."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress = progress
        self.label = label

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.progress.begin(self.label, state.max_steps)
        self.progress.advance(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.progress.advance()
        if state.global_step >= state.max_steps:
            control.should_save = False  # the caller saves the finished model; a last checkpoint would be useless

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and "loss" in logs:
            values = {"learning/loss": logs["loss"], "learning/rate": logs["learning_rate"]}
            if "penalty" in logs:
                values["learning/penalty"] = logs["penalty"]
            self.progress.metrics(state.global_step, values)


class _WriteSums(TrainerCallback):  # type: ignore[misc]
    """The last callback: when it runs, every other has put its state into the checkpoint. A checkpoint without sums was
    cut short and is never resumed from."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        processes.here().wait()  # each has put its random state into it
        if state.is_world_process_zero:
            write_sums(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
