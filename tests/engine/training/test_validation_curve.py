"""The curve on held-out rows: when, what, without a trace, and whole after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import in_float64, loss_by_hand, same_bits, tiny_model, weights
from tiny import random_samples, tiny_llama
from trainers import Snapshots, StopAt, StoppedError, trainer

from lwf_assets.engine.samples import Sample, collate
from lwf_assets.engine.training.fine_tune import fine_tune
from lwf_assets.engine.training.validation_curve import STATE_FILE, ValidationCurve
from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning
from lwf_assets.errors import LwfError
from lwf_assets.study.sections import TrainingSettings

HELD_OUT = random_samples(5, seed=21)
SAVING = {"max_steps": 8, "save_strategy": "steps", "save_steps": 3}


def _mean_by_hand(state: dict[str, torch.Tensor]) -> float:
    model = tiny_llama()
    model.load_state_dict(state, strict=False)
    precise = in_float64(model)
    with torch.no_grad():
        return sum(loss_by_hand(precise, sample).item() for sample in HELD_OUT) / len(HELD_OUT)


@pytest.mark.parametrize(
    ("every", "steps"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6]), (4, [0, 4, 6]), (50, [0, 6])]
)
def test_points_are_the_mean_over_samples_at_their_steps(tmp_path: Path, every: int, steps: list[int]) -> None:
    """Behind an unlearning that changes the weights, so before and after differ."""
    told: list[tuple[int, float]] = []
    snapshots = Snapshots()
    curve = ValidationCurve(HELD_OUT, every=every, token_budget=40, on_point=lambda *point: told.append(point))
    unlearning = PeriodicUnlearning(random_samples(4, seed=7), interval=2, forgetting_rate=1e-2, per_sample_cap=1e9)
    trainer(tmp_path, tiny_llama(), [unlearning, snapshots, curve]).train()
    assert [step for step, _ in curve.points] == steps
    assert told == curve.points
    for step, nll in curve.points:
        assert nll == pytest.approx(_mean_by_hand(snapshots.at[step]), rel=1e-5)


def test_the_autocast_of_the_training(tmp_path: Path) -> None:
    """The weights do not move, so each point can be computed afresh."""
    curves = []
    for bfloat16 in (False, True):
        curve = ValidationCurve(HELD_OUT, every=1)
        trainer(tmp_path, tiny_llama(), [curve], max_steps=1, learning_rate=1e-30, bf16=bfloat16).train()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            chances = tiny_llama()(**_inputs(HELD_OUT)).logits.float().log_softmax(-1)
        picked = [
            -sum(chances[row, len(s.prompt_ids) + n - 1, token].item() for n, token in enumerate(s.response_ids))
            / len(s.response_ids)
            for row, s in enumerate(HELD_OUT)
        ]
        assert [nll for _, nll in curve.points] == pytest.approx(
            [sum(picked) / 5] * 2, rel=1e-6 if not bfloat16 else 1e-5
        )
        curves.append(curve.points)
    assert curves[0] != curves[1]


def _inputs(samples: list[Sample]) -> dict[str, torch.Tensor]:
    batch = collate(samples)
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


def test_the_training_is_the_same_without_it(tmp_path: Path) -> None:
    """GPT-2 has dropout: its draws are not disturbed, and no point is a draw."""
    held_out, results = random_samples(4, seed=3, vocabulary=60), []
    curve = ValidationCurve(held_out, every=1)
    for callbacks in ([], [curve]):
        model = tiny_model("gpt2")
        model.lm_head.weight.requires_grad_(False)
        used = trainer(tmp_path, model, callbacks)
        used.train_dataset = random_samples(8, vocabulary=60)
        used.train()
        assert model.training
        assert not model.lm_head.weight.requires_grad
        results.append(weights(model))
    assert same_bits(*results)
    still = ValidationCurve(held_out, every=1)
    used = trainer(tmp_path, tiny_model("gpt2"), [still], learning_rate=1e-30)
    used.train_dataset = random_samples(8, vocabulary=60)
    used.train()
    assert [nll for _, nll in still.points] == pytest.approx([still.points[0][1]] * 7, rel=1e-6)


def test_resumed_curve_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = ValidationCurve(HELD_OUT, every=2)
    trainer(tmp_path / "whole", tiny_llama(), [whole], **SAVING).train()
    with pytest.raises(StoppedError):
        trainer(tmp_path / "cut", tiny_llama(), [ValidationCurve(HELD_OUT, every=2), StopAt(7)], **SAVING).train()
    resumed = ValidationCurve(HELD_OUT, every=2)
    checkpoint = tmp_path / "cut" / "checkpoint-6"
    trainer(tmp_path / "cut", tiny_llama(seed=5), [resumed], **SAVING).train(resume_from_checkpoint=str(checkpoint))
    assert [step for step, _ in resumed.points] == [0, 2, 4, 6, 8]
    assert resumed.points == whole.points
    assert not list(checkpoint.glob("*.unfinished"))


def test_in_the_fine_tune(tmp_path: Path) -> None:
    """Resumed by the fine-tune itself; a second training begins a curve of its own."""
    values: dict[str, Any] = {"max_steps": 5, "batch_size": 4, "learning_rate": 3e-3, "autocast": "off"}
    settings = TrainingSettings(**values, checkpoint_every=2)
    whole, resumed = ValidationCurve(HELD_OUT, every=3), ValidationCurve(HELD_OUT, every=3)
    for folder in ("first", "second"):
        fine_tune(
            tiny_llama(), random_samples(8), **settings.arguments(), seed=0, folder=tmp_path / folder, callbacks=[whole]
        )
    with pytest.raises(StoppedError):
        fine_tune(
            tiny_llama(),
            random_samples(8),
            **settings.arguments(),
            seed=0,
            folder=tmp_path / "cut",
            callbacks=[resumed, StopAt(4)],
        )
    fine_tune(
        tiny_llama(), random_samples(8), **settings.arguments(), seed=0, folder=tmp_path / "cut", callbacks=[resumed]
    )
    assert [step for step, _ in whole.points] == [0, 3, 5]
    assert resumed.points == whole.points


def test_a_checkpoint_without_the_curve(tmp_path: Path) -> None:
    trainer(tmp_path, tiny_llama(), [ValidationCurve(HELD_OUT, every=2)], **SAVING).train()
    (tmp_path / "checkpoint-6" / STATE_FILE).unlink()
    with pytest.raises(LwfError, match=rf"checkpoint-6: holds no {STATE_FILE}"):
        trainer(tmp_path, tiny_llama(), [ValidationCurve(HELD_OUT, every=2)], **SAVING).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-6")
        )


def test_settings_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="samples is empty"):
        ValidationCurve([], every=1)
    with pytest.raises(ValueError, match="at least 1 step; got 0"):
        ValidationCurve(HELD_OUT, every=0)
