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
from lwf_assets.engine.gradients.stack_operations import RowsShift, StackedProduct, routed

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
        # What is not needed is not saved: a model may change it in place.
        ctx.save_for_backward(None if part is None else x, weight)
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
            return routed(rows, left, right, part.matrices, part.count)

        onward = None
        if ctx.needs_input_grad[1]:
            onward = gradient @ (weight if transposed else weight.T)
        name = None if part is None else part.name
        watch.tell(rows, gradient, (name, factor), (bias_name, lambda: Whole(rows.summed(gradient))))
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


class Expansion(Function):
    """`value` expanded to `shape`, whose first dimension is the batch."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, value: Tensor, shape: torch.Size, name: str, watch: GradientWatch) -> Tensor:
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


def _scattered(ids: Tensor, values: Tensor, padding_id: int | None) -> Scattered:
    """An embedding does not learn its padding token."""
    return Scattered(ids, values if padding_id is None else values * (ids != padding_id).unsqueeze(-1))
