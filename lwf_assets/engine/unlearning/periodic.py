"""Periodic unlearning: steps that forget D_U inside any Hugging Face Trainer."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lwf_assets.engine import processes
from lwf_assets.engine.evaluation.weight_distance import euclidean_distance
from lwf_assets.engine.loss import negative_log_likelihoods, token_losses
from lwf_assets.engine.model_state import in_evaluation_mode
from lwf_assets.engine.samples import Sample, batches_by_length, collate, seeded_batch
from lwf_assets.engine.sharding import in_parts, is_sharded, state_in_parts, whole_state
from lwf_assets.engine.training.callback_state import save_state, saved_state
from lwf_assets.engine.unlearning.ledger import Ledger, LedgerEntry
from lwf_assets.engine.unlearning.objectives import Ascent, Objective
from lwf_assets.engine.unlearning.retention import Retention
from lwf_assets.engine.unlearning.saved_state import SavedState
from lwf_assets.engine.unlearning.trainer_limits import refuse_what_spoils_unlearning
from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch.optim.lr_scheduler import LRScheduler
    from transformers import PreTrainedModel

__all__ = ["STATE_FILE", "LedgerEntry", "PeriodicUnlearning", "Timing", "unlearning_steps"]

STATE_FILE = "periodic_unlearning.safetensors"
Timing = Literal["periodic", "upfront", "random"]


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


ASCENT = Ascent()


class PeriodicUnlearning(TrainerCallback):  # type: ignore[misc]
    """Every `interval` learning steps, one step that forgets a batch of `samples`: of gradient ascent, by default.

        Trainer(..., callbacks=[PeriodicUnlearning(samples)])

    The unlearning has an optimizer of its own. Scaling its loss would do nothing under Adam, whose updates are
    scale-free, and unlearning through the learner's optimizer would spoil the learner's moments; so the forgetting rate
    is the learning rate of a second optimizer. It follows the learner's schedule: at half the learner's peak rate, half
    of it.

    Which samples a step takes follows from (`seed`, step) alone, and the optimizer's state, the ledger and the
    reference likelihoods go into every checkpoint of the Trainer: a resumed run equals an uninterrupted one.

    Args:
        samples: D_U.
        sample_ids: their names in the ledger; by default their positions.
        interval: N_u, learning steps between two unlearning steps.
        forgetting_rate: peak learning rate of the unlearning.
        batch_size: samples per unlearning step.
        per_sample_cap: NLL per token, in nats, at which a sample counts as forgotten: it pushes no further, and a step
            whose whole batch is forgotten is skipped. Ascent is unbounded without it. One for all, or one a sample.
        optimizer: `adam` (no weight decay) or `sgd`.
        max_gradient_norm: the step's gradient is clipped to it.
        timing: `periodic`; `upfront`, as many steps all before learning; `random`, as many after randomly chosen steps.
        seed: of the batches and of random timing.
        pad_id: token that fills short rows; never attended to.
        on_unlearn: called with the step and its ledger entries, whose `nll_after` is not known yet.
        objective: what is descended for each sample; a step's loss is the sum over the samples that push, divided by
            the size of the batch.
        retain: what a step is to keep: its loss is added to the step's. A step that is skipped skips this too.
        measure_updates: note in the ledger how far each step moves the weights; needs a second copy of them meanwhile.

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
        per_sample_cap: float | Sequence[float] = 4.0,
        optimizer: Literal["adam", "sgd"] = "adam",
        max_gradient_norm: float = 1.0,
        timing: Timing = "periodic",
        seed: int = 0,
        pad_id: int = 0,
        on_unlearn: Callable[[int, list[LedgerEntry]], None] | None = None,
        objective: Objective = ASCENT,
        retain: Retention | None = None,
        measure_updates: bool = False,
    ) -> None:
        if not samples:
            raise ValueError("there is nothing to unlearn: samples is empty")
        if interval < 1 or batch_size < 1:
            raise ValueError("interval and batch_size must be at least 1")
        if sample_ids is not None and len(sample_ids) != len(samples):
            raise ValueError(f"one id per sample is needed; got {len(sample_ids)} for {len(samples)} samples")
        if sample_ids is not None and len(set(sample_ids)) != len(sample_ids):
            raise ValueError("sample_ids must be unique: the ledger identifies samples by them")
        if not isinstance(per_sample_cap, int | float) and len(per_sample_cap) != len(samples):
            raise ValueError(
                f"one cap for all or one per sample is needed; got {len(per_sample_cap)} for {len(samples)}"
            )
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
        self.objective = objective
        self.retain = retain
        self.measure_updates = measure_updates
        self._ledger = Ledger()
        self._reference_nll: Tensor | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._due: dict[int, int] = {}
        self._learner_rate = 0.0

    @property
    def ledger(self) -> list[LedgerEntry]:
        return self._ledger.entries

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Make the unlearning's state, or take it up again from the checkpoint that training resumes from."""
        refuse_what_spoils_unlearning(args)
        due = unlearning_steps(self.timing, state.max_steps, self.interval, self.seed)
        self._due = {step: number for number, step in enumerate(due)}
        self._optimizer = self._make_optimizer(model)
        self._ledger, self._reference_nll = Ledger(), None
        if state.global_step > 0:
            self._resume(saved_state(args, state, STATE_FILE), model)
        else:
            if self.objective.needs_reference:
                self._reference_nll = self._summed_nll(model, bfloat16=args.bf16)
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
        names = self._ledger.names()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16):
            losses = negative_log_likelihoods(model, [samples[name] for name in names])
        for name, loss in zip(names, losses, strict=True):
            self._ledger.close(name, loss)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save the unlearning's state next to the learner's."""
        assert self._optimizer is not None
        optimizer = whole_state(self._optimizer.state_dict(), keep=state.is_world_process_zero)
        kept = SavedState(optimizer, self._ledger, self._reference_nll)
        save_state(args, state, STATE_FILE, kept.write)

    def _make_optimizer(self, model: PreTrainedModel) -> torch.optim.Optimizer:
        trainable = [parameter for parameter in in_parts(model).parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD if self.optimizer_name == "sgd" else torch.optim.Adam
        fused = model.device.type in ("cpu", "cuda")
        if model.device.type == "cpu" and self.optimizer_name == "sgd":
            # torch 2.13's fused SGD on a CPU leaves weights of less than 32 bits as they are, without a word.
            fused = all(torch.finfo(parameter.dtype).bits >= 32 for parameter in trainable)
        if self.optimizer_name == "sgd" and is_sharded(model):
            fused = False  # torch's fused SGD takes no tensors in parts
        return optimizer(trainable, lr=self.forgetting_rate, fused=fused)

    def _resume(self, path: Path, model: PreTrainedModel) -> None:
        saved = SavedState.read(path, model.device)
        assert self._optimizer is not None
        trained = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        self._optimizer.load_state_dict(state_in_parts(saved.optimizer, trained))
        self._ledger, self._reference_nll = saved.ledger, saved.reference_nll
        if self.objective.needs_reference and self._reference_nll is None:
            raise LwfError(
                f"{path}: was written without the reference likelihoods that the objective needs; resume with the "
                "objective that the run began with, or remove the checkpoints and start again"
            )

    @torch.no_grad()
    def _summed_nll(self, model: PreTrainedModel, *, bfloat16: bool) -> Tensor:
        """NLL of every sample, summed over its response tokens, [samples], fp32."""
        totals = torch.zeros(len(self.samples), device=model.device)
        with in_evaluation_mode(model), torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            for indices in batches_by_length(self.samples, batch_size=self.batch_size):
                batch = collate([self.samples[index] for index in indices], pad_id=self.pad_id).to(model.device)
                losses, _ = token_losses(model, batch)
                totals[indices] = losses.sum(dim=1)
        return totals

    def _nll_of(self, indices: Sequence[int], model: PreTrainedModel, *, bfloat16: bool) -> tuple[Tensor, Tensor]:
        """NLL of some samples, summed over their response tokens, and how many tokens; [indices] both."""
        if not indices:  # fewer samples than processes
            return torch.zeros(0, device=model.device), torch.zeros(0, device=model.device)
        batch = collate([self.samples[index] for index in indices], pad_id=self.pad_id).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            losses, counted = token_losses(model, batch)
        return losses.sum(dim=1), counted.sum(dim=1)

    def _cap(self, index: int) -> float:
        return self.per_sample_cap if isinstance(self.per_sample_cap, int | float) else self.per_sample_cap[index]

    def _unlearn(self, step: int, model: PreTrainedModel, *, rate: float, bfloat16: bool) -> None:
        """One unlearning step on the batch that (seed, step) names."""
        number = self._due[step]
        chosen = seeded_batch(len(self.samples), self.batch_size, number, self.seed)
        together = processes.of_model(model)
        places = together.share([self.samples[index] for index in chosen])
        mine = [chosen[place] for place in places]
        # Without dropout: the figures are the model's and not a draw's, and the learner's own draws stay as they were.
        with in_evaluation_mode(model):
            nll, tokens = self._nll_of(mine, model, bfloat16=bfloat16)
            own = (nll / tokens).tolist()
            before = together.gather(places, own)
            if not all(map(math.isfinite, before)):
                raise LwfError(
                    f"the unlearning loss became {sum(before)} at step {step}; lower "
                    f"unlearning.forgetting_rate ({self.forgetting_rate}) or unlearning.per_sample_cap"
                    + (f" ({self.per_sample_cap})" if isinstance(self.per_sample_cap, int | float) else "")
                )
            pushed = [loss < self._cap(index) for index, loss in zip(chosen, before, strict=True)]
            moved = 0.0 if self.measure_updates else None
            if any(pushed):
                reference = None if self._reference_nll is None else self._reference_nll[mine]
                pushing = torch.tensor([pushed[place] for place in places], dtype=torch.bool, device=nll.device)
                pushes = self.objective.losses(nll, tokens, reference)[pushing]
                moved = self._descend(pushes.sum() / len(chosen), step, model, rate=rate, bfloat16=bfloat16)
        entries = [
            LedgerEntry(step, self.sample_ids[index], loss, None, was_pushed, moved)
            for index, loss, was_pushed in zip(chosen, before, pushed, strict=True)
        ]
        self._ledger.note(entries)
        if self.on_unlearn is not None:
            self.on_unlearn(step, entries)

    def _descend(self, loss: Tensor, step: int, model: PreTrainedModel, *, rate: float, bfloat16: bool) -> float | None:
        """One optimizer step on `loss` and the retained samples' loss; how far it moved the weights, if measured."""
        assert self._optimizer is not None
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        trained = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        together = processes.of_model(model)
        try:
            if loss.requires_grad:  # not where none of the samples is this process's
                torch.autograd.backward(loss)
            if self.retain is not None:
                retained = self.retain.batch(self._due[step], self.seed)
                mine = [retained[place] for place in together.share(retained)]
                if mine:
                    share = self.retain.weight * (len(mine) / len(retained))
                    # A backward pass of its own: the gradients add up, and only one of the two graphs is in memory.
                    torch.autograd.backward(share * self._retained_loss(mine, step, model, bfloat16=bfloat16))
            together.add_up_gradients(trained)
            torch.nn.utils.clip_grad_norm_(trained, self.max_gradient_norm)
            start = [parameter.detach().clone() for parameter in trained] if self.measure_updates else None
            self._optimizer.step()
        finally:
            # The learner's next step must not find this gradient.
            self._optimizer.zero_grad(set_to_none=True)
        return None if start is None else euclidean_distance(trained, start)

    def _retained_loss(self, samples: Sequence[Sample], step: int, model: PreTrainedModel, *, bfloat16: bool) -> Tensor:
        assert self.retain is not None
        batch = collate(samples, pad_id=self.pad_id).to(model.device)
        loss = self.retain.loss(model, batch, bfloat16=bfloat16)
        if not torch.isfinite(loss):
            raise LwfError(
                f"the loss of the retained samples became {loss.item()} at step {step}; lower "
                f"unlearning.forgetting_rate ({self.forgetting_rate})"
            )
        return loss
