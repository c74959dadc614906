"""A run with unlearning that stops and goes on is the run that never stopped, bit for bit."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from by_hand import same_bits, weights
from safetensors import SafetensorError
from tiny import random_samples, tiny_llama
from trainers import StopAt, StoppedError, trainer

from lwf_assets.engine.unlearning.periodic import STATE_FILE, PeriodicUnlearning
from lwf_assets.errors import LwfError

FORGOTTEN = random_samples(9, seed=7)
SAVING = {"max_steps": 10, "save_strategy": "steps", "save_steps": 3, "lr_scheduler_type": "cosine"}


def _unlearning(**settings: Any) -> PeriodicUnlearning:
    defaults = {"interval": 2, "forgetting_rate": 1e-3, "batch_size": 4, "per_sample_cap": 8.0}
    return PeriodicUnlearning(FORGOTTEN, **defaults | settings)


@pytest.mark.parametrize(
    "settings",
    [{}, {"timing": "random"}, {"timing": "upfront"}, {"optimizer": "sgd"}],
    ids=["periodic", "random", "upfront", "sgd"],
)
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole, uninterrupted = tiny_llama(), _unlearning(**settings)
    trainer(tmp_path / "whole", whole, [uninterrupted], **SAVING).train()

    with pytest.raises(StoppedError):
        trainer(tmp_path / "cut", tiny_llama(), [_unlearning(**settings), StopAt(8)], **SAVING).train()
    resumed, unlearning = tiny_llama(seed=5), _unlearning(**settings)
    trainer(tmp_path / "cut", resumed, [unlearning], **SAVING).train(
        resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-6")
    )

    assert len(unlearning.ledger) >= 4 * 4
    assert unlearning.ledger == uninterrupted.ledger
    assert same_bits(weights(resumed), weights(whole))


def test_adams_moments_are_taken_up_again(tmp_path: Path) -> None:
    """The state matters: a resume with the ascent's moments forgotten ends elsewhere."""
    whole, cut = tiny_llama(), tiny_llama()
    trainer(tmp_path, whole, [_unlearning()], **SAVING).train()

    class _Forgets(PeriodicUnlearning):
        def _resume(self, checkpoint: Path, model: Any) -> None:
            pass

    forgetful = _Forgets(FORGOTTEN, interval=2, forgetting_rate=1e-3, batch_size=4, per_sample_cap=8.0)
    trainer(tmp_path, cut, [forgetful], **SAVING).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert not same_bits(weights(cut), weights(whole))


def test_a_second_training_with_the_same_callback_starts_afresh(tmp_path: Path) -> None:
    unlearning = _unlearning()
    ledgers = []
    for _ in range(2):
        trainer(tmp_path, tiny_llama(), [unlearning]).train()
        ledgers.append(unlearning.ledger)
    assert ledgers[0] == ledgers[1]


def test_a_checkpoint_without_the_callbacks_state(tmp_path: Path) -> None:
    trainer(tmp_path, tiny_llama(), [_unlearning()], **SAVING).train()
    checkpoint = tmp_path / "checkpoint-6"
    assert not list(checkpoint.glob("*.unfinished"))
    (checkpoint / STATE_FILE).unlink()
    with pytest.raises(LwfError, match=rf"checkpoint-6: holds no {STATE_FILE}"):
        trainer(tmp_path, tiny_llama(), [_unlearning()], **SAVING).train(resume_from_checkpoint=str(checkpoint))


class _Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("run",)


def test_a_pickle_in_place_of_the_state_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer(tmp_path, tiny_llama(), [_unlearning()], **SAVING).train()
    checkpoint = tmp_path / "checkpoint-6"
    (checkpoint / STATE_FILE).write_bytes(pickle.dumps(_Payload()))
    with pytest.raises(SafetensorError):
        trainer(tmp_path, tiny_llama(), [_unlearning()], **SAVING).train(resume_from_checkpoint=str(checkpoint))
    assert not Path("run").exists()
