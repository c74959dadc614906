"""How many tokens a batch may have: as many as asked for, or as many as fit into the memory of the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch

from lwf_assets.engine.activation_memory import TOKEN_BUDGET, Dimensions
from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TokenBudget = int | Literal["auto"]
"""Tokens in memory at once, padding included. `auto`: what fits on a GPU; 2048 on a CPU, which more makes no faster."""

SHARE = 0.7
"""Of the free memory that may be used: lengths differ, allocators leave holes, and kernels want some of their own."""

LARGEST = 2**15
"""A GPU is full long before."""


def tokens_that_fit(model: PreTrainedModel, budget: TokenBudget, *, differentiated: bool) -> int:
    """The budget as a number. Ask when all that stays in memory beside the batches is there.

    Args:
        model: on the device that computes.
        budget: a number is returned as it is.
        differentiated: a backward pass follows, so that activations of all layers are kept.
    """
    if budget != "auto":
        return budget
    free = _free_bytes(model.device)
    dimensions = Dimensions.of_config(model.config.get_text_config().to_dict()) if free is not None else Dimensions()
    values = dimensions.values_by_token(differentiated=differentiated)
    if free is None or values is None:
        return TOKEN_BUDGET
    width = next(model.parameters()).element_size()
    return max(1, min(LARGEST, int(SHARE * free / (values * width + dimensions.logit_bytes))))


@contextmanager
def out_of_memory_named() -> Iterator[None]:
    """One error that says what to change, where a batch does not fit into a GPU's memory. May decorate a function.

    The batch is not tried again in parts: some of its gradients may be in the sums already.

    Raises:
        LwfError: in place of torch's own error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise LwfError(
            f"model.token_budget: a batch did not fit into the GPU's memory; set a smaller number ({error})"
        ) from error


def _free_bytes(device: torch.device) -> int | None:
    """What is free on a GPU; None on other devices."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps for itself, it gives to the next tensor.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
