"""What becomes of the tokens of a tensor's rows in one operation, by what autograd's node of it has saved.

A *grid* has the tokens of the leading dimensions of a tensor: an int64 tensor of their shape. How many dimensions it
has follows from the operations; all elements behind one cell of it belong to the same token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def viewed(grid: Tensor, shape: Sequence[int]) -> Tensor | None:
    """The tokens behind a view: each cell of the grid stands for as many elements as any other, and they lie
    together."""
    for leading in range(1, len(shape) + 1):
        cells = math.prod(shape[:leading])
        if grid.numel() == cells:
            return grid.reshape(*shape[:leading])
        if grid.numel() and cells and cells % grid.numel() == 0:
            return grid.flatten().repeat_interleave(cells // grid.numel()).view(*shape[:leading])
    return None


def _dimension(number: int, shape: Sequence[int]) -> int:
    """Autograd keeps -1 as an unsigned number."""
    number = number - 2**64 if number >= 2**63 else number
    return number + len(shape) if number < 0 else number


def _indexed(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    indices = [index for index in node._saved_indices if index is not None]
    if [index is not None for index in node._saved_indices[: len(indices)]] != [True] * len(indices):
        return None  # the first dimensions are not those that were chosen from
    taken = sum(index.ndim if index.dtype == torch.bool else 1 for index in indices)
    grid, before = grids[0], node._saved_self_sym_sizes
    if grid.ndim < taken:
        grid = grid.view(*grid.shape, *[1] * (taken - grid.ndim)).expand(before[:taken])
    return grid[tuple(indices)]


def _selected_rows(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    dimension = _dimension(node._saved_dim, shape)
    return grids[0] if dimension >= grids[0].ndim else grids[0].index_select(dimension, node._saved_index)


def _sliced(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    dimension = _dimension(node._saved_dim, shape)
    if dimension >= grids[0].ndim:
        return grids[0]
    cut = slice(node._saved_start, node._saved_end, node._saved_step)
    return grids[0][(slice(None),) * dimension + (cut,)]


def _split(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    dimension = _dimension(node._saved_dim, shape)
    if dimension >= grids[0].ndim:
        return grids[0]
    sizes = node._saved_split_sizes if hasattr(node, "_saved_split_sizes") else node._saved_split_size
    parts: tuple[Tensor, ...] = grids[0].split(sizes, dimension)  # type: ignore[no-untyped-call]
    return parts[output]


def _unbound(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    dimension = _dimension(node._saved_dim, (*shape, 1))
    if dimension >= grids[0].ndim:
        return grids[0]
    return grids[0].select(dimension, output) if grids[0].ndim > 1 else None


def _repeated(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    new = len(shape) - len(node._saved_self_sym_sizes)
    return grids[0].repeat(*node._saved_repeats[: new + grids[0].ndim])


def _expanded(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    new = len(shape) - len(node._saved_self_sym_sizes)
    return grids[0].expand(shape[: new + grids[0].ndim])


def _transposed(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    first, second = _dimension(node._saved_dim0, shape), _dimension(node._saved_dim1, shape)
    grid = grids[0]
    while grid.ndim > 1 and grid.shape[-1] == 1 and max(first, second) >= grid.ndim:
        grid = grid.squeeze(-1)
    if min(first, second) >= grid.ndim:
        return grid
    return grid.transpose(first, second) if max(first, second) < grid.ndim else None


def _joined(node: Any, grids: list[Tensor], shape: tuple[int, ...], output: int) -> Tensor | None:
    dimension = _dimension(node._saved_dim, shape)
    if len({grid.ndim for grid in grids}) > 1:
        return None
    return torch.cat(grids, dim=dimension) if dimension < grids[0].ndim else grids[0]


CHANGES: dict[str, Callable[[Any, list[Tensor], tuple[int, ...], int], Tensor | None]] = {
    "Index": _indexed,
    "IndexSelect": _selected_rows,
    "Slice": _sliced,
    "Split": _split,
    "SplitWithSizes": _split,
    "Unbind": _unbound,
    "Repeat": _repeated,
    "Expand": _expanded,
    "Transpose": _transposed,
    "Cat": _joined,
}
"""What becomes of the tokens of an operation's operands."""
