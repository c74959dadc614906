"""How much memory is free for what is about to start, and a refusal where that cannot be enough."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lwf_assets.cost.cell_cost import Cost
from lwf_assets.cost.devices import has_accelerator
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def refuse_what_cannot_fit(cell: Cell, cost: Cost, *, processes: int = 1) -> None:
    """Stop before any work if the cell needs more memory than there is, whatever the lengths of its rows.

    Args:
        cell: what is to be made.
        cost: of it, for each process.
        processes: that share it.

    Raises:
        LwfError: what it needs, part by part, what there is, and what to change.
    """
    if not cost.surely:
        return
    give_back_what_is_unused()
    free = free_memory(on_accelerator=cost.on_accelerator, ask_torch=True, processes=processes)
    if free is not None and cost.surely > free:
        raise LwfError(told_refusal(cell, cost, free, processes=processes))


def give_back_what_is_unused() -> None:
    """Return to the system what earlier steps of this process left: models that hang in cycles, and gigabytes of small
    blocks that glibc's allocator keeps after a fine-tune although nothing is in them."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another system's allocator has its own ways
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def told_refusal(cell: Cell, cost: Cost, free: int, *, processes: int = 1) -> str:
    """The message of the refusal; only what is certainly needed is counted."""
    needed = sorted((part for part in cost.peak if part.surely), key=lambda part: -part.surely)
    parts = [f"{gigabytes(p.surely)} for {p.what}" + (f" ({p.setting})" if p.setting else "") for p in needed]
    each = f" for each of compute.processes: {processes}" if processes > 1 else ""
    return (
        f"{cell} would not fit into memory and was not started: it needs at least {gigabytes(cost.surely)} and "
        f"{gigabytes(free)} are free{each}. That is {', '.join(parts)}. Change the settings in brackets, or use a "
        "smaller model.source or a machine with more memory"
    )


def gigabytes(size: float) -> str:
    """Bytes as text; 1 GB is 10^9."""
    return f"{size / 1e9:.1f} GB" if size < 99.5e9 else f"{size / 1e9:.0f} GB"


def free_memory(*, on_accelerator: bool, ask_torch: bool = False, processes: int = 1) -> int | None:
    """Free bytes for each process where the work will be done; None if that is unknown.

    Args:
        on_accelerator: the work goes to an accelerator if there is one.
        ask_torch: import torch to find out; otherwise it is asked only if it is there already.
        processes: that share the work: each has an accelerator of its own, or a part of the host's memory.
    """
    if on_accelerator:
        if ask_torch or "torch" in sys.modules:
            return _on_device_of_torch(processes)
        if has_accelerator():
            return None
    return _part_of_host(processes)


def _part_of_host(processes: int) -> int | None:
    free = free_on_host()
    return None if free is None else free // processes


def _on_device_of_torch(processes: int) -> int | None:
    import torch

    from lwf_assets.engine.precision import best_device

    device = best_device()
    if device.type == "cpu":
        return _part_of_host(processes)
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps for itself, it gives to the next tensor.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_on_host() -> int | None:
    """Bytes that this process can still get on the host, swap included, within its own limits and those of its control
    groups; None where the system does not say it as Linux does."""
    try:
        values = _kilobytes(PROC / "meminfo")
        free = min([values["MemAvailable"], *_rooms_of_groups()]) + values.get("SwapFree", 0)
        return min([free, *_rooms_of_process()])
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _kilobytes(path: Path) -> dict[str, int]:
    """The lines of a file that have a number of kB, in bytes."""
    lines = (line.split(":", 1) for line in path.read_text().splitlines())
    return {name: int(rest.split()[0]) * 1024 for name, rest in lines if rest.endswith(" kB")}


def _rooms_of_process() -> Iterator[int]:
    """Bytes left within the limits that `ulimit -v` and `ulimit -d` set."""
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            yield most - _kilobytes(PROC / "self" / "status")[used]


def _rooms_of_groups() -> Iterator[int]:
    """Bytes left in each control group around this process that has a limit. The kernel drops cached files before it
    refuses memory, so they do not count as used."""
    for line in (PROC / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = GROUPS, ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            root, names = GROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        # In a container the path may be the host's; then only the root is there, and is the container's own.
        folder = root / path.strip("/")
        for group in (folder, *folder.parents[: len(folder.relative_to(root).parts)]):
            room = _room(group, *names)
            if room is not None:
                yield room


def _room(group: Path, limit_name: str, used_name: str, prefix: str) -> int | None:
    try:
        limit, used = (group / limit_name).read_text().strip(), int((group / used_name).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    cached = sum(int(statistics.get(f"{prefix}{name}", 0)) for name in ("active_file", "inactive_file"))
    return None if limit == "max" else int(limit) - used + cached
