"""Penalties during a fine-tune: gradient, curve, resume, errors."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import distance, in_float64, loss_by_hand, same_bits
from by_hand import weights as weights_of
from penalty_settings import LEARNED, some_settings
from tiny import tiny_llama
from torch import Tensor
from trainers import Snapshots, StopAt, StoppedError
from transformers import PreTrainedModel

from lwf_assets.engine.samples import Batch
from lwf_assets.engine.training.fine_tune import fine_tune
from lwf_assets.engine.training.penalties import L2SP, BatchSpectralShrinkage
from lwf_assets.errors import LwfError
from lwf_assets.progress import Silent


class _Recorder(Silent):
    def __init__(self) -> None:
        self.points: dict[int, dict[str, float]] = {}

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.points[step] = dict(values)


class _Constant:
    """A penalty with a known gradient: `slope` times the sum of all weights, and the number of a batch's rows."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def watching(self, model: PreTrainedModel) -> Any:
        return nullcontext()

    def value(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        return self.slope * sum(parameter.sum() for parameter in model.parameters()) + len(batch.input_ids)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("loss_kwargs", [True, False], ids=["scaled-here", "scaled-by-trainer"])
def test_the_gradient_is_that_of_the_loss_and_once_the_penalty(
    tmp_path: Path, accumulation: int, loss_kwargs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read off where Trainer is about to step, from one step over all samples."""
    gradients: dict[str, Tensor] = {}

    class _Reads(Snapshots):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            gradients.update({name: p.grad.clone() for name, p in kwargs["model"].named_parameters()})

    model = tiny_llama()
    monkeypatch.setattr(type(model), "accepts_loss_kwargs", loss_kwargs, raising=False)
    settings = some_settings(max_steps=1, batch_size=8 // accumulation, gradient_accumulation=accumulation)
    progress = _Recorder()
    settings = settings.model_copy(update={"max_gradient_norm": 1e9})
    curve = fine_tune(
        model,
        [LEARNED[1]] * 8,  # alike, so that the mean over tokens and the mean over batches are the same
        **settings.arguments(),
        seed=0,
        folder=tmp_path,
        callbacks=[_Reads()],
        penalty=_Constant(0.25),
        progress=progress,
    )
    precise = in_float64(tiny_llama())
    loss = loss_by_hand(precise, LEARNED[1])
    loss.backward()
    expected = {name: parameter.grad + 0.25 for name, parameter in precise.named_parameters()}
    assert distance(gradients, expected) < 1e-4 * distance(expected, {n: 0 * g for n, g in expected.items()})
    assert curve[0].loss == pytest.approx(loss.item(), rel=1e-5)
    total = sum(parameter.double().sum().item() for parameter in tiny_llama().parameters())
    assert progress.points[1]["learning/loss"] == curve[0].loss
    assert progress.points[1]["learning/penalty"] == pytest.approx(0.25 * total + 8 / accumulation, rel=1e-4)


def test_the_curve_is_the_learning_loss_alone(tmp_path: Path) -> None:
    """At a rate that moves nothing, with and without a penalty that dwarfs the loss."""
    settings = some_settings(learning_rate=1e-30, log_every=2)
    progress = [_Recorder(), _Recorder()]
    curves = [
        fine_tune(
            tiny_llama(),
            LEARNED,
            **settings.arguments(),
            seed=0,
            folder=tmp_path / str(number),
            penalty=penalty,
            progress=progress[number],
        )
        for number, penalty in enumerate([None, BatchSpectralShrinkage(weight=1e6)])
    ]
    assert [point.loss for point in curves[0]] == [point.loss for point in curves[1]]
    assert all("learning/penalty" not in values for values in progress[0].points.values())
    assert sorted(progress[1].points) == [2, 4]
    assert progress[1].points[2]["learning/penalty"] > 1e3


def test_each_point_is_told_the_penalty_since_the_last_one(tmp_path: Path) -> None:
    snapshots, progress = Snapshots(), _Recorder()
    model = tiny_llama()
    penalty = L2SP(model, weight=3.0)
    settings = some_settings(log_every=2)
    fine_tune(
        model,
        LEARNED,
        **settings.arguments(),
        seed=0,
        folder=tmp_path,
        callbacks=[snapshots],
        penalty=penalty,
        progress=progress,
    )
    at = [1.5 * distance(snapshots.at[step], snapshots.at[0]) ** 2 for step in range(4)]  # before steps 1 to 4
    told = {step: values["learning/penalty"] for step, values in progress.points.items()}
    assert told == pytest.approx({2: (at[0] + at[1]) / 2, 4: (at[2] + at[3]) / 2}, rel=1e-4)


def test_no_penalty_is_a_penalty_without_gradient(tmp_path: Path) -> None:
    plain, penalised = tiny_llama(), tiny_llama()
    fine_tune(plain, LEARNED, **some_settings().arguments(), seed=0, folder=tmp_path / "plain")
    fine_tune(
        penalised, LEARNED, **some_settings().arguments(), seed=0, folder=tmp_path / "penalised", penalty=_Constant(0.0)
    )
    assert same_bits(weights_of(plain), weights_of(penalised))


@pytest.mark.parametrize("kind", ["l2_sp", "bss"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, kind: str) -> None:
    def run(folder: str, callbacks: list[Any]) -> tuple[PreTrainedModel, Any]:
        model = tiny_llama()
        penalty = L2SP(model, weight=3.0) if kind == "l2_sp" else BatchSpectralShrinkage(weight=0.1, k=2)
        settings = some_settings(max_steps=6, gradient_accumulation=2, batch_size=2)
        curve = fine_tune(
            model,
            LEARNED,
            **settings.arguments(),
            seed=0,
            folder=tmp_path / folder,
            callbacks=callbacks,
            penalty=penalty,
        )
        return model, curve

    whole, expected = run("whole", [])
    with pytest.raises(StoppedError):
        run("cut", [StopAt(5)])
    resumed, curve = run("cut", [])
    assert same_bits(weights_of(resumed), weights_of(whole))
    assert curve == expected


def test_a_penalty_that_is_no_number_stops_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(LwfError, match=r"the penalty on the learning loss became inf at step 1; .*\(0.003\)"):
        fine_tune(
            tiny_llama(),
            LEARNED,
            **some_settings().arguments(),
            seed=0,
            folder=tmp_path,
            penalty=L2SP(_far(), weight=1.0),
        )


def _far() -> PreTrainedModel:
    model = tiny_llama()
    with torch.no_grad():
        model.model.norm.weight.fill_(1e30)
    return model
