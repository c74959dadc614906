"""For each operation with a rule: when the rule applies, and what takes the operation's place.

A rule is called with the operation's own arguments and gives its result, or NotImplemented if it does not apply. Those
of stacks of matrices, as experts have them, are in `stack_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from lwf_assets.engine.gradients.operations import (
    Expansion,
    Lookup,
    Normalization,
    Product,
    Scaling,
    Shift,
    SpreadLookup,
)
from lwf_assets.engine.gradients.stack_operations import RowsShift
from lwf_assets.engine.gradients.stack_rules import STACK_RULES, stacked_product

if TYPE_CHECKING:
    from lwf_assets.engine.gradients.rows import Rows
    from lwf_assets.engine.gradients.watch import GradientWatch, LookedUp

# The arguments of a rule are called as torch calls them, for they may be given by name.


def _linear(watch: GradientWatch, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    lookup = watch.lookup_of(bias)
    if lookup is None:
        return _product(watch, input, weight, bias, transposed=True)
    product = _product(watch, input, weight, None, transposed=True)
    if product is NotImplemented:
        return NotImplemented
    result = _addition(watch, product, bias)
    return product + bias if result is NotImplemented else result


def _addmm(watch: GradientWatch, input: Tensor, mat1: Tensor, mat2: Tensor, **scales: Any) -> Any:
    # Gradients of a bias are summed over positions, so it must be a vector; beta and alpha are not used in practice.
    return NotImplemented if scales or input.ndim != 1 else _product(watch, mat1, mat2, input, transposed=False)


def _matmul(watch: GradientWatch, input: Tensor, other: Tensor) -> Any:
    if isinstance(other, Tensor) and isinstance(input, Tensor) and input.ndim == other.ndim == 3:
        return stacked_product(watch, input, other)
    return _product(watch, input, other, None, transposed=False)


def _product(watch: GradientWatch, x: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Any:
    part, bias_name = watch.part_of(weight), watch.name_of(bias)
    if part is not None and part.reshaped:
        return NotImplemented
    foreign = (part is None and weight.requires_grad) or (bias is not None and bias_name is None and bias.requires_grad)
    if foreign or (part is None and bias_name is None) or weight.ndim != 2 or x.ndim < 2:
        return NotImplemented
    if bias is not None and bias.shape != (weight.shape[0 if transposed else 1],):  # one element for all
        return NotImplemented
    rows = watch.rows.of(x)
    if rows is None:
        return NotImplemented
    watch.expect(None if part is None else part.name, bias_name)
    constant = None if bias is None else bias.detach()
    return Product.apply(  # type: ignore[no-untyped-call]
        watch.anchor, x, weight.detach(), constant, transposed, part, bias_name, rows, watch
    )


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
    if names is None or names[0] is None or max_norm is not None or scale_grad_by_freq:
        return NotImplemented
    padding_id = padding_idx + len(weight) if padding_idx is not None and padding_idx < 0 else padding_idx
    rows = watch.rows.of(input, trailing=0) if input.ndim else None
    if rows is None or rows.tokens is not None:
        if input.shape not in ((watch.positions,), (1, watch.positions)):
            return NotImplemented
        ids = input.long()
        looked_up = functional.embedding(ids, weight, padding_id)
        return watch.note_lookup(looked_up, ids.reshape(-1), names[0], len(weight), padding_id)
    watch.expect(*names)
    return Lookup.apply(watch.anchor, input.long(), weight.detach(), padding_id, names, rows, watch)  # type: ignore[no-untyped-call]


def _layer_norm(
    watch: GradientWatch,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    names = watch.names_of(weight, bias)
    fits = tuple(normalized_shape) == input.shape[-1:] and input.ndim >= 2
    rows = watch.rows.of(input) if names is not None and fits else None
    if names is None or rows is None:
        return NotImplemented
    watch.expect(*names)
    constants = [None if value is None else value.detach() for value in (weight, bias)]
    return Normalization.apply(watch.anchor, input, *constants, eps, names, rows, watch)  # type: ignore[no-untyped-call]


def _rms_norm(
    watch: GradientWatch, input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Any:
    rows = _rows_for_vector(watch, input, weight)
    if rows is None or weight is None:
        return NotImplemented
    return _scaled(watch, functional.rms_norm(input, normalized_shape, None, eps), weight, rows)


def _multiplication(watch: GradientWatch, input: Any, other: Any) -> Any:
    x, weight = (other, input) if watch.name_of(input) is not None else (input, other)
    rows = _rows_for_vector(watch, x, weight)
    return NotImplemented if rows is None else _scaled(watch, x, weight, rows)


def _scaled(watch: GradientWatch, x: Tensor, weight: Tensor, rows: Rows) -> Any:
    names = [watch.name_of(weight)]
    watch.expect(*names)
    return Scaling.apply(watch.anchor, x, weight.detach(), names, rows, watch)  # type: ignore[no-untyped-call]


def _addition(watch: GradientWatch, input: Any, other: Any, *, alpha: float = 1) -> Any:
    if alpha != 1:
        return NotImplemented
    x, bias = (other, input) if watch.name_of(input) is not None else (input, other)
    if isinstance(x, int | float) and isinstance(bias, Tensor):
        return watch.alias(bias, bias + x)
    lookup = watch.lookup_of(input) or watch.lookup_of(other)
    if lookup is not None:
        return _sum_with_lookup(watch, other if lookup.result is input else input, lookup)
    rows = _rows_for_vector(watch, x, bias)
    if rows is None:
        return NotImplemented
    names = [watch.name_of(bias)]
    watch.expect(*names)
    return Shift.apply(watch.anchor, x, bias.detach(), names, rows, watch)  # type: ignore[no-untyped-call]


def _addition_in_place(watch: GradientWatch, input: Any, other: Any, *, alpha: float = 1) -> Any:
    lookup = watch.lookup_of(other)
    if lookup is None or alpha != 1 or not input.requires_grad:
        return NotImplemented
    result = _sum_with_lookup(watch, input, lookup)
    if result is NotImplemented:
        return NotImplemented
    rows = watch.rows.of(result)
    input.copy_(result)
    if rows is not None:
        watch.rows.note(input, rows)
    return input


def _sum_with_lookup(watch: GradientWatch, x: Any, lookup: LookedUp) -> Any:
    looked_up = lookup.result
    if not isinstance(x, Tensor) or x.shape[-1:] != looked_up.shape[-1:]:
        return NotImplemented
    rows = watch.rows.of(x)
    if x.shape == (watch.batch, watch.positions, looked_up.shape[-1]) and lookup.ids.shape == (watch.positions,):
        if rows is None or rows.tokens is not None:
            return NotImplemented
        watch.expect(lookup.name)
        return SpreadLookup.apply(watch.anchor, x, looked_up.detach(), lookup, rows, watch)  # type: ignore[no-untyped-call]
    for_each_row = looked_up.shape == x.shape and x.ndim == 2
    if rows is None or (lookup.ids.ndim and not for_each_row):
        return NotImplemented
    watch.expect(lookup.name)
    return RowsShift.apply(watch.anchor, x, looked_up.detach(), lookup, rows, watch)  # type: ignore[no-untyped-call]


def _reshaped(watch: GradientWatch, source: Tensor, *shape: Any, **named: Any) -> Any:
    part = watch.part_of(source)
    as_other_type = any(isinstance(value, torch.dtype) for value in (*shape, *named.values()))
    if part is None or part.transposed or part.matrices is not None or as_other_type:
        return NotImplemented
    return watch.note_part(replace(part, reshaped=True), source.reshape(*shape, **named))


def _expansion(watch: GradientWatch, source: Tensor, *sizes: Any, **named: Any) -> Any:
    """A parameter that is repeated for each sample."""
    part = watch.part_of(source)
    if part is None or part.transposed or part.matrices is not None:
        return NotImplemented
    result = source.detach().expand(*sizes, **named)
    once_for_all = result.ndim > source.ndim or source.shape[0] == 1
    if not once_for_all or result.shape[0] != watch.batch or not source.requires_grad:
        return NotImplemented
    watch.expect(part.name)
    return Expansion.apply(watch.anchor, source.detach(), result.shape, part.name, watch)  # type: ignore[no-untyped-call]


def _rows_for_vector(watch: GradientWatch, x: Any, vector: Any) -> Rows | None:
    """The rows of `x`, if `vector` is watched and goes with its last dimension."""
    fits = isinstance(x, Tensor) and isinstance(vector, Tensor) and vector.ndim == 1 and x.ndim >= 2
    if not fits or vector.shape[0] != x.shape[-1] or watch.name_of(vector) is None:
        return None
    return watch.rows.of(x)


def _conversion(watch: GradientWatch, source: Tensor, *args: Any, **kwargs: Any) -> Any:
    return NotImplemented if watch.part_of(source) is None else watch.alias(source, source.to(*args, **kwargs))


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
    torch.Tensor.add_: _addition_in_place,
    torch.Tensor.__iadd__: _addition_in_place,
    torch.Tensor.view: _reshaped,
    torch.Tensor.reshape: _reshaped,
    torch.Tensor.expand: _expansion,
    torch.Tensor.to: _conversion,
    torch.Tensor.float: lambda watch, source: _conversion(watch, source, torch.float32),
    **STACK_RULES,
}
"""Operations and their rules. Torch reports an operator as the method that it stands for."""
