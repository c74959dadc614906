"""What periodic unlearning adds to a fine-tune, and what an unlearning step costs beside the least it could cost."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from benchmarks.plan import Plan
from benchmarks.problem import random_samples
from lwf_assets.cost.free_memory import give_back_what_is_unused
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.precision import use_bfloat16
from lwf_assets.engine.samples import Sample, collate
from lwf_assets.engine.training.fine_tune import fine_tune
from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning
from lwf_assets.study.sections import TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NEVER_FORGOTTEN = 1e9
"""Cap in nats per token that random tokens do not reach, so that no unlearning step is skipped."""


def training(model: PreTrainedModel, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of the counted steps of a fine-tune without and with unlearning, in interleaved rounds; and of single
    unlearning steps beside minimal ones, interleaved too. The first of these pairs, which sets both optimizers up, is
    left out. Learning and unlearning have batches of the same size, of samples of the same length."""
    lengths = [plan.training_tokens] * plan.training_batch
    learned = random_samples(lengths * plan.training_steps, model.config.vocab_size, seed=1)
    forgotten = random_samples(lengths * 2, model.config.vocab_size, seed=2)
    plain, lwf = [], []
    for number in range(plan.training_rounds):
        plain.append(_fine_tune_seconds(model, learned, plan, []))
        unlearning = _unlearning(PeriodicUnlearning, forgotten, plan.interval, plan)
        lwf.append(_fine_tune_seconds(model, learned, plan, [unlearning]))
        say(f"training, round {number + 1}: {plain[-1]:.2f} s without unlearning, {lwf[-1]:.2f} s with it")
    beside = _unlearning(_BesideMinimalSteps, forgotten, 1, plan)
    _fine_tune_seconds(model, learned, plan, [beside], steps=plan.step_pairs + 1)
    own, minimal = beside.own[1:], beside.minimal[1:]
    say(f"unlearning step: {statistics.median(own):.3f} s; minimal: {statistics.median(minimal):.3f} s")
    return {
        "interval": plan.interval,
        "batch": plan.training_batch,
        "tokens": plan.training_tokens,
        "counted_steps": plan.training_steps - plan.training_warm_up,
        "bfloat16": use_bfloat16("auto", model.device),
        "plain_seconds": plain,
        "lwf_seconds": lwf,
        "step_seconds": own,
        "minimal_step_seconds": minimal,
    }


class _Clock(TrainerCallback):  # type: ignore[misc]
    """The time (s) from the end of learning step `warm_up` to the end of the fine-tune."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.began = 0.0
        self.seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.warm_up:
            self.began = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self.began


def _fine_tune_seconds(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    plan: Plan,
    callbacks: Sequence[TrainerCallback],
    *,
    steps: int | None = None,
) -> float:
    """Of the steps after the warm-up, of a fine-tune of a copy of the model."""
    settings = TrainingSettings(
        max_steps=steps or plan.training_steps, batch_size=plan.training_batch, schedule="constant"
    )
    # The last of the callbacks: the unlearning after the last step of the warm-up is over when its clock starts.
    clock = _Clock(plan.training_warm_up)
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(
            copy.deepcopy(model),
            samples,
            **settings.arguments(),
            seed=0,
            folder=Path(folder),
            callbacks=[*callbacks, clock],
        )
    give_back_what_is_unused()
    return clock.seconds


def _unlearning(kind: Any, samples: Sequence[Sample], interval: int, plan: Plan) -> Any:
    return kind(samples, interval=interval, batch_size=plan.training_batch, per_sample_cap=_NEVER_FORGOTTEN)


class _BesideMinimalSteps(PeriodicUnlearning):
    """Times every unlearning step, and beside it the least that a step of ascent can be: one forward and backward pass,
    clipping, and a fused Adam step, on samples of the same length. The two take turns in going first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.own: list[float] = []
        self.minimal: list[float] = []
        self._adam: torch.optim.Adam | None = None

    def _unlearn(self, step: int, model: PreTrainedModel, **options: Any) -> None:
        calls: list[tuple[list[float], Callable[[], None]]] = [
            (self.own, partial(super()._unlearn, step, model, **options)),
            (self.minimal, partial(self._minimal_step, model)),
        ]
        for seconds, call in calls if step % 2 else calls[::-1]:
            give_back_what_is_unused()
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)

    def _minimal_step(self, model: PreTrainedModel) -> None:
        if self._adam is None:
            self._adam = torch.optim.Adam(model.parameters(), lr=self.forgetting_rate, fused=True)
        batch = collate(self.samples[: self.batch_size]).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=use_bfloat16("auto", model.device)):
            loss = sample_losses(model, batch).mean()
        torch.autograd.backward(-loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.max_gradient_norm)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
