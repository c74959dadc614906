"""What a CUDA graph does, on a CPU: repeats the operations that were recorded, on the same tensors, whatever Python
would decide now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recorded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operation with its arguments and results. The results are the graph's memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        found = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        is_view = all(leaf.untyped_storage().data_ptr() in given for leaf in found)
        if func._schema.is_mutable:
            self.operations.append((func, args, kwargs or {}, []))
        elif not is_view:
            self.operations.append((func, args, kwargs or {}, found))
        return result

    def replay(self) -> None:
        """Every operation again, in order, into the same results."""
        for func, args, kwargs, results in self.operations:
            again = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
            for result, value in zip(results, again, strict=bool(results)):
                result.copy_(value)


@torch.no_grad()
def recorded(run: Callable[[], Tensor], undo: Callable[[], None]) -> tuple[Callable[[], object], Tensor]:
    """A recorder as `captured_step.cuda_graph` is one. On a CPU recording computes, so it is undone."""
    with Recorded() as operations:
        logits = run()
    undo()
    return operations.replay, logits
