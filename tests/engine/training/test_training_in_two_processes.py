"""A fine-tune that two processes share ends with the weights, the curves and the ledger of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import distance, weights
from tiny import random_samples, tiny_llama
from trainers import StopAt, StoppedError
from two_processes import in_two_processes

from lwf_assets.disk.sums import is_as_summed
from lwf_assets.engine import processes
from lwf_assets.engine.training.fine_tune import fine_tune
from lwf_assets.engine.training.penalties import L2SP, BatchSpectralShrinkage, Penalty
from lwf_assets.engine.training.validation_curve import ValidationCurve
from lwf_assets.engine.unlearning.objectives import NPO
from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning
from lwf_assets.engine.unlearning.retention import Retention
from lwf_assets.errors import LwfError
from lwf_assets.study.sections import TrainingSettings

# The last batch of an epoch has one sample: the second process has none of it.
LEARNED, FORGOTTEN = random_samples(13, seed=1), random_samples(5, seed=2)
KEPT, VALIDATION = random_samples(4, seed=5), random_samples(3, seed=6)


def _train(folder: Path, kind: str, *, stop_at: int | None = None) -> dict[str, Any]:
    torch.set_num_threads(1)
    model = tiny_llama()
    options: dict[str, Any] = {"max_steps": 9} if kind != "accumulated" else {"epochs": 2.0, "gradient_accumulation": 2}
    settings = TrainingSettings(batch_size=4, learning_rate=3e-3, autocast="off", checkpoint_every=3, **options)
    penalties: dict[str, Penalty] = {
        "l2_sp": L2SP(model, weight=0.1),
        "bss": BatchSpectralShrinkage(weight=0.1, k=2),
    }
    unlearning = PeriodicUnlearning(
        FORGOTTEN,
        interval=2,
        forgetting_rate=1e-3,
        batch_size=1 if kind == "one at a time" else 3,
        per_sample_cap=[9.0, 2.0, 9.0, 9.0, 9.0],  # the second is always forgotten
        objective=NPO(),
        retain=Retention(KEPT, weight=0.5, batch_size=1 if kind == "one at a time" else 3),
        measure_updates=True,
    )
    curve = ValidationCurve(VALIDATION, every=2)
    callbacks: list[Any] = [unlearning, curve, *([] if stop_at is None else [StopAt(stop_at)])]
    points = fine_tune(
        model,
        LEARNED,
        **settings.arguments(),
        seed=4,
        folder=folder,
        callbacks=callbacks,
        penalty=penalties.get(kind),
    )
    return {"weights": weights(model), "curve": points, "ledger": unlearning.ledger, "validated": curve.points}


KINDS = ("plain", "accumulated", "l2_sp", "bss", "one at a time")


def _all_kinds(folder: Path) -> dict[str, Any]:
    found = {kind: _train(folder / kind, kind) for kind in KINDS}
    with pytest.raises(StoppedError):
        _train(folder / "resumed", "plain", stop_at=5)
    assert is_as_summed(folder / "resumed" / "checkpoint-3")
    processes.here().wait()
    found["resumed"] = _train(folder / "resumed", "plain")
    return found


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    expected = _all_kinds(tmp_path / "one")
    first, second = in_two_processes(_all_kinds, tmp_path / "two", tmp_path / "two")
    start = weights(tiny_llama())
    for kind, alone in expected.items():
        for found in (first[kind], second[kind]):
            moved = distance(alone["weights"], start)
            assert distance(found["weights"], alone["weights"]) <= 1e-4 * moved, kind
            assert [point.step for point in found["curve"]] == [point.step for point in alone["curve"]]
            assert [p.loss for p in found["curve"]] == pytest.approx([p.loss for p in alone["curve"]], rel=1e-4)
            assert found["validated"] == [(step, pytest.approx(nll, rel=1e-4)) for step, nll in alone["validated"]]
            assert len(found["ledger"]) == len(alone["ledger"])
            for entry, other in zip(found["ledger"], alone["ledger"], strict=True):
                assert (entry.step, entry.sample_id, entry.pushed) == (other.step, other.sample_id, other.pushed)
                assert entry.nll_before == pytest.approx(other.nll_before, rel=1e-4)
                assert entry.update_norm == pytest.approx(other.update_norm, rel=1e-3)
        assert distance(first[kind]["weights"], second[kind]["weights"]) == 0


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_here", processes.Processes(0, 3))
    settings = TrainingSettings(batch_size=4, max_steps=1)
    with pytest.raises(LwfError, match=r"training\.batch_size: 4 .*compute\.processes: 3"):
        fine_tune(tiny_llama(), LEARNED, **settings.arguments(), seed=0, folder=tmp_path)
