"""Weight-only quantization, simulated: what of an unlearning survives when the weights are stored in few bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

GROUPS = (64, 32)
"""Sizes of a 4-bit group of weights along the input; the first that divides the width is taken."""


@contextmanager
def quantize_weights(model: PreTrainedModel, bits: Literal[4, 8]) -> Iterator[None]:
    """Round the weights of every linear layer to `bits` bits for the length of the block.

    Round-to-nearest, no calibration data. 8 bits: symmetric around zero, one scale for each output channel. 4 bits:
    between the least and the greatest of each group of 64 (or 32) weights along the input. The rounded values are kept
    in the weights' own type, so all is computed as before. The output head and embeddings stay as they are, as do
    biases, norms and the experts of a mixture that are stored as one tensor.

    Afterwards, also after an exception, the weights are what they were, bit for bit.

    Raises:
        ValueError: `bits` is neither 4 nor 8.
        LwfError: 4 bits and a layer whose width is no multiple of 32; no weight has changed.
    """
    if bits not in (4, 8):
        raise ValueError(f"weights are quantized to 4 or 8 bits; got {bits}")
    layers = _linear_layers(model)
    for name, layer in layers.items():
        width = _rows(layer).shape[1]
        if bits == 4 and width % GROUPS[-1]:
            raise LwfError(
                f"{name} has {width} inputs; 4-bit groups need a multiple of {GROUPS[-1]}, so evaluate it in 8 bits"
            )
    originals: list[tuple[Tensor, Tensor]] = []
    try:
        for layer in layers.values():
            rows = _rows(layer)
            originals.append((rows, rows.clone()))
            rows.copy_(round_to_int8(rows) if bits == 8 else round_to_int4(rows))
        yield
    finally:
        for rows, original in originals:
            rows.copy_(original)


def round_to_int8(weight: Tensor) -> Tensor:
    """`weight`, [outputs, inputs], on each row's own grid of 255 points from -absmax to absmax, in fp32."""
    weight = weight.float()
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return _on_grid(weight, scale).clamp(-127, 127) * scale


def round_to_int4(weight: Tensor) -> Tensor:
    """`weight`, [outputs, inputs], on each group's own grid of 16 points from its least to its greatest, in fp32."""
    group = next(size for size in GROUPS if weight.shape[1] % size == 0)
    groups = weight.float().reshape(len(weight), -1, group)
    least, greatest = groups.aminmax(dim=2, keepdim=True)
    scale = (greatest - least) / 15
    return (_on_grid(groups - least, scale).clamp(0, 15) * scale + least).reshape(weight.shape)


def _on_grid(values: Tensor, scale: Tensor) -> Tensor:
    return torch.where(scale > 0, values / scale, 0).round()  # a scale of zero: all values are alike


def _linear_layers(model: PreTrainedModel) -> dict[str, nn.Linear | Conv1D]:
    """By name, those whose weight is not also the output head's or an embedding's; tied ones once."""
    head = model.get_output_embeddings()
    kept = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if head is not None:
        kept.add(id(head.weight))
    layers: dict[str, nn.Linear | Conv1D] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and id(module.weight) not in kept:
            kept.add(id(module.weight))
            layers[name] = module
    return layers


def _rows(layer: nn.Linear | Conv1D) -> Tensor:
    """The weight as [outputs, inputs], sharing its storage."""
    weight: Tensor = layer.weight.detach()
    return weight.T if isinstance(layer, Conv1D) else weight
