"""What each operation of a forward pass will say about the per-sample gradients of its parameters.

In a batch, the gradient of a parameter is a sum over samples of something simple: for a linear layer with inputs a and
output gradients b, sample n contributes b_n^T a_n. Plain autograd adds the samples up at once. Here the operations of
a forward pass are watched instead, and those with a rule are replaced by ones that let the gradient flow on through
the activations and hand out the factors a and b, from which the gradients of single samples can be formed.

Operations are watched, not modules: every linear layer, tied embedding or custom norm of any architecture comes down
to the few operations below. A parameter used in any other way keeps its place in the autograd graph, where
`parameters_reached_by` finds it: none is left out silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import Node
from torch.nn import Parameter, functional
from torch.overrides import TorchFunctionMode

from lwf_assets.errors import LwfError

RECOMPUTES = (
    "the model recomputes activations (torch.utils.checkpoint) in evaluation mode, which hides its operations from "
    "this work; switch its gradient checkpointing off"
)


@dataclass(frozen=True)
class Outer:
    """Sample n's gradient is left_n^T right_n: left [batch, positions, rows], right [batch, positions, columns]."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Scattered:
    """Row `ids[n, t]` of sample n's gradient gets `values[n, t]`: ids [batch, positions], values [.., columns]."""

    ids: Tensor
    values: Tensor


@dataclass(frozen=True)
class Whole:
    """Sample n's gradient is gradients[n]: [batch, *shape of the parameter]."""

    gradients: Tensor


Factor = Outer | Scattered | Whole


class GradientFactors(TorchFunctionMode):
    """Within the block, operations with a rule tell `receive` of their parameters' gradients when the backward runs.

    Args:
        parameters: those to be watched; each must require a gradient.
        shape: [batch, positions] of the input ids; the two must differ, lest one be taken for the other. A tensor
            belongs to the samples row by row if its first dimension is the batch, or batch and positions flattened.
        receive: called in the backward pass with a parameter's name and the factor of one of its uses.

    Attributes:
        anchor: what every watched operation depends on: the input to ask a backward pass for.
        uses: how often the forward pass has used each parameter in an operation with a rule.
    """

    def __init__(
        self, parameters: Mapping[str, Parameter], shape: tuple[int, int], receive: Callable[[str, Factor], None]
    ) -> None:
        super().__init__()
        self.batch, self.positions = shape
        if self.batch == self.positions and self.batch > 1:
            raise ValueError("batch and positions must differ; take one sample less")
        self.receive = receive
        self.uses: dict[str, int] = {}
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._copies: dict[int, tuple[Tensor, int]] = {}
        self._looked_up_once: dict[int, _LookedUpOnce] = {}
        self._in_forward = True
        self._at_last_position: list[tuple[str, Tensor]] = []
        device = next(iter(parameters.values())).device
        self.anchor = torch.zeros((), device=device, requires_grad=True)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = RULES.get(func) if "out" not in kwargs else None
        result = rule(self, *args, **kwargs) if rule is not None else NotImplemented
        return func(*args, **kwargs) if result is NotImplemented else result

    def __exit__(self, *exception: Any) -> None:
        self._in_forward = False
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def name_of(self, value: object) -> str | None:
        """Name of the watched parameter that `value` is, or equals but for a constant or its type."""
        if not isinstance(value, Tensor):
            return None
        copy = self._copies.get(id(value))
        changed_since = copy is not None and copy[0]._version != copy[1]
        return None if changed_since else self._names.get(id(value))

    def names_of(self, *operands: Tensor | None) -> list[str | None] | None:
        """Names of those operands that are watched; None if none is, or if another one needs a gradient of its own."""
        names = [self.name_of(operand) for operand in operands]
        foreign = any(
            operand is not None and name is None and operand.requires_grad
            for operand, name in zip(operands, names, strict=True)
        )
        return None if foreign or not any(names) else names

    def alias(self, source: object, result: Tensor) -> Tensor:
        """Note that `result` is the parameter `source` but for a constant or its type: gradients of one are gradients
        of the other."""
        name = self.name_of(source)
        # A copy as integers, or where no gradient is wanted, is a constant.
        if name is not None and result is not source and result.requires_grad and result.is_floating_point():
            self._names[id(result)] = name
            # Kept: the id of a tensor that is gone may be given to another.
            self._copies[id(result)] = (result, result._version)
        return result

    def is_in_order(self, tensor: Tensor, trailing: int = 1) -> bool:
        """Whether the rows of `tensor`, all but its trailing dimensions, are those of sample 0, of sample 1, and so on.

        A first dimension that is flattened must have all positions, and in their order.
        """
        leading = tensor.shape[: tensor.ndim - trailing]
        if self.batch == 1:
            return True
        if len(leading) > 1:
            return leading[0] == self.batch
        return leading[0] == self.batch * self.positions and self._is_flattened(tensor)

    def _is_flattened(self, tensor: Tensor) -> bool:
        """Whether `tensor` is a view of [batch, positions, ..], or comes from one by operations that keep rows apart.

        As many rows may also be a choice of rows in another order, as a layer for experts makes it, or no rows of
        samples at all, but those of another parameter.
        """
        if tensor.grad_fn is None:
            base = tensor._base
            if base is None or base.shape[:2] != (self.batch, self.positions):
                return False
            return base.numel() == tensor.numel() and base.is_contiguous() and tensor.is_contiguous()
        found: set[Node] = set()
        open_nodes: list[Node | None] = [tensor.grad_fn]
        while open_nodes:
            node = open_nodes.pop()
            if node is None or node in found or isinstance(node, _NODES_WITH_RULE):
                continue
            found.add(node)
            name = node.name().rstrip("0123456789")
            if name in _VIEWS and node._saved_self_sym_sizes[:2] == (self.batch, self.positions):  # type: ignore[attr-defined]
                continue
            if name not in _VIEWS | _ROW_BY_ROW:
                return False
            open_nodes += [following for following, _ in node.next_functions]
        return True

    def note_lookup(self, ids: Tensor, weight: Tensor, padding_id: int | None, names: list[str | None]) -> Tensor:
        """The rows `ids`, [positions] or [1, positions], of `weight`, the same for all samples.

        Its gradients can be told apart only where a sum spreads it over the samples: until then it has no rule.
        """
        result = functional.embedding(ids, weight, padding_id)
        self._looked_up_once[id(result)] = _LookedUpOnce(result, result._version, ids.reshape(-1), padding_id, names)
        return result

    def lookup_of(self, value: object) -> _LookedUpOnce | None:
        """The lookup that gave `value`, if it was one for all samples."""
        lookup = self._looked_up_once.get(id(value)) if isinstance(value, Tensor) else None
        return None if lookup is None or lookup.result._version != lookup.version else lookup

    def by_sample(self, tensor: Tensor, trailing: int = 1) -> Tensor:
        """`tensor` as [batch, positions, ..trailing dimensions]."""
        return tensor.reshape(self.batch, -1, *tensor.shape[tensor.ndim - trailing :])

    def tell(self, gradient: Tensor, *found: tuple[str | None, Callable[[], Factor]]) -> None:
        """Hand out the factors that follow from the `gradient` of an operation's result."""
        if self._in_forward:
            raise LwfError(
                "the model differentiates within its forward pass, which cannot be told from the backward pass of its "
                "loss: gradients of single samples cannot be computed for it"
            )
        by_position = self.by_sample(gradient) if gradient.ndim == 2 else gradient
        for name, factor in found:
            if name is not None:
                if by_position.shape[1] == self.positions:
                    self._at_last_position.append((name, by_position[:, -1].any()))
                self.receive(name, factor())

    def check_order(self) -> None:
        """After the backward pass: make sure that rows were those of the samples for which they were taken.

        Nothing is predicted from the last position of any row, so that its gradients are zero in a causal model, unless
        an operation has its rows in another order.

        Raises:
            LwfError: they were not.
        """
        if self.batch == 1 or not self._at_last_position:
            return
        if torch.stack([seen for _, seen in self._at_last_position]).any():
            name = next(name for name, seen in self._at_last_position if seen)
            raise LwfError(
                f"{name}: the layer of this parameter mixes the samples of a batch or puts them into another order, so "
                f"that gradients of single samples cannot be told apart; give it one sample at a time (token_budget: 1)"
            )

    def expect(self, names: list[str | None]) -> None:
        """Count one use of each."""
        for name in names:
            if name is not None:
                self.uses[name] = self.uses.get(name, 0) + 1


def parameters_reached_by(loss: Tensor) -> Iterator[Tensor]:
    """The leaves that `loss` depends on, by its autograd graph.

    Raises:
        LwfError: a part of the graph is to be built in the backward pass alone: its leaves cannot be seen.
    """
    found, open_nodes = set(), [loss.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in found:
            continue
        found.add(node)
        if node.name() == "CheckpointFunctionBackward":
            raise LwfError(RECOMPUTES)
        if hasattr(node, "variable"):
            yield node.variable
        open_nodes += [following for following, _ in node.next_functions]


@dataclass(frozen=True)
class _LookedUpOnce:
    result: Tensor
    version: int
    ids: Tensor
    padding_id: int | None
    names: list[str | None]


class _Product(Function):
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
        watch: GradientFactors,
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


class _Lookup(Function):
    """Rows of `weight`."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        ids: Tensor,
        weight: Tensor,
        padding_id: int | None,
        names: list[str | None],
        watch: GradientFactors,
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


class _Normalization(Function):
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
        watch: GradientFactors,
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


class _Scaling(Function):
    """x * weight, over the last dimension."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, weight: Tensor, names: list[str | None], watch: GradientFactors
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


class _Shift(Function):
    """x + bias, over the last dimension."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, bias: Tensor, names: list[str | None], watch: GradientFactors
    ) -> Tensor:
        ctx.call = (names, watch, x.dtype)
        return x + bias

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (name,), watch, dtype = ctx.call
        watch.tell(gradient, (name, lambda: _summed(watch, gradient)))
        return None, gradient.to(dtype), None, None, None


class _SpreadLookup(Function):
    """x + looked_up, with x [batch, positions, width] and looked_up [positions, width] or [1, positions, width]."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, looked_up: Tensor, lookup: _LookedUpOnce, watch: GradientFactors
    ) -> Tensor:
        ctx.call = (lookup, watch, x.dtype)
        return x + looked_up

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        lookup, watch, dtype = ctx.call
        ids = lookup.ids.expand(watch.batch, -1)
        watch.tell(gradient, (lookup.names[0], lambda: _scattered(ids, gradient, lookup.padding_id)))
        return None, gradient.to(dtype), None, None, None


_NODES_WITH_RULE = tuple(
    function._backward_cls for function in (_Product, _Lookup, _Normalization, _Scaling, _Shift, _SpreadLookup)
)
_VIEWS = {"ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward"}
_ROW_BY_ROW = {
    f"{name}Backward"
    for name in (
        *("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Square", "Sqrt", "Rsqrt", "Exp", "ToCopy", "Clone"),
        *("Silu", "Gelu", "Relu", "LeakyRelu", "Elu", "Tanh", "Sigmoid", "Softplus", "Clamp", "Hardtanh"),
    )
}
"""Operations, by their nodes in autograd's graph, that keep rows apart and in their order."""


def _scattered(ids: Tensor, values: Tensor, padding_id: int | None) -> Scattered:
    """An embedding does not learn its padding token."""
    return Scattered(ids, values if padding_id is None else values * (ids != padding_id).unsqueeze(-1))


def _summed(watch: GradientFactors, by_position: Tensor) -> Whole:
    return Whole(watch.by_sample(by_position).sum(dim=1, dtype=torch.float32))


# The arguments of a rule are called as torch calls them, for they may be given by name.


def _linear(watch: GradientFactors, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    return _product(watch, input, weight, bias, transposed=True)


def _addmm(watch: GradientFactors, input: Tensor, mat1: Tensor, mat2: Tensor, **scales: Any) -> Any:
    # Gradients of a bias are summed over positions, so it must be a vector; beta and alpha are nobody's habit.
    return NotImplemented if scales or input.ndim != 1 else _product(watch, mat1, mat2, input, transposed=False)


def _matmul(watch: GradientFactors, input: Tensor, other: Tensor) -> Any:
    return _product(watch, input, other, None, transposed=False)


def _product(watch: GradientFactors, x: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Any:
    names = watch.names_of(weight, bias)
    if names is None or weight.ndim != 2 or x.ndim < 2 or not watch.is_in_order(x):
        return NotImplemented
    if bias is not None and bias.shape != (weight.shape[0 if transposed else 1],):  # one element for all
        return NotImplemented
    watch.expect(names)
    constant = None if bias is None else bias.detach()
    return _Product.apply(watch.anchor, x, weight.detach(), constant, transposed, names, watch)  # type: ignore[no-untyped-call]


def _embedding(
    watch: GradientFactors,
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
    return _Lookup.apply(watch.anchor, input.long(), weight.detach(), padding_id, names, watch)  # type: ignore[no-untyped-call]


def _layer_norm(
    watch: GradientFactors,
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
    return _Normalization.apply(watch.anchor, input, *constants, eps, names, watch)  # type: ignore[no-untyped-call]


def _rms_norm(
    watch: GradientFactors, input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Any:
    names = _names_of_vector(watch, input, weight)
    if names is None or weight is None:
        return NotImplemented
    return _scaled(watch, functional.rms_norm(input, normalized_shape, None, eps), weight, names)


def _multiplication(watch: GradientFactors, input: Any, other: Any) -> Any:
    return _scale(watch, other, input) if watch.name_of(input) is not None else _scale(watch, input, other)


def _scale(watch: GradientFactors, x: Any, weight: Any) -> Any:
    names = _names_of_vector(watch, x, weight)
    return NotImplemented if names is None else _scaled(watch, x, weight, names)


def _scaled(watch: GradientFactors, x: Tensor, weight: Tensor, names: list[str | None]) -> Any:
    watch.expect(names)
    return _Scaling.apply(watch.anchor, x, weight.detach(), names, watch)  # type: ignore[no-untyped-call]


def _addition(watch: GradientFactors, input: Any, other: Any, *, alpha: float = 1) -> Any:
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
    return _Shift.apply(watch.anchor, x, bias.detach(), names, watch)  # type: ignore[no-untyped-call]


def _spread(watch: GradientFactors, x: Any, lookup: _LookedUpOnce) -> Any:
    looked_up = lookup.result
    fits = isinstance(x, Tensor) and x.shape == (watch.batch, watch.positions, looked_up.shape[-1])
    if not fits or not looked_up.requires_grad:
        return NotImplemented
    watch.expect(lookup.names)
    return _SpreadLookup.apply(watch.anchor, x, looked_up.detach(), lookup, watch)  # type: ignore[no-untyped-call]


def _names_of_vector(watch: GradientFactors, x: Any, vector: Any) -> list[str | None] | None:
    """The name of `vector`, if it is watched and goes with the last dimension of `x`."""
    fits = isinstance(x, Tensor) and isinstance(vector, Tensor) and vector.ndim == 1 and x.ndim >= 2
    if not fits or vector.shape[0] != x.shape[-1] or not watch.is_in_order(x):
        return None
    return watch.names_of(vector)


def _conversion(watch: GradientFactors, source: Tensor, *args: Any, **kwargs: Any) -> Any:
    return NotImplemented if watch.name_of(source) is None else watch.alias(source, source.to(*args, **kwargs))


RULES: dict[Any, Callable[..., Any]] = {
    functional.linear: _linear,
    torch.addmm: _addmm,
    torch.matmul: _matmul,
    torch.Tensor.matmul: _matmul,
    torch.Tensor.__matmul__: _matmul,
    functional.embedding: _embedding,
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    torch.mul: _multiplication,
    torch.Tensor.mul: _multiplication,
    torch.Tensor.__mul__: _multiplication,
    torch.Tensor.__rmul__: _multiplication,
    torch.add: _addition,
    torch.Tensor.add: _addition,
    torch.Tensor.__add__: _addition,
    torch.Tensor.__radd__: _addition,
    torch.Tensor.to: _conversion,
    torch.Tensor.float: lambda watch, source: _conversion(watch, source, torch.float32),
}
"""Operations and their rules. A rule gives the result of its operation, or NotImplemented if it does not apply."""
