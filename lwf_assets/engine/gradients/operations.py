"""The operations with a rule, as autograd functions that hand out factors of their parameters' gradients.

Each lets the gradient flow on through the activations and forms none of its parameters. `watch` gets the factors;
`anchor`, which every one of them depends on, makes sure that its turn comes in the backward pass. `tokens` of the node
that it leaves in the graph are those of its result's rows (`rows.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from lwf_assets.engine.gradients.factors import Outer, Routed, Scattered, Whole
from lwf_assets.engine.gradients.rows import Rows

if TYPE_CHECKING:
    from lwf_assets.engine.gradients.watch import GradientWatch, LookedUp, Part


class Product(Function):
    """x @ weight + bias, with weight [in, out], or [out, in] if `transposed`. `part` says what of its parameter the
    weight is, None for a constant."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        transposed: bool,
        part: Part | None,
        bias_name: str | None,
        rows: Rows,
        watch: GradientWatch,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.call = (transposed, part, bias_name, rows, watch)
        ctx.tokens = rows.tokens
        if transposed:
            return _own(functional.linear(x, weight, bias))
        product = x @ weight
        return _own(product if bias is None else product + bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        transposed, part, bias_name, rows, watch = ctx.call

        def factor() -> Outer | Routed:
            left, right = (gradient, x) if transposed != part.transposed else (x, gradient)
            if part.matrices is None:
                return Outer(rows.by_sample(left), rows.by_sample(right))
            return _routed(rows, left, right, part.matrices, part.count)

        onward = None
        if ctx.needs_input_grad[1]:
            onward = gradient @ (weight if transposed else weight.T)
        name = None if part is None else part.name
        watch.tell(rows, gradient, (name, factor), (bias_name, lambda: Whole(rows.summed(gradient))))
        return None, onward, *[None] * 7


class StackedProduct(Function):
    """Each row of x times one matrix of `stack` [matrices, in, out].

    x is [matrices, n, in], n rows for each matrix; or, with `ends` [matrices], [rows, in] sorted by matrix, where the rows
    of matrix m end before ends[m]. `numbers` [matrices] are those that the matrices have in their parameter, which
    has `part.count` of them. `one_by_one`: there is no grouped product on this device.
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
            return _routed(rows, left, right, matrices, part.count)

        onward = _stacked(gradient, stack.mT, ends, one_by_one) if ctx.needs_input_grad[1] else None
        watch.tell(rows, gradient, (part.name, factor))
        return None, onward, *[None] * 7


class Lookup(Function):
    """Rows of `weight`."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        ids: Tensor,
        weight: Tensor,
        padding_id: int | None,
        names: list[str | None],
        rows: Rows,
        watch: GradientWatch,
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.call = (padding_id, names, rows, watch)
        ctx.tokens = rows.tokens
        return _own(functional.embedding(ids, weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        (ids,) = ctx.saved_tensors
        padding_id, (name,), rows, watch = ctx.call

        def factor() -> Scattered:
            by_sample = ids.reshape(watch.batch, -1)
            return _scattered(by_sample, rows.by_sample(gradient), padding_id)

        watch.tell(rows, gradient, (name, factor))
        return (None,) * 7


class Normalization(Function):
    """Layer normalization over the last dimension, with weight and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        names: list[str | None],
        rows: Rows,
        watch: GradientWatch,
    ) -> Tensor:
        result, mean, scale = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        ctx.call = (names, rows, watch)
        ctx.tokens = rows.tokens
        return _own(result)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale = ctx.saved_tensors
        (weight_name, bias_name), rows, watch = ctx.call
        onward, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, x.shape[-1:], mean, scale, weight, bias, [True, False, False]
        )
        watch.tell(
            rows,
            gradient,
            (weight_name, lambda: Whole(rows.summed(gradient * ((x - mean) * scale)))),
            (bias_name, lambda: Whole(rows.summed(gradient))),
        )
        return None, onward, *[None] * 6


class Scaling(Function):
    """x * weight, over the last dimension."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, weight: Tensor, names: list[str | None], rows: Rows, watch: GradientWatch
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.call = (names, rows, watch)
        ctx.tokens = rows.tokens
        return x * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (name,), rows, watch = ctx.call
        watch.tell(rows, gradient, (name, lambda: Whole(rows.summed(gradient * x))))
        return None, (gradient * weight).to(x.dtype), *[None] * 4


class Shift(Function):
    """x + bias, over the last dimension."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, bias: Tensor, names: list[str | None], rows: Rows, watch: GradientWatch
    ) -> Tensor:
        ctx.call = (names, rows, watch, x.dtype)
        ctx.tokens = rows.tokens
        return x + bias

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (name,), rows, watch, dtype = ctx.call
        watch.tell(rows, gradient, (name, lambda: Whole(rows.summed(gradient))))
        return None, gradient.to(dtype), *[None] * 4


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


class Expansion(Function):
    """`value` expanded to `shape`, whose first dimension is the batch."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, value: Tensor, shape: torch.Size, name: str, watch: GradientWatch
    ) -> Tensor:
        ctx.call = (value.shape, name, watch)
        ctx.tokens = None
        return value.expand(shape).clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        shape, name, watch = ctx.call

        def factor() -> Whole:
            of_value = (1,) * (gradient.ndim - len(shape)) + tuple(shape)
            repeated = [d for d in range(1, gradient.ndim) if of_value[d] == 1 != gradient.shape[d]]
            summed = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
            summed = summed.sum(dim=repeated) if repeated else summed
            return Whole(summed.reshape(watch.batch, *watch.shapes[name]))

        watch.tell(Rows(watch.batch, watch.positions), None, (name, factor))
        return (None,) * 5


class SpreadLookup(Function):
    """x + looked_up, with x [batch, positions, width] and looked_up [positions, width] or [1, positions, width]."""

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
        ids = lookup.ids.expand(watch.batch, -1)
        watch.tell(rows, gradient, (lookup.name, lambda: _scattered(ids, gradient, lookup.padding_id)))
        return None, gradient.to(dtype), *[None] * 4


NODES_WITH_RULE = tuple(
    function._backward_cls
    for function in (Product, StackedProduct, Lookup, Normalization, Scaling, Shift, RowsShift, SpreadLookup, Expansion)
)
"""Their nodes in autograd's graph."""


def _own(result: Tensor) -> Tensor:
    """`result` as no view of another tensor: what a function of one's own returns as a view must not be changed in
    place."""
    return torch.ops.aten._unsafe_view(result, result.shape) if result._is_view() else result


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


def _routed(rows: Rows, left: Tensor, right: Tensor, matrices: Tensor, count: int) -> Routed:
    samples = rows.samples(left)
    flat = (factor.reshape(-1, factor.shape[-1]) for factor in (left, right))
    return Routed(*flat, samples, matrices.expand(len(samples)), count)


def _scattered(ids: Tensor, values: Tensor, padding_id: int | None) -> Scattered:
    """An embedding does not learn its padding token."""
    return Scattered(ids, values if padding_id is None else values * (ids != padding_id).unsqueeze(-1))
