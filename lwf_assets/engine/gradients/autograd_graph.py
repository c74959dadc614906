"""Which parameters a loss still depends on, by autograd's graph of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lwf_assets.errors import LwfError

RECOMPUTES = (
    "the model recomputes activations (torch.utils.checkpoint) in evaluation mode, which hides its operations from "
    "this work; switch its gradient checkpointing off"
)


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
