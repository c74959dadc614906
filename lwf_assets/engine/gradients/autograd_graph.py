"""What can be read off autograd's graph of a forward pass: which parameters it reaches, and whether rows stay
separate."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node

from lwf_assets.errors import LwfError

RECOMPUTES = (
    "the model recomputes activations (torch.utils.checkpoint) in evaluation mode, which hides its operations from "
    "this work; switch its gradient checkpointing off"
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


def is_flattened(tensor: Tensor, shape: tuple[int, int], *, apart: tuple[type, ...]) -> bool:
    """Whether `tensor` is a view of [*shape, ..], or comes from one by operations that keep rows apart, among them
    those whose nodes are of the types `apart`.

    As many rows may also be a choice of rows in another order, as a layer for experts makes it, or no rows of samples
    at all, but those of another parameter.
    """
    if tensor.grad_fn is None:
        base = tensor._base
        if base is None or base.shape[:2] != shape:
            return False
        return base.numel() == tensor.numel() and base.is_contiguous() and tensor.is_contiguous()
    found: set[Node] = set()
    open_nodes: list[Node | None] = [tensor.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in found or isinstance(node, apart):
            continue
        found.add(node)
        name = node.name().rstrip("0123456789")
        if name in _VIEWS and node._saved_self_sym_sizes[:2] == shape:  # type: ignore[attr-defined]
            continue
        if name not in _VIEWS | _ROW_BY_ROW:
            return False
        open_nodes += [following for following, _ in node.next_functions]
    return True
