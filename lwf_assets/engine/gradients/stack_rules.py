"""Rules for parameters that are stacks of matrices or of biases, one for each expert of a mixture.

Experts are used in four ways: a grouped product of rows that are sorted by expert; a batched product of each row with
its own copy of a matrix, or of all rows with all matrices; products with one matrix after another. In each, the rows
belong to samples as the routing says (`rows.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lwf_assets.engine.gradients.stack_operations import StackedProduct

if TYPE_CHECKING:
    from lwf_assets.engine.gradients.watch import GradientWatch, Part

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)  # unsigned ones are masks


def _chosen(watch: GradientWatch, source: Tensor, index: Any) -> Any:
    """Some matrices of a stack, or some rows of a matrix."""
    part = watch.part_of(source)
    if part is None or part.reshaped or part.matrices is not None:
        return NotImplemented
    numbers = _numbers(index, source)
    if numbers is None:
        return NotImplemented
    result = source[index]
    if source.ndim == 3:
        return watch.note_part(replace(part, matrices=numbers, count=len(source)), result)
    if source.ndim == 2 and not part.transposed:
        return watch.note_lookup(result, numbers, part.name, len(source))
    return result


def _numbers(index: Any, source: Tensor) -> Tensor | None:
    """`index` into the first dimension as a tensor of one dimension, or none for a single number."""
    if isinstance(index, tuple) and len(index) == 1:
        (index,) = index
    if isinstance(index, int) and not isinstance(index, bool):
        index = torch.tensor(index, device=source.device)
    if not isinstance(index, Tensor) or index.dtype not in _INTEGERS or index.ndim > 1:
        return None
    return index.long() % len(source)


def _transposed(watch: GradientWatch, source: Tensor, *dimensions: Any, **named: Any) -> Any:
    """The last two dimensions, in the other order."""
    part = watch.part_of(source)
    if part is None or part.reshaped or source.ndim < 2:
        return NotImplemented
    pair = {number % source.ndim for number in (*dimensions, *named.values())}
    result = source.transpose(*dimensions, **named)
    if pair != {source.ndim - 1, source.ndim - 2}:
        return result
    return watch.note_part(_flipped(part), result)


def _turned(watch: GradientWatch, source: Tensor, *, matrices_alone: bool) -> Any:
    part = watch.part_of(source)
    if part is None or part.reshaped or source.ndim < 2 or (matrices_alone and source.ndim != 2):
        return NotImplemented
    return watch.note_part(_flipped(part), source.mT)


def _flipped(part: Part) -> Part:
    return replace(part, transposed=not part.transposed)


def _grouped_mm(
    watch: GradientWatch,
    input: Tensor,
    weight: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    *,
    one_by_one: bool = False,
) -> Any:
    part = watch.part_of(weight)
    fits = input.ndim == 2 and weight.ndim == 3 and offs is not None and bias is None and out_dtype is None
    if part is None or part.reshaped or part.matrices is not None or not fits:
        return NotImplemented
    return _stacked(watch, input, weight, part, offs, one_by_one or input.device.type == "cpu")


def _bmm(watch: GradientWatch, input: Tensor, mat2: Tensor) -> Any:
    return stacked_product(watch, input, mat2)


def stacked_product(watch: GradientWatch, first: Tensor, second: Tensor) -> Any:
    """[n, a, b] times [n, b, c], one of which is a parameter or a choice of its matrices."""
    if watch.part_of(second) is not None:
        part, x, stack = watch.part_of(second), first, second
    else:
        part, x, stack = watch.part_of(first), second, first
    if part is None or part.reshaped or x.ndim != 3 or stack.ndim != 3 or len(x) != len(stack):
        return NotImplemented
    if stack is second:
        return _stacked(watch, x, stack, part, None, False)
    turned = _stacked(watch, x.mT, stack.detach().mT, _flipped(part), None, False)
    return NotImplemented if turned is NotImplemented else turned.mT


def _stacked(watch: GradientWatch, x: Tensor, stack: Tensor, part: Part, ends: Tensor | None, one_by_one: bool) -> Any:
    rows = watch.rows.by_graph(x)
    if rows is None:
        return NotImplemented
    numbers = torch.arange(len(stack), device=x.device) if part.matrices is None else part.matrices
    counted = part if part.matrices is not None else replace(part, matrices=numbers, count=len(stack))
    watch.expect(part.name)
    return StackedProduct.apply(  # type: ignore[no-untyped-call]
        watch.anchor, x, stack.detach(), ends, numbers, one_by_one, counted, rows, watch
    )


STACK_RULES: dict[Any, Callable[..., Any]] = {
    torch.Tensor.__getitem__: _chosen,
    torch.transpose: _transposed,
    torch.Tensor.transpose: _transposed,
    torch.t: partial(_turned, matrices_alone=True),
    torch.Tensor.t: partial(_turned, matrices_alone=True),
    torch.Tensor.T.__get__: partial(_turned, matrices_alone=True),  # type: ignore[attr-defined]
    torch.Tensor.mT.__get__: partial(_turned, matrices_alone=False),  # type: ignore[attr-defined]
    torch._grouped_mm: _grouped_mm,
    "transformers::grouped_mm_fallback": partial(_grouped_mm, one_by_one=True),
    torch.bmm: _bmm,
    torch.Tensor.bmm: _bmm,
}
"""Operations and their rules; operators outside torch by their name."""
