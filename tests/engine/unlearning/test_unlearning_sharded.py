"""Unlearning a model of which each of two processes has a part equals unlearning the whole of it in one process.

By torch's own `fully_shard`: on a CPU, accelerate takes DDP for FSDP without a word.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import distance, weights
from safetensors.torch import load_file
from tiny import random_samples, tiny_llama
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, TrainerState
from two_processes import in_two_processes

from lwf_assets.engine import processes
from lwf_assets.engine.evaluation.weight_distance import euclidean_distance, euclidean_norm
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.sharding import in_parts, is_sharded, whole_model
from lwf_assets.engine.unlearning.objectives import NPO
from lwf_assets.engine.unlearning.periodic import STATE_FILE, PeriodicUnlearning
from lwf_assets.engine.unlearning.retention import Retention

FORGOTTEN, KEPT = random_samples(6, seed=2), random_samples(4, seed=5)
STEPS = 6


def _model(state: dict[str, Any] | None = None) -> PreTrainedModel:
    """In parts, if several processes are there. Its vocabulary of 259 is no multiple of two: the parts are uneven."""
    model = tiny_llama()
    if state is not None:
        model.load_state_dict(state)
    if processes.here().world > 1:
        mesh = init_device_mesh("cpu", (processes.here().world,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    return model


def _unlearning(kind: str) -> PeriodicUnlearning:
    retain = Retention(KEPT, kind="kl", reference=tiny_llama(seed=3), batch_size=3) if kind == "kl" else None
    retain = Retention(KEPT, batch_size=3) if kind == "nll" else retain
    return PeriodicUnlearning(
        FORGOTTEN,
        interval=1,
        forgetting_rate=1e-3,
        batch_size=3,
        per_sample_cap=9.0,
        optimizer="sgd" if kind == "sgd" else "adam",
        objective=NPO(),
        retain=retain,
        measure_updates=True,
    )


def _run(folder: Path, kind: str, model: PreTrainedModel, begin: int, end: int) -> PeriodicUnlearning:
    """The callback's part of a Trainer's steps `begin` + 1 to `end`, with a checkpoint at the end."""
    args = SimpleNamespace(output_dir=folder, bf16=False, fp16=False, learning_rate=1.0)
    first = processes.here().is_first
    state = TrainerState(global_step=begin, max_steps=STEPS, is_world_process_zero=first)
    schedule = SimpleNamespace(get_last_lr=lambda: [1.0])
    callback = _unlearning(kind)
    negative_log_likelihoods(model, KEPT)  # leaves some parameters whole
    callback.on_train_begin(args, state, None, model=model)
    for step in range(begin + 1, end + 1):
        callback.on_step_begin(args, state, None, lr_scheduler=schedule)
        state.global_step = step
        callback.on_step_end(args, state, None, model=model)
    if first:
        (folder / f"checkpoint-{end}").mkdir(parents=True, exist_ok=True)
    callback.on_save(args, state, None)
    processes.here().wait()
    return callback


def _all(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("plain", "sgd", "nll", "kl"):
        model = _model()
        callback = _run(folder / kind, kind, model, 0, STEPS)
        assert is_sharded(model) == (processes.here().world > 1)
        found[kind] = {"weights": weights(whole_model(model)), "ledger": callback.ledger}
    model = _model()
    _run(folder / "resumed", "nll", model, 0, 4)
    model = _model(whole_model(model).state_dict())
    callback = _run(folder / "resumed", "nll", model, 4, STEPS)
    found["resumed"] = {"weights": weights(whole_model(model)), "ledger": callback.ledger}
    found["nll"]["losses"] = negative_log_likelihoods(model, FORGOTTEN)
    other = _model()
    found["nll"]["norms"] = (
        euclidean_norm(in_parts(model).parameters()),
        euclidean_distance(model.parameters(), list(other.parameters())),
    )
    return found


@pytest.mark.slow
def test_in_parts_equals_whole(tmp_path: Path) -> None:
    expected = _all(tmp_path / "one")
    start = weights(tiny_llama())
    for found in in_two_processes(_all, tmp_path / "two", tmp_path / "two"):
        for kind, alone in expected.items():
            moved = distance(alone["weights"], start)
            assert moved > 1e-3
            assert distance(found[kind]["weights"], alone["weights"]) <= 1e-4 * moved, kind
            for entry, other in zip(found[kind]["ledger"], alone["ledger"], strict=True):
                assert (entry.step, entry.sample_id, entry.pushed) == (other.step, other.sample_id, other.pushed)
                assert entry.nll_before == pytest.approx(other.nll_before, rel=1e-4)
                assert entry.update_norm == pytest.approx(other.update_norm, rel=1e-4)
        assert distance(found["resumed"]["weights"], found["nll"]["weights"]) == 0
        assert found["nll"]["losses"] == pytest.approx(expected["nll"]["losses"], rel=1e-5)
        assert found["nll"]["norms"] == pytest.approx(expected["nll"]["norms"], rel=1e-5)
    states = [load_file(tmp_path / world / "nll" / f"checkpoint-{STEPS}" / STATE_FILE) for world in ("one", "two")]
    del states[0]["json"], states[1]["json"]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.allclose(states[1][name], value, rtol=1e-3, atol=1e-6), name
