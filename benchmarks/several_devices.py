"""Whether several devices compute what one computes: `python -m benchmarks.several_devices`.

Two CUDA devices under NCCL against one: the Fisher diagonal, the confidence terms and a fine-tune that unlearns, under
DDP and under FSDP2.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.models import llama
from lwf_assets.engine import processes

if TYPE_CHECKING:
    from torch import Tensor

DEVICES = 2


def check_two_devices() -> dict[str, Any]:
    """The largest relative errors of two devices against one, and how much faster they are.

    Returns:
        `skipped` with the reason, where there are fewer than two CUDA devices; else `passed`, and by name each error
        with its bound and each ratio of times (one device over two).
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there < DEVICES:
        return {"skipped": f"needs {DEVICES} CUDA devices; there are {there}"}
    return compare()


def compare() -> dict[str, Any]:
    """The comparison itself, on whatever devices there are."""
    from torch.multiprocessing.spawn import spawn

    alone = _everything(Path(tempfile.mkdtemp()), sharded=False)
    found: dict[str, Any] = {"errors": {}, "ratios": {}}
    for strategy in ("ddp", "fsdp") if torch.cuda.is_available() else ("ddp",):
        folder = Path(tempfile.mkdtemp())
        spawn(_enter, (folder, _free_port(), strategy == "fsdp"), nprocs=DEVICES)  # type: ignore[no-untyped-call]
        together = torch.load(folder / "found.pt", weights_only=True)
        for name, bound in BOUNDS.items():
            if strategy == "ddp" or name == "fine_tune":
                found["errors"][f"{strategy}/{name}"] = {"error": _error(together[name], alone[name]), "bound": bound}
                seconds = (alone["seconds"][name], together["seconds"][name])
                found["ratios"][f"{strategy}/{name}"] = seconds[0] / seconds[1]
    found["passed"] = all(entry["error"] <= entry["bound"] for entry in found["errors"].values())
    return found


BOUNDS = {"fisher": 1e-6, "terms": 1e-5, "fine_tune": 1e-4}
"""Of relative errors, in fp32; of the fine-tune relative to how far it moved the weights."""


def _error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    differences = sum((found[name] - value).double().square().sum().item() for name, value in expected.items())
    return float((differences / sum(value.double().square().sum().item() for value in expected.values())) ** 0.5)


def _everything(folder: Path, *, sharded: bool) -> dict[str, Any]:
    """What is compared, on the CPU, and the seconds that each part took the second time."""
    from lwf_assets.engine.confidence import confidence_terms
    from lwf_assets.engine.fisher import fisher_diagonal
    from lwf_assets.engine.precision import best_device

    model, samples = _model().to(best_device()), _samples(32)
    delta = {name: torch.full_like(value, 1e-3) for name, value in model.named_parameters()}
    seconds: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        work()  # kernels are chosen, and communicators made, the first time
        processes.here().wait()
        began = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - began
        return result

    fisher = timed("fisher", lambda: fisher_diagonal(model, samples))
    terms = timed("terms", lambda: confidence_terms(model, samples, fisher=fisher, delta=delta))
    figures = {name: torch.tensor(getattr(terms, name)) for name in ("linear", "quadratic", "gradient_norm", "losses")}
    runs = iter(range(2))
    moved = timed("fine_tune", lambda: _moved(folder / str(next(runs)), sharded=sharded))
    on_cpu = {name: value.cpu() for name, value in fisher.items()}
    return {"fisher": on_cpu, "terms": figures, "fine_tune": moved, "seconds": seconds}


def _moved(folder: Path, *, sharded: bool) -> dict[str, Tensor]:
    """How far a short fine-tune that unlearns moves each parameter."""
    from lwf_assets.engine.precision import best_device
    from lwf_assets.engine.sharding import whole_model
    from lwf_assets.engine.training.fine_tune import fine_tune
    from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning

    model = _model().to(best_device())
    start = {name: value.detach().cpu().clone() for name, value in model.named_parameters()}
    unlearning = PeriodicUnlearning(_samples(8, seed=1), interval=2, per_sample_cap=20.0, measure_updates=True)
    fine_tune(
        model,
        _samples(32),
        seed=0,
        folder=folder,
        max_steps=6,
        batch_size=8,
        autocast="off",
        callbacks=[unlearning],
        sharded=sharded,
    )
    return {name: value.detach().cpu() - start[name] for name, value in whole_model(model).named_parameters()}


def _model() -> Any:
    return llama(hidden=576, intermediate=1536, layers=8, heads=9, key_value_heads=3, vocabulary=4099)


def _samples(count: int, seed: int = 0) -> list[Any]:
    from lwf_assets.engine.samples import Sample

    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(16, 64, (count, 2), generator=draw).tolist()
    return [Sample(*(torch.randint(500, (length,), generator=draw).tolist() for length in pair)) for pair in lengths]


def _enter(rank: int, folder: Path, port: int, sharded: bool) -> None:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": DEVICES, "LOCAL_WORLD_SIZE": DEVICES, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in own.items()} | {"MASTER_ADDR": "127.0.0.1"}
    with processes.joined() as together:
        found = _everything(folder, sharded=sharded)
        if together.is_first:
            torch.save(found, folder / "found.pt")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    print(json.dumps(check_two_devices(), indent=2))
