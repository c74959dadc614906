"""How many prompts are answered at once where the study leaves that open (`batch_size: auto`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from lwf_assets.cost.free_memory import free_memory
from lwf_assets.cost.model_size import ModelFacts
from lwf_assets.cost.peak_memory import ROWS_ON_A_CPU, generated_rows

MOST = 1024
"""More rows wait longer for the longest response and gain little."""
SHARE = 0.8
"""Of the free memory: the rest is for what the allocator loses between its blocks."""


def batch_rows(setting: int | Literal["auto"], facts: ModelFacts | None) -> int | Callable[[int], int]:
    """`batch_size` of `engine.generation.generate`: the number that the study gives, or one that fits.

    Args:
        setting: the study's.
        facts: of the model that is loaded, None if they are not known.
    """
    return partial(rows_that_fit, facts) if setting == "auto" else setting


def rows_that_fit(facts: ModelFacts | None, longest: int) -> int:
    """Rows of `longest` tokens, prompt and response together, that fit beside a model that is loaded already."""
    from lwf_assets.engine.precision import best_device

    if facts is None or best_device().type != "cuda":
        return ROWS_ON_A_CPU
    free = free_memory(on_accelerator=True, ask_torch=True)
    return ROWS_ON_A_CPU if free is None else rows_within(facts, longest, free)


def rows_within(facts: ModelFacts, longest: int, free: int) -> int:
    """The largest power of two, up to `MOST`, of which `SHARE` of the free bytes holds keys, values and draws.

    Powers of two, so that the same numbers come again and a compiled decoding step is used again.
    """
    rows = MOST
    while rows > 1:
        foreseen = generated_rows(facts, rows, longest, "", guessed=False).size
        if foreseen is None:
            return ROWS_ON_A_CPU
        if foreseen <= SHARE * free:
            break
        rows //= 2
    return rows
