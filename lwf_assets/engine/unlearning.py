"""Periodic unlearning: gradient ascent on D_U inside any Hugging Face Trainer."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lwf_assets.engine.left_as_found import in_evaluation_mode
from lwf_assets.engine.loss import negative_log_likelihoods, sample_losses
from lwf_assets.engine.samples import Sample, collate
from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.lr_scheduler import LRScheduler
    from transformers import PreTrainedModel

STATE_FILE = "periodic_unlearning.pt"
Timing = Literal["periodic", "upfront", "random"]


@dataclass(frozen=True)
class LedgerEntry:
    """One sample of one unlearning step: its NLL per token (nats) just before it and when it was next looked at.

    `nll_after` is what remained: the NLL at the sample's next turn, or at the end of training after its last one; None
    until then. (A look right after each update would cost a forward pass, and would not see what learning brings back.)
    `pushed` is False when the sample was at or above the cap already and gave no gradient.
    """

    step: int
    sample_id: str
    nll_before: float
    nll_after: float | None
    pushed: bool


def unlearning_steps(timing: Timing, max_steps: int, interval: int, seed: int) -> list[int]:
    """The learning steps after which to unlearn, in order: as many for each timing. Those up to 0 come before the first
    learning step, which is step 1."""
    count = max_steps // interval
    match timing:
        case "periodic":
            return [interval * (number + 1) for number in range(count)]
        case "upfront":
            return list(range(1 - count, 1))
        case "random":
            return sorted(random.Random(seed).sample(range(1, max_steps + 1), count))


class PeriodicUnlearning(TrainerCallback):  # type: ignore[misc]
    """Every `interval` learning steps, one step of gradient ascent on a batch of `samples`.

        Trainer(..., callbacks=[PeriodicUnlearning(samples)])

    The ascent has an optimizer of its own. Scaling the ascent's loss would do nothing under Adam, whose updates are
    scale-free, and ascending through the learner's optimizer would spoil the learner's moments; so the forgetting rate
    is the learning rate of a second optimizer. It follows the learner's schedule: at half the learner's peak rate, half
    of it.

    Which samples a step takes follows from (`seed`, step) alone, and the optimizer's state and the ledger go into every
    checkpoint of the Trainer: a resumed run equals an uninterrupted one.

    Args:
        samples: D_U.
        sample_ids: their names in the ledger; by default their positions.
        interval: N_u, learning steps between two unlearning steps.
        forgetting_rate: peak learning rate of the ascent.
        batch_size: samples per unlearning step.
        per_sample_cap: NLL per token, in nats, at which a sample counts as forgotten: it pushes no further, and a step
            whose whole batch is forgotten is skipped. Ascent is unbounded without it.
        optimizer: `adam` (no weight decay) or `sgd`.
        max_gradient_norm: the ascent's gradient is clipped to it.
        timing: `periodic`; `upfront`, as many steps all before learning; `random`, as many after randomly chosen steps.
        seed: of the batches and of random timing.
        pad_id: token that fills short rows; never attended to.
        on_unlearn: called with the step and its ledger entries, whose `nll_after` is not known yet.

    Attributes:
        ledger: every entry so far, in order.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        sample_ids: Sequence[str] | None = None,
        interval: int = 5,
        forgetting_rate: float = 1e-5,
        batch_size: int = 8,
        per_sample_cap: float = 4.0,
        optimizer: Literal["adam", "sgd"] = "adam",
        max_gradient_norm: float = 1.0,
        timing: Timing = "periodic",
        seed: int = 0,
        pad_id: int = 0,
        on_unlearn: Callable[[int, list[LedgerEntry]], None] | None = None,
    ) -> None:
        if not samples:
            raise ValueError("there is nothing to unlearn: samples is empty")
        if interval < 1 or batch_size < 1:
            raise ValueError("interval and batch_size must be at least 1")
        if sample_ids is not None and len(sample_ids) != len(samples):
            raise ValueError(f"one id a sample is needed; got {len(sample_ids)} for {len(samples)} samples")
        if sample_ids is not None and len(set(sample_ids)) != len(sample_ids):
            raise ValueError("sample_ids must differ from each other: the ledger knows samples by them")
        self.samples = list(samples)
        self.sample_ids = list(sample_ids) if sample_ids is not None else [str(n) for n in range(len(samples))]
        self.interval = interval
        self.forgetting_rate = forgetting_rate
        self.batch_size = batch_size
        self.per_sample_cap = per_sample_cap
        self.optimizer_name = optimizer
        self.max_gradient_norm = max_gradient_norm
        self.timing = timing
        self.seed = seed
        self.pad_id = pad_id
        self.on_unlearn = on_unlearn
        self.ledger: list[LedgerEntry] = []
        self._last_entry: dict[str, int] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._due: dict[int, int] = {}
        self._learner_rate = 0.0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Make the ascent's optimizer, or take it up again from the checkpoint that training resumes from."""
        due = unlearning_steps(self.timing, state.max_steps, self.interval, self.seed)
        self._due = {step: number for number, step in enumerate(due)}
        self._optimizer = self._make_optimizer(model)
        self.ledger, self._last_entry = [], {}
        if state.global_step > 0:
            self._resume(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", model)
        else:
            for step in due:
                if step <= 0:
                    self._unlearn(step, model, rate=self.forgetting_rate, bfloat16=args.bf16)

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        lr_scheduler: LRScheduler,
        **kwargs: Any,
    ) -> None:
        """Note the rate that the learner's next step takes; when it ends, the schedule is one step further."""
        self._learner_rate = float(lr_scheduler.get_last_lr()[0])

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Unlearn, if this learning step is one after which it is due."""
        rate = self.forgetting_rate * self._learner_rate / args.learning_rate
        if state.global_step in self._due and rate > 0:  # zero in the first step of a warm-up
            self._unlearn(state.global_step, model, rate=rate, bfloat16=args.bf16)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Look once more at every sample that had a turn."""
        samples = dict(zip(self.sample_ids, self.samples, strict=True))
        names = list(self._last_entry)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16):
            losses = negative_log_likelihoods(model, [samples[name] for name in names])
        for name, loss in zip(names, losses, strict=True):
            self._close(name, loss)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the ascent's state beside the learner's, whole or not at all."""
        if not state.is_world_process_zero or self._optimizer is None:
            return
        path = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE_FILE
        unfinished = path.with_suffix(".unfinished")
        entries = [asdict(entry) for entry in self.ledger]
        torch.save({"optimizer": self._optimizer.state_dict(), "ledger": entries}, unfinished)
        os.replace(unfinished, path)

    def _make_optimizer(self, model: PreTrainedModel) -> torch.optim.Optimizer:
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD if self.optimizer_name == "sgd" else torch.optim.Adam
        return optimizer(trainable, lr=self.forgetting_rate, fused=model.device.type in ("cpu", "cuda"))

    def _resume(self, checkpoint: Path, model: PreTrainedModel) -> None:
        path = checkpoint / STATE_FILE
        if not path.is_file():
            raise LwfError(
                f"{checkpoint}: holds no {STATE_FILE}, so the unlearning cannot go on from it; "
                "resume from a checkpoint in output_dir that was written with this callback"
            )
        saved = torch.load(path, map_location=model.device, weights_only=True)
        assert self._optimizer is not None
        self._optimizer.load_state_dict(saved["optimizer"])
        self.ledger = [LedgerEntry(**entry) for entry in saved["ledger"]]
        self._last_entry = {entry.sample_id: number for number, entry in enumerate(self.ledger)}

    def _batch(self, number: int) -> list[int]:
        """The samples of the `number`-th unlearning step: a seeded shuffle of all samples is dealt out in full batches,
        then the next shuffle, so that no sample has a second turn before nearly all have had their first."""
        batches = max(1, len(self.samples) // self.batch_size)
        shuffle, batch = divmod(number, batches)
        order = random.Random(f"{self.seed}/{shuffle}").sample(range(len(self.samples)), len(self.samples))
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def _unlearn(self, step: int, model: PreTrainedModel, *, rate: float, bfloat16: bool) -> None:
        """One step of ascent on the batch that (seed, step) names."""
        chosen = self._batch(self._due[step])
        batch = collate([self.samples[index] for index in chosen], pad_id=self.pad_id).to(model.device)
        # Without dropout: the figures are the model's and not a draw's, and the learner's own draws stay as they were.
        with in_evaluation_mode(model):
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
                losses = sample_losses(model, batch)
            before = losses.tolist()
            if not all(map(math.isfinite, before)):
                raise LwfError(
                    f"the unlearning loss became {sum(before)} at step {step}; lower "
                    f"unlearning.forgetting_rate ({self.forgetting_rate}) or unlearning.per_sample_cap "
                    f"({self.per_sample_cap})"
                )
            pushed = [loss < self.per_sample_cap for loss in before]
            if any(pushed):
                self._ascend(losses[torch.tensor(pushed, device=losses.device)].sum() / len(chosen), rate)
        self._note(step, [self.sample_ids[index] for index in chosen], before, pushed)

    def _note(self, step: int, names: Sequence[str], losses: Sequence[float], pushed: Sequence[bool]) -> None:
        """New entries; the losses are also what remained of the same samples' turns before."""
        entries: list[LedgerEntry] = []
        for name, loss, was_pushed in zip(names, losses, pushed, strict=True):
            self._close(name, loss)
            self._last_entry[name] = len(self.ledger) + len(entries)
            entries.append(LedgerEntry(step, name, loss, None, was_pushed))
        self.ledger += entries
        if self.on_unlearn is not None:
            self.on_unlearn(step, entries)

    def _close(self, name: str, loss: float) -> None:
        """What remained of the sample's last turn, if it had one."""
        number = self._last_entry.get(name)
        if number is not None:
            self.ledger[number] = replace(self.ledger[number], nll_after=loss)

    def _ascend(self, loss: Tensor, rate: float) -> None:
        assert self._optimizer is not None
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        try:
            torch.autograd.backward(-loss)
            torch.nn.utils.clip_grad_norm_(
                [p for group in self._optimizer.param_groups for p in group["params"]], self.max_gradient_norm
            )
            self._optimizer.step()
        finally:
            # The learner's next step must not find this gradient.
            self._optimizer.zero_grad(set_to_none=True)
