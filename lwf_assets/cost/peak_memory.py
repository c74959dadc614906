"""What a step holds in memory at its peak, part by part.

Copies of the weights are known exactly. Activations follow from the model's dimensions and the lengths of the rows,
which are estimated from characters (`engine/activation_memory.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from lwf_assets.cost.devices import has_accelerator
from lwf_assets.cost.flops import training_steps
from lwf_assets.cost.model_size import ModelFacts
from lwf_assets.cost.row_counts import Amount
from lwf_assets.engine.activation_memory import TOKEN_BUDGET
from lwf_assets.study.study import Study

ROWS_ON_A_CPU = 16
"""Prompts answered at once on a CPU, where the study leaves it open: more do not make it faster."""
DRAW_BYTES = 28
"""Bytes held for each logit from which a token is drawn: logits in two types, two 64-bit integers, the noise."""
AUTOCAST_ACTIVATIONS = 0.6
"""Size of mixed precision's activations relative to full precision: some, as in the norms, stay in fp32."""


@dataclass(frozen=True)
class Part:
    """One part of a peak, in bytes.

    `size` is the estimate, None where the model's config does not say enough; `surely` is what is needed even if every
    length was overestimated. `setting` names the key of the study that it depends on, with its value.
    """

    what: str
    size: float | None
    surely: float
    setting: str = ""


Peak = tuple[Part, ...]


def weights(study: Study, facts: ModelFacts) -> Part:
    """One copy of the model."""
    return _copies("weights", facts, 1, f"model.dtype: {study.model.dtype}")


def second_copy(facts: ModelFacts) -> Part:
    """What importing a model may hold in addition to the result, depending on its format."""
    return Part("a second copy while it is read and converted", facts.weight_bytes, 0)


def gradient_sums(facts: ModelFacts) -> Part:
    """What one averaged gradient step holds."""
    return _trained("the mean gradient and that of one batch", facts, 2)


def fp32_values(what: str, parameters: int) -> Part:
    """Values in float32, one for each parameter."""
    return Part(what, 4 * parameters, 4 * parameters)


def held_for_terms(study: Study, what: str, parameters: int, copies: int = 1) -> Part:
    """Values in the type of `confidence.precision`, one for each parameter and copy."""
    precision = study.confidence.precision
    size = copies * parameters * (4 if precision == "float32" else 2)
    return Part(f"{what}, in {precision}", size, size, f"confidence.precision: {precision}")


def model_beside(what: str, facts: ModelFacts) -> Part:
    """The weights of another model."""
    return _copies(what, facts, 1)


def training_peak(study: Study, facts: ModelFacts, train: Amount, forgotten: Amount | None = None) -> Peak:
    """Weights, gradients, the moments of one Adam or of two, what unlearning adds, and the activations of the
    largest batch.

    On a CPU gradients and activations add up although one goes as the other comes: the memory allocator gives neither
    back. What is needed for sure is only the larger of the two.
    """
    settings, ascent = study.training, study.unlearning
    parts = [weights(study, facts)]
    if facts.adapter is not None:
        parts.append(_trained("the adapter", facts, 1, f"model.adapter.rank: {_rank(study)}"))
    parts += [_trained("their gradients", facts, 1), _trained("AdamW's two moments", facts, 2)]
    batches = [activations(study, facts, train, settings.batch_size, f"training.batch_size: {settings.batch_size}")]
    # With fewer steps than the interval nothing is ever unlearned.
    if forgotten is not None and (training_steps(settings, train) or math.inf) >= ascent.interval:
        rows = ascent.batch_size
        batches.append(activations(study, facts, forgotten, rows, f"unlearning.batch_size: {rows}"))
        if ascent.retain is not None:
            rows = ascent.retain.batch_size
            batches.append(activations(study, facts, forgotten, rows, f"unlearning.retain.batch_size: {rows}"))
            if ascent.retain.kind == "kl":
                parts.append(model_beside("the base model, unlearning.retain.kind: kl", facts))
        if ascent.optimizer == "adam":
            parts.append(_trained("the ascent's two moments", facts, 2, "unlearning.optimizer: adam"))
        # Held while a step is measured, when the activations are gone: it is not on top of them for sure.
        parts.append(Part("the weights before an unlearning step", facts.trained_bytes, 0))
    largest = max(batches, key=lambda part: part.size or 0)
    if settings.autocast != "off" and facts.bytes_per_weight == 4:
        setting = f"training.autocast: {settings.autocast}"
        parts.append(Part("weights cast for mixed precision", 2 * facts.parameters, 0, setting))
        size = largest.size and largest.size * AUTOCAST_ACTIVATIONS
        largest = replace(largest, size=size, surely=largest.surely * AUTOCAST_ACTIVATIONS)
    if settings.gradient_accumulation == 1:
        largest = replace(largest, surely=max(0.0, largest.surely - facts.trained_bytes))
    return (*parts, largest)


def batch(study: Study, facts: ModelFacts, amount: Amount, *, differentiated: bool = True) -> Part:
    """The largest batch that model.token_budget allows. Rows of like length share a batch and are padded to its
    longest; a row that is longer than the budget is a batch of its own. With `auto` a GPU's batches are made to fit:
    what is needed is memory for one row."""
    budget, setting = study.model.token_budget, f"model.token_budget: {study.model.token_budget}"
    if budget == "auto":
        budget = 1 if has_accelerator() else TOKEN_BUDGET
        setting += "" if has_accelerator() else f", here {TOKEN_BUDGET}"
    rows = max(1, min(int(budget / amount.longest), amount.rows or budget))
    return activations(study, facts, amount, rows, setting, differentiated=differentiated)


def activations(
    study: Study, facts: ModelFacts, amount: Amount, rows: int, setting: str, *, differentiated: bool = True
) -> Part:
    """Activations of `rows` rows as long as the longest, and logits where one of them has loss. Half of the estimate is
    taken to be sure, for lengths in characters are not lengths in tokens; nothing, if lengths are guessed."""
    longest = min(amount.longest, study.model.max_length or facts.context or math.inf)
    what = f"activations and logits of {rows} row{'s' if rows > 1 else ''} of some {longest:.0f} tokens"
    by_token = facts.values_by_token(differentiated=differentiated)
    if by_token is None:
        return Part(what, None, 0, setting)
    # Rows of one batch end at different places, and logits are formed wherever one of them has loss.
    positions = min(longest, amount.response + amount.longest - amount.length)
    logits = positions * facts.logit_bytes
    size = rows * (longest * by_token * facts.bytes_per_weight + logits)
    return Part(what, size, 0 if amount.guessed else size / 2, setting)


def generated_rows(facts: ModelFacts, rows: int, longest: float, setting: str, *, guessed: bool) -> Part:
    """Keys and values of rows of `longest` tokens while they are generated, and what reads their prompts or draws from
    their logits, whichever is larger."""
    what = f"keys and values of {rows} row{'s' if rows > 1 else ''} of some {longest:.0f} tokens"
    if facts.layers is None or facts.key_value is None:
        return Part(what, None, 0, setting)
    cache = rows * longest * 2 * facts.layers * facts.key_value * facts.bytes_per_weight
    reading = rows * longest * (3 * (facts.intermediate or 0) + 4 * (facts.hidden or 0)) * facts.bytes_per_weight
    draws = rows * (facts.vocabulary or 0) * DRAW_BYTES
    return Part(what, cache + max(reading, draws), 0 if guessed else cache / 2, setting)


def planned_rows(setting: int | Literal["auto"]) -> int:
    """Prompts answered at once, for an estimate, which is made without knowing the device."""
    return ROWS_ON_A_CPU if setting == "auto" else setting


def largest_peak(peaks: Iterable[Peak]) -> Peak:
    """The one that needs most."""
    return max(peaks, key=lambda peak: sum(part.size or part.surely for part in peak))


def _trained(what: str, facts: ModelFacts, copies: int, setting: str = "") -> Part:
    """Copies of what is trained: of all weights, or of the adapter."""
    return Part(what, copies * facts.trained_bytes, copies * facts.trained_bytes, setting)


def _rank(study: Study) -> int | None:
    return None if study.model.adapter is None else study.model.adapter.rank


def _copies(what: str, facts: ModelFacts, copies: int, setting: str = "") -> Part:
    return Part(what, copies * facts.weight_bytes, copies * facts.weight_bytes, setting)
