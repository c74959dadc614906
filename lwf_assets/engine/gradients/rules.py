"""For each operation with a rule: when the rule applies, and what takes the operation's place.

A rule is called with the operation's own arguments and gives its result, or NotImplemented if it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from lwf_assets.engine.gradients.operations import Lookup, Normalization, Product, Scaling, Shift, SpreadLookup

if TYPE_CHECKING:
    from lwf_assets.engine.gradients.watch import GradientWatch, LookedUpOnce

# The arguments of a rule are called as torch calls them, for they may be given by name.


def _linear(watch: GradientWatch, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    return _product(watch, input, weight, bias, transposed=True)


def _addmm(watch: GradientWatch, input: Tensor, mat1: Tensor, mat2: Tensor, **scales: Any) -> Any:
    # Gradients of a bias are summed over positions, so it must be a vector; beta and alpha are not used in practice.
    return NotImplemented if scales or input.ndim != 1 else _product(watch, mat1, mat2, input, transposed=False)


def _matmul(watch: GradientWatch, input: Tensor, other: Tensor) -> Any:
    return _product(watch, input, other, None, transposed=False)


def _product(watch: GradientWatch, x: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Any:
    names = watch.names_of(weight, bias)
    if names is None or weight.ndim != 2 or x.ndim < 2 or not watch.is_in_order(x):
        return NotImplemented
    if bias is not None and bias.shape != (weight.shape[0 if transposed else 1],):  # one element for all
        return NotImplemented
    watch.expect(names)
    constant = None if bias is None else bias.detach()
    return Product.apply(watch.anchor, x, weight.detach(), constant, transposed, names, watch)  # type: ignore[no-untyped-call]


def _embedding(
    watch: GradientWatch,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    names = watch.names_of(weight)
    if names is None or max_norm is not None or scale_grad_by_freq:
        return NotImplemented
    padding_id = padding_idx + len(weight) if padding_idx is not None and padding_idx < 0 else padding_idx
    if not input.ndim or not watch.is_in_order(input, trailing=0):
        for_all = input.shape in ((watch.positions,), (1, watch.positions))
        return watch.note_lookup(input.long(), weight, padding_id, names) if for_all else NotImplemented
    watch.expect(names)
    return Lookup.apply(watch.anchor, input.long(), weight.detach(), padding_id, names, watch)  # type: ignore[no-untyped-call]


def _layer_norm(
    watch: GradientWatch,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    names = watch.names_of(weight, bias)
    fits = tuple(normalized_shape) == input.shape[-1:] and input.ndim >= 2 and watch.is_in_order(input)
    if names is None or not fits:
        return NotImplemented
    watch.expect(names)
    constants = [None if value is None else value.detach() for value in (weight, bias)]
    return Normalization.apply(watch.anchor, input, *constants, eps, names, watch)  # type: ignore[no-untyped-call]


def _rms_norm(
    watch: GradientWatch, input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Any:
    names = _names_of_vector(watch, input, weight)
    if names is None or weight is None:
        return NotImplemented
    return _scaled(watch, functional.rms_norm(input, normalized_shape, None, eps), weight, names)


def _multiplication(watch: GradientWatch, input: Any, other: Any) -> Any:
    return _scale(watch, other, input) if watch.name_of(input) is not None else _scale(watch, input, other)


def _scale(watch: GradientWatch, x: Any, weight: Any) -> Any:
    names = _names_of_vector(watch, x, weight)
    return NotImplemented if names is None else _scaled(watch, x, weight, names)


def _scaled(watch: GradientWatch, x: Tensor, weight: Tensor, names: list[str | None]) -> Any:
    watch.expect(names)
    return Scaling.apply(watch.anchor, x, weight.detach(), names, watch)  # type: ignore[no-untyped-call]


def _addition(watch: GradientWatch, input: Any, other: Any, *, alpha: float = 1) -> Any:
    if alpha != 1:
        return NotImplemented
    x, bias = (other, input) if watch.name_of(input) is not None else (input, other)
    if isinstance(x, int | float) and isinstance(bias, Tensor):
        return watch.alias(bias, bias + x)
    lookup = watch.lookup_of(input) or watch.lookup_of(other)
    if lookup is not None:
        return _spread(watch, other if lookup.result is input else input, lookup)
    names = _names_of_vector(watch, x, bias)
    if names is None:
        return NotImplemented
    watch.expect(names)
    return Shift.apply(watch.anchor, x, bias.detach(), names, watch)  # type: ignore[no-untyped-call]


def _spread(watch: GradientWatch, x: Any, lookup: LookedUpOnce) -> Any:
    looked_up = lookup.result
    fits = isinstance(x, Tensor) and x.shape == (watch.batch, watch.positions, looked_up.shape[-1])
    if not fits or not looked_up.requires_grad:
        return NotImplemented
    watch.expect(lookup.names)
    return SpreadLookup.apply(watch.anchor, x, looked_up.detach(), lookup, watch)  # type: ignore[no-untyped-call]


def _names_of_vector(watch: GradientWatch, x: Any, vector: Any) -> list[str | None] | None:
    """The name of `vector`, if it is watched and goes with the last dimension of `x`."""
    fits = isinstance(x, Tensor) and isinstance(vector, Tensor) and vector.ndim == 1 and x.ndim >= 2
    if not fits or vector.shape[0] != x.shape[-1] or not watch.is_in_order(x):
        return None
    return watch.names_of(vector)


def _conversion(watch: GradientWatch, source: Tensor, *args: Any, **kwargs: Any) -> Any:
    return NotImplemented if watch.name_of(source) is None else watch.alias(source, source.to(*args, **kwargs))


RULES: dict[Any, Callable[..., Any]] = {
    functional.linear: _linear,
    torch.addmm: _addmm,
    torch.matmul: _matmul,
    torch.Tensor.matmul: _matmul,
    functional.embedding: _embedding,
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    torch.mul: _multiplication,
    torch.Tensor.mul: _multiplication,
    torch.add: _addition,
    torch.Tensor.add: _addition,
    torch.Tensor.to: _conversion,
    torch.Tensor.float: lambda watch, source: _conversion(watch, source, torch.float32),
}
"""Operations and their rules. Torch reports an operator as the method that it stands for."""
