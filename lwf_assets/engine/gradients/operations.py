"""The operations with a rule, as autograd functions that hand out factors of their parameters' gradients.

Each lets the gradient flow on through the activations and forms none of its parameters. `watch` gets the factors;
`anchor`, which every one of them depends on, makes sure that its turn comes in the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from lwf_assets.engine.gradients.factors import Outer, Scattered, Whole

if TYPE_CHECKING:
    from lwf_assets.engine.gradients.watch import GradientWatch, LookedUpOnce


class Product(Function):
    """x @ weight + bias, with weight [in, out], or [out, in] if `transposed`."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        transposed: bool,
        names: list[str | None],
        watch: GradientWatch,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.call = (transposed, names, watch)
        if transposed:
            return functional.linear(x, weight, bias)
        product = x @ weight
        return product if bias is None else product + bias

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        transposed, (weight_name, bias_name), watch = ctx.call

        def outer() -> Outer:
            inputs, outputs = watch.by_sample(x), watch.by_sample(gradient)
            return Outer(outputs, inputs) if transposed else Outer(inputs, outputs)

        onward = None
        if ctx.needs_input_grad[1]:
            onward = gradient @ (weight if transposed else weight.T)
        watch.tell(gradient, (weight_name, outer), (bias_name, lambda: _summed(watch, gradient)))
        return None, onward, None, None, None, None, None


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
        watch: GradientWatch,
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.call = (padding_id, names, watch)
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        (ids,) = ctx.saved_tensors
        padding_id, (name,), watch = ctx.call

        rows, values = watch.by_sample(ids, trailing=0), watch.by_sample(gradient)
        watch.tell(gradient, (name, lambda: _scattered(rows, values, padding_id)))
        return None, None, None, None, None, None


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
        watch: GradientWatch,
    ) -> Tensor:
        result, mean, scale = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        ctx.call = (names, watch)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale = ctx.saved_tensors
        (weight_name, bias_name), watch = ctx.call
        onward, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, x.shape[-1:], mean, scale, weight, bias, [True, False, False]
        )
        watch.tell(
            gradient,
            (weight_name, lambda: _summed(watch, gradient * ((x - mean) * scale))),
            (bias_name, lambda: _summed(watch, gradient)),
        )
        return None, onward, None, None, None, None, None


class Scaling(Function):
    """x * weight, over the last dimension."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, weight: Tensor, names: list[str | None], watch: GradientWatch
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.call = (names, watch)
        return x * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (name,), watch = ctx.call
        watch.tell(gradient, (name, lambda: _summed(watch, gradient * x)))
        return None, (gradient * weight).to(x.dtype), None, None, None


class Shift(Function):
    """x + bias, over the last dimension."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, bias: Tensor, names: list[str | None], watch: GradientWatch
    ) -> Tensor:
        ctx.call = (names, watch, x.dtype)
        return x + bias

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (name,), watch, dtype = ctx.call
        watch.tell(gradient, (name, lambda: _summed(watch, gradient)))
        return None, gradient.to(dtype), None, None, None


class SpreadLookup(Function):
    """x + looked_up, with x [batch, positions, width] and looked_up [positions, width] or [1, positions, width]."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, looked_up: Tensor, lookup: LookedUpOnce, watch: GradientWatch
    ) -> Tensor:
        ctx.call = (lookup, watch, x.dtype)
        return x + looked_up

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        lookup, watch, dtype = ctx.call
        ids = lookup.ids.expand(watch.batch, -1)
        watch.tell(gradient, (lookup.names[0], lambda: _scattered(ids, gradient, lookup.padding_id)))
        return None, gradient.to(dtype), None, None, None


NODES_WITH_RULE = tuple(
    function._backward_cls for function in (Product, Lookup, Normalization, Scaling, Shift, SpreadLookup)
)
"""Their nodes in autograd's graph."""


def _scattered(ids: Tensor, values: Tensor, padding_id: int | None) -> Scattered:
    """An embedding does not learn its padding token."""
    return Scattered(ids, values if padding_id is None else values * (ids != padding_id).unsqueeze(-1))


def _summed(watch: GradientWatch, by_position: Tensor) -> Whole:
    return Whole(watch.by_sample(by_position).sum(dim=1, dtype=torch.float32))
