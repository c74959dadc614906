"""From the factors of a parameter's gradients to the per-sample gradients, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from types import EllipsisType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lwf_assets.engine.gradients import fused
from lwf_assets.engine.gradients.factors import Factor, Outer, Routed, Scattered, Whole
from lwf_assets.engine.gradients.stretches import OfSamples, groups_of_matrices

BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**25}
"""Elements that are formed at once, by type of device: by each core of a CPU, which works on samples of its own and
whose block should stay in the cache; by a GPU as a whole, which should be filled."""

GradientsOfSamples = tuple[Tensor, Tensor]
"""Which samples, [n], and their gradients, [n, *shape]. They must not be kept and may be overwritten."""


RowsOfParameter = slice | EllipsisType | tuple[int, slice]
"""An index of rows of a parameter; of a stack of matrices, the number of one and rows of it."""


class Reduction(Protocol):
    """What becomes of the per-sample gradients."""

    def add(self, name: str, rows: RowsOfParameter, gradients: Iterable[GradientsOfSamples]) -> None:
        """Gradients of some rows of the parameter `name`, for samples of a batch; each element of a sample comes once,
        or not at all if it is zero."""

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
        ValueError: some factors are those of a vector, others those of a matrix or a stack; no rules give both.
    """
    whole = [factor.gradients for factor in factors if isinstance(factor, Whole)]
    outer = [factor for factor in factors if isinstance(factor, Outer)]
    scattered = [factor for factor in factors if isinstance(factor, Scattered)]
    routed = [factor for factor in factors if isinstance(factor, Routed)]
    if routed and (outer or scattered):
        raise ValueError(f"{name} is used both as a matrix and as a stack")
    if whole:
        total = torch.stack(whole).sum(dim=0)
        others: list[Factor] = [*routed, *outer, *scattered]
        for factor in others:
            total += _in_full(factor, total)
        reduction.add(name, ..., [(samples, total)])
        return
    if routed:
        _reduce_routed(routed, reduction, samples, name)
    ids = torch.cat([factor.ids for factor in scattered], dim=1) if scattered else None
    if outer:
        _reduce_products([(samples, outer)], ids, reduction, name)
    if ids is not None:
        values = torch.cat([factor.values for factor in scattered], dim=1)
        _reduce_rows(ids, values, outer, reduction, samples, name)


def _in_full(factor: Factor, like: Tensor) -> Tensor:
    """The gradients of all samples at once, where another use of the parameter has given them so."""
    if isinstance(factor, Outer) and like.ndim == 3:
        return factor.left.mT @ factor.right
    result = torch.zeros_like(like)
    if isinstance(factor, Routed) and like.ndim == 4:
        there = factor.matrices < factor.count
        products = factor.left[there].unsqueeze(2) * factor.right[there].unsqueeze(1)
        places = (factor.samples[there], factor.matrices[there])
        return result.index_put_(places, products.to(like.dtype), accumulate=True)
    if isinstance(factor, Scattered) and like.ndim == 3:
        rows = torch.arange(len(like), device=like.device).unsqueeze(1).expand_as(factor.ids)
        return result.index_put_((rows, factor.ids), factor.values.to(like.dtype), accumulate=True)
    raise ValueError("a parameter is used both as a vector and as a matrix or a stack")


def _reduce_products(
    groups: Sequence[OfSamples],
    apart: Tensor | None,
    reduction: Reduction,
    name: str,
    matrix: int | None = None,
) -> None:
    """By kernels that form no gradient in memory, or tile by tile, of groups of samples with as many positions each. Of
    a single group, the rows `apart` ([batch, n]) of each sample count as zero here. Of a stack of matrices, it is the
    one of the number `matrix`."""
    assert apart is None or len(groups) == 1
    count, factor = sum(len(samples) for samples, _ in groups), groups[0][1][0]
    left, rows, columns = factor.left, factor.left.shape[2], factor.right.shape[2]
    keep = None if apart is None else apart.new_ones(count, rows, dtype=torch.uint8).scatter_(1, apart, 0)
    if matrix is None and len(groups) == 1 and isinstance(reduction, FusedReduction) and fused.suits(groups[0][1]):
        reduction.add_products(name, fused.joined(groups[0][1], keep, groups[0][0]))
        return
    height, together = _block_shape(left.device, count, rows, columns)
    memory = left.new_empty(together * height * columns)

    def gradients(tile: slice) -> Iterator[GradientsOfSamples]:
        size = (tile.stop - tile.start, columns)
        block = memory[: together * math.prod(size)].view(together, *size)
        filled = 0
        whose: list[Tensor] = []
        for samples, outer in groups:
            for first in range(0, len(samples), together):
                some = slice(first, first + together)
                here = samples[some]
                if filled + len(here) > together:
                    yield torch.cat(whose), block[:filled]
                    filled, whose = 0, []
                result = block[filled : filled + len(here)]
                for number, factor in enumerate(outer):
                    part = factor.left[some, :, tile]
                    part = part if keep is None else part * keep[some, None, tile]
                    torch.baddbmm(result, part.mT, factor.right[some], beta=0 if number == 0 else 1, out=result)
                filled += len(here)
                whose.append(here)
        yield torch.cat(whose), block[:filled]

    for top in range(0, rows, height):
        tile = slice(top, min(top + height, rows))
        reduction.add(name, tile if matrix is None else (matrix, tile), gradients(tile))


def _block_shape(device: torch.device, samples: int, rows: int, columns: int) -> tuple[int, int]:
    """Rows and samples of a block."""
    limit = BLOCK_ELEMENTS["cpu" if device.type == "cpu" else "cuda"]
    tiles = -(-rows // max(1, limit // columns))
    height = -(-rows // tiles)
    together = max(1, limit // (height * columns))
    return height, min(samples, together * (torch.get_num_threads() if device.type == "cpu" else 1))


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


def _reduce_routed(routed: Sequence[Routed], reduction: Reduction, samples: Tensor, name: str) -> None:
    """Matrix by matrix, as products of those samples that have rows there."""
    left, right = routed[0].left, routed[0].right
    _, together = _block_shape(left.device, len(samples), left.shape[1], right.shape[1])
    for matrix, groups in groups_of_matrices(routed, samples, together):
        _reduce_products(groups, None, reduction, name, matrix)
