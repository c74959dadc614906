"""From the factors of a parameter's gradients to the per-sample gradients, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from types import EllipsisType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lwf_assets.engine.gradients import fused
from lwf_assets.engine.gradients.factors import Factor, Outer, Scattered, Whole

BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**25}
"""Elements that are formed at once, by type of device: of one sample on a CPU, where each core works on a sample of its
own and its block should stay in the cache; of all samples on a GPU, which should be filled."""

GradientsOfSamples = tuple[Tensor, Tensor]
"""Which samples, [n], and their gradients, [n, *shape]. They must not be kept and may be overwritten."""


class Reduction(Protocol):
    """What becomes of the per-sample gradients."""

    def add(self, name: str, rows: slice | EllipsisType, gradients: Iterable[GradientsOfSamples]) -> None:
        """Gradients of some rows of the parameter `name`, for all samples of a batch; each element comes once."""

    def add_rows(self, name: str, rows: Tensor, gradients: GradientsOfSamples) -> None:
        """Gradients [samples, n, columns] of the rows [samples, n], which differ from sample to sample. A row that
        appears there twice has gradient zero at all places but one."""


@runtime_checkable
class FusedReduction(Reduction, Protocol):
    """A reduction that can do without the gradients of a matrix where `fused.py` has what it needs of them."""

    def add_products(self, name: str, products: fused.Products) -> None:
        """In place of `add`, for the whole of a matrix and all samples of a batch."""


def reduce_factors(factors: Sequence[Factor], reduction: Reduction, samples: Tensor, name: str) -> None:
    """Form the gradients that the factors of all uses of one parameter make together, and hand them to `reduction`.

    Args:
        factors: one for each use of the parameter; their gradients add up.
        reduction: gets the gradients.
        samples: [batch] which samples they are.
        name: of the parameter.

    Raises:
        ValueError: some factors are those of a vector, others those of a matrix; no rule gives both.
    """
    whole = [factor.gradients for factor in factors if isinstance(factor, Whole)]
    outer = [factor for factor in factors if isinstance(factor, Outer)]
    scattered = [factor for factor in factors if isinstance(factor, Scattered)]
    if whole:
        if outer or scattered:
            raise ValueError(f"{name} is used both as a vector and as a matrix")
        reduction.add(name, ..., [(samples, torch.stack(whole).sum(dim=0))])
    ids = torch.cat([factor.ids for factor in scattered], dim=1) if scattered else None
    if outer:
        _reduce_products(outer, ids, reduction, samples, name)
    if ids is not None:
        values = torch.cat([factor.values for factor in scattered], dim=1)
        _reduce_rows(ids, values, outer, reduction, samples, name)


def _reduce_products(
    outer: Sequence[Outer], apart: Tensor | None, reduction: Reduction, samples: Tensor, name: str
) -> None:
    """Of each sample without the rows `apart` ([batch, n]), which count as zero here: by kernels that form no gradient
    in memory, or tile by tile."""
    left = outer[0].left
    rows, columns = left.shape[2], outer[0].right.shape[2]
    keep = None if apart is None else apart.new_ones(len(samples), rows, dtype=torch.uint8).scatter_(1, apart, 0)
    if isinstance(reduction, FusedReduction) and fused.suits(outer):
        reduction.add_products(name, fused.joined(outer, keep, samples))
        return
    height, together = _block_shape(left.device, len(samples), rows, columns)
    memory = left.new_empty(together * height * columns)

    def gradients(tile: slice) -> Iterator[GradientsOfSamples]:
        for first in range(0, len(samples), together):
            some = slice(first, first + together)
            shape = (len(samples[some]), tile.stop - tile.start, columns)
            result = memory[: math.prod(shape)].view(shape)  # contiguous, or the products become slow
            for number, factor in enumerate(outer):
                part = factor.left[some, :, tile]
                part = part if keep is None else part * keep[some, None, tile]
                torch.baddbmm(result, part.mT, factor.right[some], beta=0 if number == 0 else 1, out=result)
            yield samples[some], result

    for top in range(0, rows, height):
        tile = slice(top, min(top + height, rows))
        reduction.add(name, tile, gradients(tile))


def _block_shape(device: torch.device, samples: int, rows: int, columns: int) -> tuple[int, int]:
    """Rows and samples of a block."""
    limit = BLOCK_ELEMENTS["cpu" if device.type == "cpu" else "cuda"]
    tiles = -(-rows // max(1, limit // columns))
    height = -(-rows // tiles)
    together = torch.get_num_threads() if device.type == "cpu" else max(1, limit // (height * columns))
    return height, min(samples, together)


def _reduce_rows(
    ids: Tensor, values: Tensor, outer: Sequence[Outer], reduction: Reduction, samples: Tensor, name: str
) -> None:
    """The rows that a sample looks up: what its lookups give, summed where one id appears several times, and what the
    products give in the same rows. Shapes do not depend on the data, so that no device has to be waited for."""
    same = ids.unsqueeze(2) == ids.unsqueeze(1)
    places = torch.arange(ids.shape[1], device=ids.device)
    first = torch.where(same, places, ids.shape[1]).amin(dim=2) == places
    gradients = (same & first.unsqueeze(2)).to(values.dtype) @ values
    for factor in outer:
        index = ids.unsqueeze(1).expand(-1, factor.left.shape[1], -1)
        left = factor.left.gather(2, index) * first.unsqueeze(1)
        gradients += left.mT @ factor.right
    reduction.add_rows(name, ids, (samples, gradients))
