"""Models whose parameters lie in parts on several processes (FSDP2: torch's `fully_shard`), and their tensors.

What gathers is called by all processes together.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from torch import nn
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor
    from transformers import PreTrainedModel


def _is_in_parts(value: object) -> TypeGuard[DTensor]:
    return _is_of("torch.distributed.tensor", "DTensor", value)


def _is_parted(module: nn.Module) -> TypeGuard[FSDPModule]:
    return _is_of("torch.distributed.fsdp", "FSDPModule", module)


def _is_of(module: str, name: str, value: object) -> bool:
    # Importing them takes a second. Where nobody has, there is nothing of their types.
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name))


def is_sharded(model: nn.Module) -> bool:
    """Whether parameters of the model lie in parts on several processes."""
    return any(_is_in_parts(parameter) for parameter in model.parameters())


def in_parts(model: nn.Module) -> nn.Module:
    """The model, after parameters that a forward pass without a backward pass has left whole are in parts again."""
    for module in model.modules():
        if _is_parted(module):
            module.reshard()
    return model


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on this process's device."""
    return tensor.full_tensor() if _is_in_parts(tensor) else tensor


def own_part(tensor: Tensor) -> tuple[Tensor, int]:
    """What lies in this process, and how many processes have the same; 0 of a tensor that is not sharded, which all
    have."""
    if not _is_in_parts(tensor):
        return tensor, 0
    from torch.distributed.tensor.placement_types import Replicate

    sizes = zip(tensor.device_mesh.shape, tensor.placements, strict=True)
    return tensor.to_local(), math.prod(size for size, placement in sizes if isinstance(placement, Replicate))


def sum_over_parts(sums: Iterable[tuple[float, int]], device: torch.device) -> float:
    """The sum over tensors, and all their parts, of sums over `own_part`s; each with the number that came with it."""
    everywhere, in_parts, some = 0.0, 0.0, False
    for value, copies in sums:
        if copies:
            in_parts, some = in_parts + value / copies, True
        else:
            everywhere += value
    if some:
        total = torch.tensor(in_parts, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        in_parts = total.item()
    return everywhere + in_parts


def whole_state(state: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
    """An optimizer's `state_dict` with whole tensors, on the CPU where they were in parts.

    Args:
        state: as the optimizer has it.
        keep: whether this process wants it; one that does not only helps, and gets none of what is in parts.
    """

    def gathered(value: Any) -> Any:
        if not _is_in_parts(value):
            return value
        full = value.full_tensor()
        return full.cpu() if keep else None

    return {
        **state,
        "state": {
            index: {name: gathered(value) for name, value in values.items()} for index, values in state["state"].items()
        },
    }


def state_in_parts(state: Mapping[str, Any], parameters: Iterable[Tensor]) -> dict[str, Any]:
    """The inverse of `whole_state`: each tensor of a parameter's size in the parts that the parameter is in.

    Args:
        state: whole, the same in every process.
        parameters: the optimizer's, in order.
    """
    of = dict(enumerate(parameters))

    def parted(value: Any, parameter: Tensor) -> Any:
        if not (_is_in_parts(parameter) and isinstance(value, Tensor) and value.shape == parameter.shape):
            return value
        from torch.distributed.tensor import distribute_tensor

        whole_value = value.to(parameter.device)
        # Each takes its part of what it has read: nothing is sent.
        return distribute_tensor(whole_value, parameter.device_mesh, parameter.placements, src_data_rank=None)

    return {
        **state,
        "state": {
            index: {name: parted(value, of[index]) for name, value in values.items()}
            for index, values in state["state"].items()
        },
    }


@torch.no_grad()
def whole_model(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same weights that is whole in every process, in evaluation mode; `model` itself if it is that."""
    if not is_sharded(model):
        return model
    from transformers import AutoModelForCausalLM

    state = {name: whole(value) for name, value in model.state_dict().items()}
    again: PreTrainedModel = AutoModelForCausalLM.from_config(model.config, dtype=model.dtype).to(model.device)
    again.load_state_dict(state)
    again.generation_config = model.generation_config
    return again.eval()
