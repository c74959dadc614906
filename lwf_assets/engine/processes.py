"""Several processes that share one piece of work, each on a device of its own: shares, sums and what all have found.

    with joined():
        together = processes.here()
        mine = together.share(samples)             # indices of this process's part
        values = together.gather(mine, results)    # everybody's, in the order of the samples

A process is alone unless it has `joined`; then nothing here does anything. What is said between the processes are whole
results and sums: every process must make the same calls in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from lwf_assets.engine.sharding import is_sharded
from lwf_assets.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

LONGEST_WAIT = timedelta(hours=6)
"""How long a process waits for another. One that has died is noticed at once by whoever started them; this is for one
that has much more to do."""


@dataclass(frozen=True)
class Processes:
    """This process among those that share its work. `rank` counts from 0."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes what all have found."""
        return self.rank == 0

    def share(self, things: Sequence[Sized]) -> list[int]:
        """Indices of this process's part: every `world`-th of the things in the order of their length, so that all
        have as much to do."""
        if self.world == 1:
            return list(range(len(things)))
        order = sorted(range(len(things)), key=lambda index: (-len(things[index]), index))
        return order[self.rank :: self.world]

    def share_of_groups(self, keys: Sequence[Hashable]) -> list[int]:
        """Indices of this process's part, in order, where things of the same key must not be parted."""
        if self.world == 1:
            return list(range(len(keys)))
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        return [index for index, key in enumerate(keys) if places[key] % self.world == self.rank]

    def shown(self, progress: Progress, total: int) -> Progress:
        """The progress of a phase of `total` units that all take part in: this process's part stands for all."""
        return progress if self.world == 1 else _ForAll(progress, total, self.world)

    def gather(self, mine: Sequence[int], values: Sequence[T]) -> list[T]:
        """What all processes have found, in the order of the indices that they found it for."""
        if self.world == 1:
            return list(values)
        found = {index: value for part in self.all(list(zip(mine, values, strict=True))) for index, value in part}
        return [found[index] for index in range(len(found))]

    def all(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    def of_first(self, value: T) -> T:
        """The first process's value, for all."""
        if self.world == 1:
            return value
        values: list[Any] = [value]
        distributed.broadcast_object_list(values, src=0)
        first: T = values[0]
        return first

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Put the sum over the processes in the place of each tensor."""
        if self.world > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the sum over the processes in the place of each gradient. A parameter that has none in any process keeps
        none, as it would in one process."""
        if self.world == 1:
            return
        has = torch.tensor([parameter.grad is not None for parameter in parameters], device=parameters[0].device)
        has = has.int()
        distributed.all_reduce(has, op=distributed.ReduceOp.MAX)
        for parameter, somewhere in zip(parameters, has.tolist(), strict=True):
            if somewhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)

    def wait(self) -> None:
        """Until all processes have come this far."""
        if self.world > 1:
            self.all(None)


class _ForAll(Silent):
    def __init__(self, progress: Progress, total: int, world: int) -> None:
        self._progress, self._left, self._world = progress, total, world

    def advance(self, amount: int = 1) -> None:
        amount = min(amount * self._world, self._left)
        self._left -= amount
        self._progress.advance(amount)


ALONE = Processes()
_here = ALONE


def here() -> Processes:
    """This process among those that it has joined; alone, if it has joined none."""
    return _here


def of_model(model: nn.Module) -> Processes:
    """As `here`, for work with `model`; alone where its parameters are sharded: then all processes take part in each
    forward pass, and must feed it the same."""
    return ALONE if _here.world > 1 and is_sharded(model) else _here


@contextmanager
def joined(meeting_point: Path | None = None) -> Iterator[Processes]:
    """This process works together with those that `torchrun` started with it, for the length of the block: over NCCL
    where each has a CUDA device, which becomes its current one, over gloo elsewhere.

    Args:
        meeting_point: a file by which they find each other; None for a port, which torch opens to the whole network.
    """
    global _here
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    options: dict[str, Any] = {"backend": "gloo"}
    if meeting_point is not None:
        options["store"] = distributed.FileStore(str(meeting_point), world)  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        options |= {"backend": "nccl", "device_id": device}
    distributed.init_process_group(rank=rank, world_size=world, timeout=LONGEST_WAIT, **options)
    _here = Processes(rank, world)
    try:
        yield _here
        _here.wait()
    finally:
        _here = ALONE
    distributed.destroy_process_group()  # not after an error: the others may wait in it
