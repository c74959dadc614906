"""The learning curve on held-out rows, measured while training goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.samples import Sample
from lwf_assets.engine.token_budget import TokenBudget
from lwf_assets.engine.training.callback_state import save_state, saved_state

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATE_FILE = "validation_curve.json"


class ValidationCurve(TrainerCallback):  # type: ignore[misc]
    """The mean over held-out samples of the NLL per response token, before the first step, every `every` steps, and at
    the last.

    Without dropout, under the autocast that the training has, and drawing on no random generator: the training is the
    same as without it. Put it behind callbacks that change the weights, so that it measures what they leave. The points
    go into every checkpoint: after a resume the curve is that of an uninterrupted run.

    Args:
        samples: the held-out rows.
        every: learning steps between two points.
        token_budget: tokens in memory at once.
        on_point: called with each new point's step and NLL.

    Attributes:
        points: (step, mean NLL per token in nats), in order.

    Raises:
        ValueError: no samples, or `every` below 1.
        LwfError: training resumes from a checkpoint without the curve.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        every: int,
        token_budget: TokenBudget = "auto",
        on_point: Callable[[int, float], None] | None = None,
    ) -> None:
        if not samples:
            raise ValueError("there is nothing to validate on: samples is empty")
        if every < 1:
            raise ValueError(f"every must be at least 1 step; got {every}")
        self.samples = list(samples)
        self.every = every
        self.token_budget = token_budget
        self.on_point = on_point
        self.points: list[tuple[int, float]] = []

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """The point of step 0, or all that were there before a resume."""
        if state.global_step == 0:
            self.points = []
            self._measure(0, model, bfloat16=args.bf16)
            return
        saved = json.loads(saved_state(args, state, STATE_FILE).read_text())
        self.points = [(step, nll) for step, nll in saved]

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """A point, if one is due."""
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            self._measure(state.global_step, model, bfloat16=args.bf16)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the curve so far into the checkpoint."""
        save_state(args, state, STATE_FILE, lambda path: path.write_text(json.dumps(self.points)))

    def _measure(self, step: int, model: PreTrainedModel, *, bfloat16: bool) -> None:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            losses = negative_log_likelihoods(model, self.samples, token_budget=self.token_budget)
        nll = sum(losses) / len(losses)
        self.points.append((step, nll))
        if self.on_point is not None:
            self.on_point(step, nll)
