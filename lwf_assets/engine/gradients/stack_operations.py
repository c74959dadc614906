"""The operations on stacks of matrices or of biases, one for each expert, in the manner of `operations.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from lwf_assets.engine.gradients.factors import Routed, Whole
from lwf_assets.engine.gradients.rows import Rows

if TYPE_CHECKING:
    from lwf_assets.engine.gradients.watch import GradientWatch, LookedUp, Part


class StackedProduct(Function):
    """Each row of x times one matrix of `stack` [matrices, in, out].

    x is [matrices, n, in], n rows for each matrix; or, with `ends` [matrices], [rows, in] sorted by matrix, where the
    rows of matrix m end before ends[m]. `numbers` [matrices] are those that the matrices have in their parameter,
    which has `part.count` of them. `one_by_one`: there is no grouped product on this device.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        x: Tensor,
        stack: Tensor,
        ends: Tensor | None,
        numbers: Tensor,
        one_by_one: bool,
        part: Part,
        rows: Rows,
        watch: GradientWatch,
    ) -> Tensor:
        ctx.save_for_backward(x, stack, ends, numbers)
        ctx.call = (one_by_one, part, rows, watch)
        ctx.tokens = rows.tokens
        return _stacked(x, stack, ends, one_by_one)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, stack, ends, numbers = ctx.saved_tensors
        one_by_one, part, rows, watch = ctx.call

        def factor() -> Routed:
            left, right = (gradient, x) if part.transposed else (x, gradient)
            if ends is None:
                matrices = numbers.repeat_interleave(x.shape[1])
            else:  # rows behind the last end have no matrix
                numbered = torch.cat([numbers, numbers.new_full((1,), part.count)])
                places = torch.arange(len(x), device=x.device)
                matrices = numbered[torch.searchsorted(ends.long(), places, right=True)]
            return routed(rows, left, right, matrices, part.count)

        onward = _stacked(gradient, stack.mT, ends, one_by_one) if ctx.needs_input_grad[1] else None
        watch.tell(rows, gradient, (part.name, factor))
        return None, onward, *[None] * 7


class RowsShift(Function):
    """x + table[ids], with x [rows, width], table [count, width] and ids [rows] or a single one; `looked_up` is
    table[ids]."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, looked_up: Tensor, lookup: LookedUp, rows: Rows, watch: GradientWatch
    ) -> Tensor:
        ctx.call = (lookup, rows, watch, x.dtype)
        ctx.tokens = rows.tokens
        return x + looked_up

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        lookup, rows, watch, dtype = ctx.call

        def factor() -> Whole:
            places = rows.samples(gradient) * lookup.count + lookup.ids.flatten()
            width = gradient.shape[-1]
            total = torch.zeros(
                watch.batch * lookup.count,
                width,
                dtype=torch.promote_types(gradient.dtype, torch.float32),
                device=gradient.device,
            )
            total.index_add_(0, places, gradient.reshape(-1, width).to(total.dtype))
            return Whole(total.view(watch.batch, lookup.count, width))

        watch.tell(rows, gradient, (lookup.name, factor))
        return None, gradient.to(dtype), *[None] * 4


def _stacked(x: Tensor, stack: Tensor, ends: Tensor | None, one_by_one: bool) -> Tensor:
    if ends is None:
        return torch.bmm(x, stack)
    if not one_by_one:
        return torch._grouped_mm(x, stack, offs=ends)
    result = x.new_empty(len(x), stack.shape[2])
    start = 0
    for matrix, end in zip(stack, ends.tolist(), strict=True):
        if end > start:
            torch.mm(x[start:end], matrix, out=result[start:end])
            start = end
    result[start:] = 0
    return result


def routed(rows: Rows, left: Tensor, right: Tensor, matrices: Tensor, count: int) -> Routed:
    """What rows `left` and `right` of a product with these matrices give."""
    samples = rows.samples(left)
    left, right = left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
    return Routed(left, right, samples, matrices.expand(len(samples)), count)
