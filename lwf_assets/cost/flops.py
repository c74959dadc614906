"""How much arithmetic a step is, in floating-point operations.

It becomes seconds only by comparison with earlier runs (`pace.py`), so that what all runs have in common cancels.
"""

from __future__ import annotations

import math

from lwf_assets.cost.model_size import ModelFacts
from lwf_assets.cost.row_counts import Amount
from lwf_assets.study.sections import TrainingSettings, UnlearningSettings

BACKWARD = 2
"""A backward pass is twice the arithmetic of the forward pass: gradients of the activations and of the weights."""
BACKWARD_TO_ADAPTER = 1
"""Where weights are frozen, those of the activations alone; an adapter's own are few."""
WEIGHTS_READ = 20
"""Reading all weights once takes as long as the arithmetic of this many tokens: what a decoding step for one row costs.
(A CPU; of the order of 100 on a GPU.)"""
OPTIMIZER = 300
"""Operations per parameter that would take as long as an optimizer step, which mostly moves memory."""


def forward(facts: ModelFacts, amount: Amount, rows: int) -> float:
    """A forward pass over `rows` rows, with logits at the response tokens."""
    return _operations(facts, rows * amount.length, rows * amount.response, amount.length)


def gradients(facts: ModelFacts, amount: Amount, rows: int) -> float:
    """Forward and backward pass over `rows` rows, whether the gradients are summed or taken sample by sample."""
    return (1 + BACKWARD) * forward(facts, amount, rows)


def generation(facts: ModelFacts, rows: int, prompt: float, new_tokens: int, batch_size: int) -> float:
    """The prompts at once, then token by token, which waits for the weights to be read rather than for arithmetic."""
    steps = math.ceil(rows / batch_size) * new_tokens
    decoding = 2 * facts.parameters * (rows * new_tokens + WEIGHTS_READ * steps)
    return _operations(facts, rows * prompt, rows, prompt) + decoding


def training(settings: TrainingSettings, facts: ModelFacts, train: Amount, validation: Amount) -> float | None:
    """One fine-tune, and its validation before, after and in between; None if the number of steps is not known."""
    steps = training_steps(settings, train)
    if steps is None:
        return None
    rows = settings.batch_size * settings.gradient_accumulation
    step = _step(facts, train, rows)
    looks = 2 if settings.validate_every is None else 3 + steps // settings.validate_every
    return steps * step + looks * forward(facts, validation, validation.rows or 0)


def unlearning(
    settings: UnlearningSettings, training: TrainingSettings, facts: ModelFacts, train: Amount, corpus: Amount
) -> float:
    """The unlearning of one fine-tune: a step at every interval."""
    ascents = (training_steps(training, train) or 0) // settings.interval
    rows = settings.batch_size + (settings.retain.batch_size if settings.retain else 0)
    return ascents * _step(facts, corpus, rows)


def _step(facts: ModelFacts, amount: Amount, rows: int) -> float:
    """One optimizer step on `rows` rows."""
    backward = BACKWARD if facts.adapter is None else BACKWARD_TO_ADAPTER
    return (1 + backward) * forward(facts, amount, rows) + OPTIMIZER * facts.trained


def training_steps(settings: TrainingSettings, train: Amount) -> int | None:
    """Optimizer steps of one fine-tune; None if it is not known yet how many rows there are."""
    if train.rows is None:
        return settings.max_steps
    return settings.optimizer_steps(train.rows)


def _operations(facts: ModelFacts, tokens: float, logits: float, length: float) -> float:
    """Two for each weight that a token meets, and for attention two products with the tokens before it, of which there
    are half of `length` on average."""
    head = (facts.vocabulary or 0) * (facts.hidden or 0)
    body = facts.parameters - head * (1 if facts.tied else 2)
    attention = 2 * (facts.layers or 0) * (facts.attention or 0) * length
    return tokens * (2 * body + attention) + logits * 2 * head
