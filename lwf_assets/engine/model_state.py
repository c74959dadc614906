"""Evaluate a model and leave it as it was found."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch.nn import Parameter


@contextmanager
def left_as_found(model: nn.Module, only: Collection[str] | None = None) -> Iterator[dict[str, Parameter]]:
    """The model in evaluation mode with every parameter differentiable, or `only` those of these names, for the length
    of the block.

    Yields the differentiable parameters by name, tied ones once. Afterwards, also after an exception, each module's
    mode and each parameter's `requires_grad` are as they were. (Dropout must be off: the gradient of a sample is a
    property of the model, not of a draw.)

    Raises:
        ValueError: `only` names nothing, or what is no parameter of the model.
    """
    parameters = dict(model.named_parameters())
    chosen = parameters if only is None else {name: p for name, p in parameters.items() if name in only}
    if only is not None and (not only or len(chosen) < len(set(only))):
        raise ValueError(f"not parameters of the model: {sorted(set(only) - set(chosen))[:3]}")
    required = {name: parameter.requires_grad for name, parameter in parameters.items()}
    with in_evaluation_mode(model):
        try:
            for name, parameter in parameters.items():
                parameter.requires_grad_(name in chosen)
            yield chosen
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
