"""Evaluate a model and leave it as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch.nn import Parameter


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[dict[str, Parameter]]:
    """The model in evaluation mode with every parameter differentiable, for the length of the block.

    Yields the parameters by name, tied ones once. Afterwards, also after an exception, each module's mode and each
    parameter's `requires_grad` are as they were. (Dropout must be off: the gradient of a sample is a property of the
    model, not of a draw.)
    """
    parameters = dict(model.named_parameters())
    required = {name: parameter.requires_grad for name, parameter in parameters.items()}
    with in_evaluation_mode(model):
        try:
            for parameter in parameters.values():
                parameter.requires_grad_(True)
            yield parameters
        finally:
            for name, parameter in parameters.items():
                parameter.requires_grad_(required[name])


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode for the length of the block, and as it was afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
