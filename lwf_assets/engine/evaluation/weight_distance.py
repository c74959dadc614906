"""How far apart the weights of two models are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine.adapter import base_parameters, updates
from lwf_assets.engine.sharding import own_part, sum_over_parts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class WeightDistance:
    """Euclidean distance over all parameters, and the same over the norm of the base's parameters."""

    total: float
    relative: float


@torch.no_grad()
def weight_distance(model: PreTrainedModel, base: PreTrainedModel) -> WeightDistance:
    """How far `model` has moved from `base`, which it has the architecture of. Tied parameters count once. Where
    `model` carries an adapter, its weights are those with the adapter's update.

    Raises:
        ValueError: the two differ in the names or shapes of their parameters, or base is zero everywhere.
    """
    mine, theirs = base_parameters(model), dict(base.named_parameters())
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in mine or name not in theirs or mine[name].shape != theirs[name].shape:
            raise ValueError(f"the two models do not have the same parameters: they differ in {name}")
    size = euclidean_norm(theirs.values())
    if size == 0:
        raise ValueError("every parameter of the base is zero, so no distance is relative to it")
    added = updates(model)
    # One matrix at a time: no second model is ever in memory.
    moved = (value.float() + added[name][...] if name in added else value for name, value in mine.items())
    total = euclidean_distance(moved, [theirs[name] for name in mine])
    return WeightDistance(total, total / size)


@torch.no_grad()
def euclidean_distance(first: Iterable[Tensor], second: Iterable[Tensor]) -> float:
    """Norm of the difference of two lists of tensors of like shapes, in fp64.

    Where tensors lie in parts on several processes, it is that of the whole: all call this together.
    """
    return _norm((one, other.to(one.device)) for one, other in zip(first, second, strict=True))


@torch.no_grad()
def euclidean_norm(tensors: Iterable[Tensor]) -> float:
    """Norm of all tensors taken together, in fp64; sharded ones as in `euclidean_distance`."""
    return _norm((tensor, None) for tensor in tensors)


def _norm(pairs: Iterable[tuple[Tensor, Tensor | None]]) -> float:
    sums, device = [], torch.device("cpu")
    for tensor, other in pairs:
        (own, copies), device = own_part(tensor), tensor.device
        sums.append((_squares(own, None if other is None else own_part(other)[0]), copies))
    return math.sqrt(sum_over_parts(sums, device))


def _squares(tensor: Tensor, other: Tensor | None = None) -> float:
    """The sum of the squares of a tensor, or of its difference from another.

    A piece at a time: its copy in fp64 stays in the cache, which is ten times as fast as a copy of the whole tensor.
    """
    piece = 2**17 if tensor.device.type == "cpu" else 2**25
    total = torch.zeros((), dtype=torch.float64, device=tensor.device)
    flat, subtracted = tensor.reshape(-1), None if other is None else other.reshape(-1)
    for start in range(0, len(flat), piece):
        values = flat[start : start + piece].double()
        if subtracted is not None:
            values = values - subtracted[start : start + piece]  # not in place: fp64 weights were not copied
        total += torch.dot(values, values)
    return total.item()
