"""Runs a function in two processes that work together over gloo, each on the CPU."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import spawn

WORLD = 2


def in_two_processes(function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What `function` returned in each, by rank. It must be one that a module names, and so must what it is given."""
    folder.mkdir(parents=True, exist_ok=True)
    spawn(_enter, (function, folder, _free_port(), arguments), nprocs=WORLD)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


def _enter(rank: int, function: Callable[..., Any], folder: Path, port: int, arguments: tuple[Any, ...]) -> None:
    from lwf_assets.engine.processes import joined

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    with joined():
        torch.save(function(*arguments), folder / f"{rank}.pt")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
