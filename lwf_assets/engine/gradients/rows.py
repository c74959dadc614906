"""Whose the rows of a tensor are, and how autograd's graph shows it.

The rows of most tensors are those of sample 0, of sample 1, and so on. A layer for experts puts them into another
order: it chooses rows of all tokens by their numbers, once or several times each. The graph has kept these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.graph import Node

from lwf_assets.engine.gradients.row_changes import CHANGES, viewed

_ROW_BY_ROW = {
    *("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Pow", "Square", "Sqrt", "Rsqrt", "Exp", "ToCopy", "Clone"),
    *("Silu", "Gelu", "Relu", "LeakyRelu", "Elu", "Tanh", "Sigmoid", "Softplus", "Clamp", "Hardtanh", "Threshold"),
    *("MaskedFill", "Where", "Minimum", "Maximum", "Mish", "LogSigmoid"),
}
"""Operations, by their nodes in autograd's graph, that keep rows apart and in their order."""

_VIEWS = {"View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze"}

_LONGEST_CHAIN = 100
"""Operations that are looked at for one tensor, at most; a model may have a loop of any length there."""


class _TooLongError(Exception):
    """More operations than are looked at."""


@dataclass(frozen=True)
class Rows:
    """The rows of a tensor, all but its last dimension: those of sample 0, of sample 1, and so on; or, if there are
    `tokens`, in any order, and any number of each sample.

    `tokens` has the tensor's shape without the last dimension: the place of each row's token in [batch * positions].
    """

    batch: int
    positions: int
    tokens: Tensor | None = None

    def samples(self, like: Tensor) -> Tensor:
        """To which sample each row of `like` belongs, [rows]."""
        if self.tokens is not None:
            return self.tokens.flatten() // self.positions
        each = math.prod(like.shape[:-1]) // self.batch
        return torch.arange(self.batch, device=like.device).repeat_interleave(each)

    def by_sample(self, tensor: Tensor) -> Tensor:
        """`tensor` [.., width] as [batch, longest, width]; zeros follow the rows of a sample that has fewer."""
        if self.tokens is None:
            return tensor.reshape(self.batch, -1, tensor.shape[-1])
        order, samples, places, longest = self._layout
        padded = tensor.new_zeros(self.batch, longest, tensor.shape[-1])
        padded[samples, places] = tensor.reshape(-1, tensor.shape[-1])[order]
        return padded

    @cached_property
    def _layout(self) -> tuple[Tensor, Tensor, Tensor, int]:
        """Rows in the order of their samples; the sample of each and its place there; how many a sample has at most."""
        assert self.tokens is not None
        samples, order = (self.tokens.flatten() // self.positions).sort(stable=True)
        counts = samples.bincount(minlength=self.batch)
        places = torch.arange(len(samples), device=samples.device) - (counts.cumsum(0) - counts)[samples]
        return order, samples, places, int(counts.max())

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over each sample's rows, [batch, width], in fp32 at least."""
        dtype = torch.promote_types(tensor.dtype, torch.float32)
        if self.tokens is None:
            return self.by_sample(tensor).sum(dim=1, dtype=dtype)
        total = torch.zeros(self.batch, tensor.shape[-1], dtype=dtype, device=tensor.device)
        return total.index_add_(0, self.samples(tensor), tensor.reshape(-1, tensor.shape[-1]).to(dtype))

    def any_at_last_position(self, gradient: Tensor) -> Tensor | None:
        """Whether the gradient of some row from the last position is not zero; None where that cannot be seen."""
        if self.tokens is not None:
            last = self.tokens.flatten() % self.positions == self.positions - 1
            return gradient.reshape(-1, gradient.shape[-1])[last].any()
        by_position = self.by_sample(gradient) if gradient.ndim == 2 else gradient
        if by_position.shape[1] != self.positions:
            return None
        at_last = by_position[:, -1].any()
        if by_position.ndim > 3 and by_position.shape[2] == self.positions:
            # As many heads as positions: either may be the dimension of the positions.
            at_last = at_last & by_position[:, :, -1].any()
        return at_last


class RowsOfTensors:
    """Finds the rows of tensors of a forward pass.

    Args:
        shape: [batch, positions] of the input ids.
        nodes_with_rule: the autograd nodes of operations with a rule; each has the `tokens` of its result's rows, or
            None where they are in order.
    """

    def __init__(self, shape: tuple[int, int], device: torch.device, *, nodes_with_rule: tuple[type, ...]) -> None:
        self.batch, self.positions = shape
        self._nodes_with_rule = nodes_with_rule
        self._all = torch.arange(self.batch * self.positions, device=device)
        self._noted: dict[Node, Tensor] = {}

    def of(self, tensor: Tensor, trailing: int = 1) -> Rows | None:
        """The rows of `tensor`, all but its `trailing` dimensions (0 or 1); None where they are not known.

        Where the graph does not say, a tensor of several dimensions whose first is the batch has them in order.
        """
        leading = tensor.shape[: tensor.ndim - trailing]
        try:
            tokens = self._tokens(tensor, leading)
        except _TooLongError:
            return None
        if self.batch == 1 or (len(leading) > 1 and leading[0] == self.batch and tokens is None):
            return Rows(self.batch, self.positions)
        if tokens is None:
            return None
        return Rows(self.batch, self.positions, None if self._are_in_order(tokens) else tokens)

    def by_graph(self, tensor: Tensor) -> Rows | None:
        """The same by the graph alone: of tensors whose first dimension says nothing, such as stacks for experts."""
        try:
            tokens = self._tokens(tensor, tensor.shape[:-1])
        except _TooLongError:
            return None
        return None if tokens is None and self.batch > 1 else Rows(self.batch, self.positions, tokens)

    def note(self, tensor: Tensor, rows: Rows) -> None:
        """Note the rows of a tensor that was changed in place, which its node does not tell."""
        if rows.tokens is not None and tensor.grad_fn is not None:
            self._noted[tensor.grad_fn] = rows.tokens

    def _tokens(self, tensor: Tensor, leading: Sequence[int]) -> Tensor | None:
        if self.batch == 1 or not leading:
            return None
        grid = self._of_constant(tensor) if tensor.grad_fn is None else self._of(tensor.grad_fn, tensor.output_nr, {})
        if grid is None or grid.ndim > len(leading):
            return None
        return grid.view(*grid.shape, *[1] * (len(leading) - grid.ndim)).expand(*leading)

    def _are_in_order(self, tokens: Tensor) -> bool:
        """Whether the rows are those of sample 0, of sample 1, and so on, as many of each. Seen from where these
        numbers lie in memory: to read them, a GPU would have to be waited for."""
        if tokens.data_ptr() != self._all.data_ptr():
            return False
        if tokens.shape[0] == self.batch:
            steps = zip(tokens.shape[1:], tokens.stride()[1:], strict=True)
            within = sum((size - 1) * step for size, step in steps) < self.positions
            return within and tokens.stride(0) == self.positions
        return tokens.shape[0] == len(self._all) and tokens.stride(0) == 1

    def _of_constant(self, tensor: Tensor) -> Tensor | None:
        base = tensor._base
        if base is None or base.shape[:2] != (self.batch, self.positions):
            return None
        flat = base.numel() == tensor.numel() and base.is_contiguous() and tensor.is_contiguous()
        return viewed(self._all.view(base.shape[:2]), tensor.shape) if flat else None

    def _of(self, node: Node, output: int, known: dict[tuple[Node, int], Tensor | None]) -> Tensor | None:
        """Tokens of the leading dimensions of an operation's result; how many dimensions follows from the operation."""
        key = (node, output)
        if key not in known:
            known[key] = None
            if len(known) > _LONGEST_CHAIN:
                raise _TooLongError
            shape = tuple(node._input_metadata[output].shape)
            grid = self._found(node, output, shape, known)
            known[key] = grid if grid is not None and grid.shape == shape[: grid.ndim] else None
        return known[key]

    def _found(
        self, node: Node, output: int, shape: tuple[int, ...], known: dict[tuple[Node, int], Tensor | None]
    ) -> Tensor | None:
        if node in self._noted:
            return self._noted[node]
        if isinstance(node, self._nodes_with_rule):
            tokens: Tensor | None = node.tokens  # type: ignore[attr-defined]
            return self._in_order(shape) if tokens is None else tokens
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        sources = [(source, number) for source, number in node.next_functions if source is not None]
        if not sources:
            return None
        if name in _VIEWS:
            source, number = sources[0]
            before = tuple(source._input_metadata[number].shape)
            if before[:2] == (self.batch, self.positions):
                return viewed(self._all.view(before[:2]), shape)
            grid = self._of(source, number, known)
            return None if grid is None else viewed(grid, shape)
        if name in _ROW_BY_ROW:
            # One operand is enough, for a row of the result depends on the same row of each. The nearest first, for
            # the other may have come through all layers.
            sources.sort(key=lambda source: not isinstance(source[0], self._nodes_with_rule))
            grids = (self._of(source, number, known) for source, number in sources)
            return next((grid for grid in grids if grid is not None and grid.shape == shape[: grid.ndim]), None)
        change = CHANGES.get(name)
        if change is None:
            return None
        found = [self._of(source, number, known) for source, number in sources]
        grids_of_all = [grid for grid in found if grid is not None]
        return change(node, grids_of_all, shape, output) if len(grids_of_all) == len(found) else None

    def _in_order(self, shape: tuple[int, ...]) -> Tensor | None:
        if shape[:2] == (self.batch, self.positions):
            return self._all.view(shape[:2])
        if shape[0] == self.batch * self.positions:
            return self._all
        return self._all[:: self.positions] if shape[0] == self.batch else None
