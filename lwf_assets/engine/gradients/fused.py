"""Sums over the elements of per-sample gradients of a whole matrix, none of which is ever formed in memory.

On a GPU the block loop of `blocks.py` spends most of its time on writing and reading blocks of gradients. The kernels
of `kernels.py` keep a tile of one sample's gradient in registers instead. The loop stays what these are tested against,
and the way of CPUs and of types that the kernels do not take.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lwf_assets.engine.gradients.factors import Outer

log = logging.getLogger(__name__)

TYPES = (torch.bfloat16, torch.float16, torch.float32)
"""Types of factors that the kernels multiply; sums are always in fp32."""

SUMS_ELEMENTS = 2**26
"""Row sums that may wait to be added up: 256 MiB."""

GRAM_ADVANTAGE = 2
"""By how much the Gram product must be the smaller one to give the norms. The kernel, which has each gradient in
registers anyway, adds up its squares for about half a product."""


@dataclass(frozen=True)
class Tile:
    """How a kernel cuts its work: a tile of the gradient, positions that are multiplied at once, warps and stages of
    the pipeline that loads the factors."""

    height: int
    width: int
    depth: int
    warps: int
    stages: int


LARGE, SMALL = Tile(128, 128, 64, 8, 3), Tile(64, 64, 64, 4, 3)
"""For 16-bit factors: the best on an H100 for matrices of 2048 and more, and for a width of 576."""
TF32, EXACT = Tile(128, 128, 32, 8, 3), Tile(64, 64, 32, 4, 2)
"""For fp32 factors, with and without TF32. They follow from the size of the type and were not tuned."""


@dataclass(frozen=True)
class Products:
    """The gradients of one matrix: of sample n, left[n]^T right[n], in which the rows where keep[n] is zero count as
    zero.

    left [samples, positions, rows], right [samples, positions, columns], of one type; keep [samples, rows], uint8, or
    None. `samples` [samples] says which samples they are.
    """

    left: Tensor
    right: Tensor
    keep: Tensor | None
    samples: Tensor


def suits(uses: Sequence[Outer]) -> bool:
    """Whether the kernels take these uses of a matrix: on a GPU, all of one type that they multiply."""
    types = {factor.dtype for use in uses for factor in (use.left, use.right)}
    dtype = uses[0].left.dtype
    return types == {dtype} and dtype in TYPES and runs_on(uses[0].left.device, dtype)


_chosen: bool | None = None


@contextmanager
def kernels_used(chosen: bool) -> Iterator[None]:
    """Within the block, the kernels or the loop, whatever the device: to compare the two."""
    global _chosen
    before, _chosen = _chosen, chosen
    try:
        yield
    finally:
        _chosen = before


def runs_on(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels work on this device: tried once, with a warning where they should and do not."""
    if _chosen is not None:
        return _chosen
    return device.type == "cuda" and _works(device, dtype)


@cache
def _works(device: torch.device, dtype: torch.dtype) -> bool:
    """Run each tile once, against a plain product. It fails without Triton or a C compiler, or on a card with too
    little shared memory."""
    factors = torch.randn(2, 2, 48, 128, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    products = Products(factors[0], factors[1], None, torch.arange(2, device=device))
    expected = (factors[0].mT.double() @ factors[1].double()).square().sum(dim=0)
    for tile in (EXACT, TF32) if dtype == torch.float32 else (LARGE, SMALL):
        found = torch.zeros(128, 128, device=device)
        try:
            add_squares(found, products, 1.0, tile=tile)
        except Exception as error:
            log.warning("Per-sample gradients are reduced without kernels of their own, which is slower: %s", error)
            return False
        if not (found - expected).norm() <= 1e-2 * expected.norm():
            log.warning("Per-sample gradients are reduced without kernels, which on this device compute wrongly")
            return False
    return True


def joined(uses: Sequence[Outer], keep: Tensor | None, samples: Tensor) -> Products:
    """All uses of one matrix as one product, over the positions of all of them."""
    if len(uses) == 1:
        left, right = uses[0].left, uses[0].right
    else:
        left = torch.cat([use.left for use in uses], dim=1)
        right = torch.cat([use.right for use in uses], dim=1)
    return Products(left, right, keep, samples)


def add_squares(result: Tensor, products: Products, share: float, *, tile: Tile | None = None) -> None:
    """result += share * sum over the samples of the squared gradient; `result` [rows, columns], fp32, in any order in
    memory."""
    from lwf_assets.engine.gradients import kernels

    tile = tile or tile_of(products)
    samples, positions, rows, columns = _sizes(products)
    with _current(result):
        kernels.add_squares[_grid(tile, rows, columns)](
            products.left,
            products.right,
            result if products.keep is None else products.keep.contiguous(),
            result,
            share,
            samples,
            positions,
            rows,
            columns,
            *products.left.stride(),
            *products.right.stride(),
            *result.stride(),
            KEEP=products.keep is not None,
            **_constants(tile, products),
        )


def weighted_sums(
    products: Products, fisher: Tensor, delta: Tensor, *, tile: Tile | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each sample, the sums of fisher * delta * g, of fisher * g^2 and of g^2; [samples] each, fp64.

    `fisher` and `delta` [rows, columns] may be of any type of floating point, and lie in any order in memory: they are
    read tile by tile.
    """
    from lwf_assets.engine.gradients import kernels

    tile = tile or tile_of(products)
    samples, positions, rows, columns = _sizes(products)
    by_gram = products.keep is None and GRAM_ADVANTAGE * positions * (rows + columns) <= rows * columns
    kinds, across = 2 if by_gram else 3, -(-columns // tile.width)
    together = min(samples, max(1, SUMS_ELEMENTS // (kinds * across * rows)))
    memory = products.left.new_empty(kinds, together, across, rows, dtype=torch.float32)
    totals = memory.new_empty(kinds, samples, dtype=torch.float64)
    for first in range(0, samples, together):
        some = slice(first, first + together)
        left, right = products.left[some], products.right[some]
        with _current(left):
            kernels.weighted_row_sums[_grid(tile, rows, columns)](
                left,
                right,
                memory if products.keep is None else products.keep[some].contiguous(),
                fisher,
                delta,
                memory,
                len(left),
                positions,
                rows,
                columns,
                *left.stride(),
                *right.stride(),
                *fisher.stride(),
                *delta.stride(),
                *memory.stride()[:2],
                KEEP=products.keep is not None,
                NORM=not by_gram,
                **_constants(tile, products),
            )
        totals[:, some] = memory[:, : len(left)].sum(dim=(2, 3), dtype=torch.float64)
    return totals[0], totals[1], squared_norms(products) if by_gram else totals[2]


def squared_norms(products: Products) -> Tensor:
    """Sum over the elements of each gradient's squares, [samples], fp64: sum over pairs of positions t, u of
    (left_t . left_u) (right_t . right_u). No element of the gradient is needed, but all its rows are kept."""
    return (_gram(products.left) * _gram(products.right)).sum(dim=(1, 2), dtype=torch.float64)


def _gram(factor: Tensor) -> Tensor:
    """[samples, positions, positions] in fp32."""
    if factor.dtype == torch.float32 or factor.device.type == "cpu":  # which has no products with a wider result
        factor = factor.float()
        return factor @ factor.mT
    return torch.bmm(factor, factor.mT, out_dtype=torch.float32)


def _sizes(products: Products) -> tuple[int, int, int, int]:
    samples, positions, rows = products.left.shape
    return samples, positions, rows, products.right.shape[2]


def tile_of(products: Products) -> Tile:
    """By a rule, not by trials: few kernels are compiled, and sums of other tiles are never among a result's."""
    if products.left.dtype == torch.float32:
        return EXACT if _is_exact() else TF32
    return LARGE if min(products.left.shape[2], products.right.shape[2]) >= 1024 else SMALL


def _grid(tile: Tile, rows: int, columns: int) -> tuple[int]:
    return (-(-rows // tile.height) * -(-columns // tile.width),)


def _constants(tile: Tile, products: Products) -> dict[str, Any]:
    exact = products.left.dtype == torch.float32 and _is_exact()
    return {
        "HEIGHT": tile.height,
        "WIDTH": tile.width,
        "DEPTH": tile.depth,
        "PRECISION": "ieee" if exact else "tf32",
        "WIDEN": products.left.device.type == "cpu",
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def _is_exact() -> bool:
    """Whether products of fp32 are those of fp32: unless torch itself was told otherwise (`model.tf32`)."""
    return torch.get_float32_matmul_precision() == "highest"


def _current(tensor: Tensor) -> Any:
    """Triton launches on torch's current device."""
    return torch.cuda.device(tensor.device if tensor.device.type == "cuda" else -1)
