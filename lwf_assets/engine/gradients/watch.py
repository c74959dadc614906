"""Watches the operations of a forward pass, so that its backward pass reports per-sample gradients.

Operations are watched, not modules: every linear layer, tied embedding or custom norm of any architecture comes down
to the few operations that have a rule (`rules.py`). They use a parameter detached. A parameter that is used in any
other way keeps its place in the autograd graph, where `parameters_reached_by` finds it: none is left out silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from lwf_assets.engine.gradients.factors import Factor
from lwf_assets.engine.gradients.rows import Rows, RowsOfTensors
from lwf_assets.errors import LwfError

AUTOCAST = (
    "the model's forward pass runs under autocast, in which its gradients are rounded; per-sample gradients are taken "
    "in the type of the weights. Leave the autocast, or, after a training in mixed precision, load the model again: "
    "Trainer leaves its autocast in the model"
)


@dataclass(frozen=True)
class Part:
    """What of the parameter `name` a tensor is, but for a constant or its type: the whole, or `transposed` in its last
    two dimensions, or `reshaped`; or of its `count` matrices those with the numbers `matrices`, in this order (a single
    one if that has no dimensions)."""

    name: str
    transposed: bool = False
    reshaped: bool = False
    matrices: Tensor | None = None
    count: int = 0


@dataclass(frozen=True)
class LookedUp:
    """Rows `ids` of a parameter of `count` rows, which were looked up without saying for which samples; `version` shows
    whether they were changed since."""

    result: Tensor
    version: int
    ids: Tensor
    name: str
    count: int
    padding_id: int | None = None


class GradientWatch(TorchFunctionMode):
    """Within the block, operations with a rule report their parameters' gradients to `receive` when the backward runs.

    Args:
        parameters: those to be watched; each must require a gradient.
        shape: [batch, positions] of the input ids; the two must differ, lest one be taken for the other.
        receive: called in the backward pass with a parameter's name and the factor of one of its uses.
        rules: by operation, what takes its place: called with the watch and the operation's own arguments.
        nodes_with_rule: the autograd nodes that these leave in the graph.

    Attributes:
        anchor: what every watched operation depends on: the input to ask a backward pass for.
        rows: whose the rows of a tensor are.
        shapes: those of the parameters.
        uses: how often the forward pass has used each parameter in an operation with a rule.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        shape: tuple[int, int],
        receive: Callable[[str, Factor], None],
        *,
        rules: Mapping[Any, Callable[..., Any]],
        nodes_with_rule: tuple[type, ...],
    ) -> None:
        super().__init__()
        self.batch, self.positions = shape
        if self.batch == self.positions and self.batch > 1:
            raise ValueError("batch and positions must differ; use one sample less")
        self.receive = receive
        self._rules = rules
        self.uses: dict[str, int] = {}
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self._parts = {id(parameter): Part(name) for name, parameter in parameters.items()}
        self._copies: dict[int, tuple[Tensor, int]] = {}
        self._looked_up: dict[int, LookedUp] = {}
        self._in_forward = True
        self._at_last_position: list[tuple[str, Tensor]] = []
        device = next(iter(parameters.values())).device
        self.rows = RowsOfTensors(shape, device, nodes_with_rule=nodes_with_rule)
        self.anchor = torch.zeros((), device=device, requires_grad=True)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Operators outside torch are known by name: they exist only once their library is imported.
        rule = self._rules.get(getattr(func, "_qualified_op_name", func)) if "out" not in kwargs else None
        if rule is not None and torch.is_autocast_enabled(self.anchor.device.type):
            raise LwfError(AUTOCAST)
        result = rule(self, *args, **kwargs) if rule is not None else NotImplemented
        return func(*args, **kwargs) if result is NotImplemented else result

    def __exit__(self, *exception: Any) -> None:
        self._in_forward = False
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def part_of(self, value: object) -> Part | None:
        """What of a watched parameter `value` is."""
        if not isinstance(value, Tensor):
            return None
        copy = self._copies.get(id(value))
        changed_since = copy is not None and copy[0]._version != copy[1]
        return None if changed_since else self._parts.get(id(value))

    def name_of(self, value: object) -> str | None:
        """Name of the watched parameter that `value` is as a whole, or equals but for a constant or its type."""
        part = self.part_of(value)
        whole = part is not None and not (part.transposed or part.reshaped or part.matrices is not None)
        return part.name if part is not None and whole else None

    def names_of(self, *operands: Tensor | None) -> list[str | None] | None:
        """Names of those operands that are watched; None if none is, or if another one needs a gradient of its own."""
        names = [self.name_of(operand) for operand in operands]
        foreign = any(
            operand is not None and name is None and operand.requires_grad
            for operand, name in zip(operands, names, strict=True)
        )
        return None if foreign or not any(names) else names

    def alias(self, source: object, result: Tensor) -> Tensor:
        """Note that `result` is what `source` is of a parameter but for a constant or its type: gradients of one are
        gradients of the other."""
        part = self.part_of(source)
        return result if part is None or result is source else self.note_part(part, result)

    def note_part(self, part: Part, result: Tensor) -> Tensor:
        """Note that `result` is this part of a parameter."""
        # A copy as integers, or where no gradient is wanted, is a constant.
        if result.requires_grad and result.is_floating_point():
            self._parts[id(result)] = part
            # Kept: the id of a tensor that no longer exists may be given to another.
            self._copies[id(result)] = (result, result._version)
        return result

    def note_lookup(self, result: Tensor, ids: Tensor, name: str, count: int, padding_id: int | None = None) -> Tensor:
        """Note that `result` is the rows `ids` of the parameter `name` of `count` rows.

        Its gradients can be told apart only where a sum brings it together with the samples: until then it has no rule.
        """
        if result.requires_grad:
            self._looked_up[id(result)] = LookedUp(result, result._version, ids, name, count, padding_id)
        return result

    def lookup_of(self, value: object) -> LookedUp | None:
        """The lookup that gave `value`, if it was one that did not say for which samples."""
        lookup = self._looked_up.get(id(value)) if isinstance(value, Tensor) else None
        return None if lookup is None or lookup.result._version != lookup.version else lookup

    def tell(self, rows: Rows, gradient: Tensor | None, *found: tuple[str | None, Callable[[], Factor]]) -> None:
        """Hand out the factors that follow from the `gradient` of an operation's result, which has these rows; None
        for one that has no positions."""
        if self._in_forward:
            raise LwfError(
                "the model differentiates within its forward pass, which cannot be told apart from the backward pass "
                "of its loss: gradients of single samples cannot be computed for it"
            )
        at_last = rows.any_at_last_position(gradient) if self.batch > 1 and gradient is not None else None
        for name, factor in found:
            if name is not None:
                if at_last is not None:
                    self._at_last_position.append((name, at_last))
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

    def expect(self, *names: str | None) -> None:
        """Count one use of each."""
        for name in names:
            if name is not None:
                self.uses[name] = self.uses.get(name, 0) + 1
