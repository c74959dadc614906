"""From the factors of a parameter's gradients to the per-sample gradients, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from types import EllipsisType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lwf_assets.engine.gradients.factors import Factor, Outer, Routed, Scattered, Whole

BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**25}
"""Elements that are formed at once, by type of device: of one sample on a CPU, where each core works on a sample of its
own and its block should stay in the cache; of all samples on a GPU, which should be filled."""

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
    if sum(map(bool, (whole, outer or scattered, routed))) > 1:
        raise ValueError(f"{name} is used both as a vector, a matrix or a stack and as another of them")
    if routed:
        _reduce_routed(routed, reduction, samples, name)
    if whole:
        reduction.add(name, ..., [(samples, torch.stack(whole).sum(dim=0))])
    ids = torch.cat([factor.ids for factor in scattered], dim=1) if scattered else None
    if outer:
        _reduce_products(outer, ids, reduction, samples, name)
    if ids is not None:
        values = torch.cat([factor.values for factor in scattered], dim=1)
        _reduce_rows(ids, values, outer, reduction, samples, name)


def _reduce_products(
    outer: Sequence[Outer],
    apart: Tensor | None,
    reduction: Reduction,
    samples: Tensor,
    name: str,
    matrix: int | None = None,
) -> None:
    """Tile by tile; of each sample without the rows `apart` ([batch, n]), which count as zero here. Of a stack, it is
    the matrix of this number."""
    left = outer[0].left
    rows, columns = left.shape[2], outer[0].right.shape[2]
    keep = None if apart is None else left.new_ones(len(samples), rows).scatter_(1, apart, 0).unsqueeze(1)
    height, together = _block_shape(left.device, len(samples), rows, columns)
    memory = left.new_empty(together * height * columns)

    def gradients(tile: slice) -> Iterator[GradientsOfSamples]:
        for first in range(0, len(samples), together):
            some = slice(first, first + together)
            shape = (len(samples[some]), tile.stop - tile.start, columns)
            result = memory[: math.prod(shape)].view(shape)  # contiguous, or the products become slow
            for number, factor in enumerate(outer):
                part = factor.left[some, :, tile]
                part = part if keep is None else part * keep[some, :, tile]
                torch.baddbmm(result, part.mT, factor.right[some], beta=0 if number == 0 else 1, out=result)
            yield samples[some], result

    for top in range(0, rows, height):
        tile = slice(top, min(top + height, rows))
        reduction.add(name, tile if matrix is None else (matrix, tile), gradients(tile))


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


def _reduce_routed(routed: Sequence[Routed], reduction: Reduction, samples: Tensor, name: str) -> None:
    """Matrix by matrix, as the product of those samples that have rows there. Samples with as many rows are taken
    together; where there are fewer, at least half as many, zeros take the place of the others."""
    count, batch = routed[0].count, len(samples)
    places = torch.cat([factor.matrices * batch + factor.samples for factor in routed])
    order = places.argsort(stable=True)
    # A row of zeros behind the last.
    left, right = (
        functional.pad(torch.cat(factors)[order], (0, 0, 0, 1))
        for factors in zip(*((factor.left, factor.right) for factor in routed), strict=True)
    )
    rows_of = places.bincount(minlength=count * batch)[: count * batch]
    starts = (rows_of.cumsum(0) - rows_of).view(count, batch)
    for matrix, numbers in enumerate(rows_of.view(count, batch).tolist()):
        there = sorted((n for n in range(batch) if numbers[n]), key=lambda n: -numbers[n])
        while there:
            longest = numbers[there[0]]
            together = [n for n in there if 2 * numbers[n] >= longest]
            there = there[len(together) :]
            chosen = torch.tensor(together, device=samples.device)
            steps = torch.arange(longest, device=samples.device)
            rows = starts[matrix, chosen].unsqueeze(1) + steps
            rows = rows.where(steps < rows_of.view(count, batch)[matrix, chosen].unsqueeze(1), len(order))
            _reduce_products([Outer(left[rows], right[rows])], None, reduction, samples[chosen], name, matrix)
