"""The fine-tune: that it learns, what stops it, and that a killed one ends where an unharmed one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import in_float64, loss_by_hand, same_bits, tiny_model, weights
from places import SUPPORT
from tiny import load_tiny, random_samples, tiny_llama
from trainers import Poison, Snapshots, StopAt, StoppedError
from transformers import PreTrainedModel, TrainerCallback

from lwf_assets.disk.sums import is_as_summed, write_sums
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.training.fine_tune import LossPoint, fine_tune, newest_whole_checkpoint
from lwf_assets.engine.unlearning.periodic import PeriodicUnlearning
from lwf_assets.errors import LwfError
from lwf_assets.progress import Silent
from lwf_assets.study.sections import TrainingSettings

LEARNED, FORGOTTEN = random_samples(12, seed=1), random_samples(5, seed=2)


def _settings(**settings: Any) -> TrainingSettings:
    defaults = {"max_steps": 10, "batch_size": 4, "learning_rate": 3e-3, "autocast": "off", "checkpoint_every": 3}
    return TrainingSettings(**defaults | settings)


def _unlearning() -> PeriodicUnlearning:
    return PeriodicUnlearning(FORGOTTEN, interval=2, forgetting_rate=1e-3, batch_size=3, per_sample_cap=9.0)


def train_tiny(folder: Path, callbacks: list[TrainerCallback]) -> tuple[PreTrainedModel, list[LossPoint]]:
    """The run that gets killed; also called by the processes that kill themselves."""
    torch.set_num_threads(1)
    model = tiny_llama()
    curve = fine_tune(model, LEARNED, **_settings().arguments(), seed=4, folder=folder, callbacks=callbacks)
    return model, curve


class KillAtStep(TrainerCallback):
    """No chance to clean up."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 8:
            os.kill(os.getpid(), signal.SIGKILL)


class KillInTheSecondCheckpoint(TrainerCallback):
    """Trainer has written its part of checkpoint-6, the callbacks behind this one have not written theirs."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 6:
            os.kill(os.getpid(), signal.SIGKILL)


def test_after_mixed_precision_the_model_computes_in_its_own_again(tmp_path: Path) -> None:
    model = tiny_llama()
    fine_tune(model, LEARNED, **_settings(autocast="bfloat16").arguments(), seed=0, folder=tmp_path / "training")
    model.save_pretrained(tmp_path / "model")
    found = negative_log_likelihoods(model, LEARNED)
    assert found == negative_log_likelihoods(load_tiny(tmp_path / "model"), LEARNED)


def test_learns(tmp_path: Path) -> None:
    model = tiny_llama()
    before = negative_log_likelihoods(model, LEARNED)
    curve = fine_tune(
        model, LEARNED, **_settings(max_steps=40, learning_rate=1e-2).arguments(), seed=0, folder=tmp_path
    )
    assert sum(negative_log_likelihoods(model, LEARNED)) < 0.6 * sum(before)
    assert [point.step for point in curve] == list(range(1, 41))
    assert curve[-1].loss < 0.7 * curve[0].loss
    assert curve[0].learning_rate == pytest.approx(1e-2)
    assert curve[-1].learning_rate == pytest.approx(1e-2 / 40)
    assert all(point.gradient_norm > 0 for point in curve)


def test_the_curve_is_the_loss_of_the_response_tokens(tmp_path: Path) -> None:
    """With one batch of everything: the mean over all response tokens at the weights before each step."""
    model, snapshots = tiny_llama(), Snapshots()
    curve = fine_tune(
        model,
        LEARNED,
        **_settings(max_steps=3, batch_size=12).arguments(),
        seed=0,
        folder=tmp_path,
        callbacks=[snapshots],
    )
    tokens = sum(len(sample.response_ids) for sample in LEARNED)
    for point in curve:
        model.load_state_dict(snapshots.at[point.step - 1], strict=False)
        precise = in_float64(model)
        with torch.no_grad():
            total = sum(loss_by_hand(precise, sample, "sum").item() for sample in LEARNED)
        assert point.loss == pytest.approx(total / tokens, rel=1e-4)


def test_the_seed_orders_the_samples(tmp_path: Path) -> None:
    def trained(seed: int) -> dict[str, torch.Tensor]:
        model = tiny_llama()
        fine_tune(
            model, LEARNED, **_settings(max_steps=3).arguments(), seed=seed, folder=tmp_path / str(torch.rand(1).item())
        )
        return weights(model)

    first = trained(0)
    assert same_bits(trained(0), first)
    assert not same_bits(trained(1), first)


def test_epochs_count_passes_over_the_samples(tmp_path: Path) -> None:
    curve = fine_tune(tiny_llama(), LEARNED, **_settings(max_steps=None, epochs=2).arguments(), seed=0, folder=tmp_path)
    assert len(curve) == 2 * 12 / 4


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(LwfError, match="no training rows"):
        fine_tune(tiny_llama(), [], **_settings().arguments(), seed=0, folder=tmp_path)


@pytest.mark.parametrize(("poisoned_after", "step"), [(0, 1), (4, 5)])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(
    tmp_path: Path, poisoned_after: int, step: int
) -> None:
    with pytest.raises(LwfError, match=rf"learning loss became nan at step {step}; .*learning_rate \(0.003\)"):
        fine_tune(
            tiny_llama(),
            LEARNED,
            **_settings().arguments(),
            seed=0,
            folder=tmp_path,
            callbacks=[Poison(poisoned_after)],
        )


class _Recorder(Silent):
    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.advanced = 0
        self.points: dict[int, dict[str, float]] = {}

    def begin(self, label: str, total: int) -> None:
        self.begun.append((label, total))

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount

    def metrics(self, step: int, values: Any) -> None:
        self.points[step] = dict(values)


def test_progress_is_told_and_stdout_is_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    progress = _Recorder()
    with pytest.raises(StoppedError):
        fine_tune(tiny_llama(), LEARNED, **_settings().arguments(), seed=0, folder=tmp_path, callbacks=[StopAt(7)])
    curve = fine_tune(
        tiny_llama(),
        LEARNED,
        **_settings().arguments(),
        seed=0,
        folder=tmp_path,
        progress=progress,
        label="Reference fine-tune",
    )
    assert progress.begun == [("Reference fine-tune", 10)]
    assert progress.advanced == 10  # six of them at once: they were done before
    assert sorted(progress.points) == [7, 8, 9, 10]
    assert progress.points[9]["learning/loss"] == curve[8].loss
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, architecture: str) -> None:
    """GPT-2 has dropout: the draws go on as well."""
    learned = random_samples(12, seed=1, vocabulary=60)
    whole, resumed = tiny_model(architecture), tiny_model(architecture, seed=1)
    expected = fine_tune(whole, learned, **_settings().arguments(), seed=0, folder=tmp_path / "whole")
    with pytest.raises(StoppedError):
        fine_tune(
            tiny_model(architecture),
            learned,
            **_settings().arguments(),
            seed=0,
            folder=tmp_path / "cut",
            callbacks=[StopAt(8)],
        )
    curve = fine_tune(resumed, learned, **_settings().arguments(), seed=0, folder=tmp_path / "cut")
    assert same_bits(weights(resumed), weights(whole))
    assert curve == expected


@pytest.mark.parametrize(("killer", "left"), [("KillAtStep", [3, 6]), ("KillInTheSecondCheckpoint", [3])])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, killer: str, left: list[int]) -> None:
    script = (
        "import sys; from pathlib import Path; import test_fine_tune as t; "
        f"t.train_tiny(Path(sys.argv[1]), [t.{killer}(), t._unlearning()])"
    )
    paths = os.pathsep.join(str(path) for path in (Path(__file__).parent, SUPPORT))
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "killed")],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    whole = {int(path.name.split("-")[1]) for path in (tmp_path / "killed").glob("checkpoint-*") if is_as_summed(path)}
    assert whole == set(left)
    assert (tmp_path / "killed" / "checkpoint-6" / "model.safetensors").is_file()

    unharmed, unlearning = _unlearning(), _unlearning()
    expected, expected_curve = train_tiny(tmp_path / "unharmed", [unharmed])
    model, curve = train_tiny(tmp_path / "killed", [unlearning])
    assert same_bits(weights(model), weights(expected))
    assert unlearning.ledger == unharmed.ledger
    assert len(unlearning.ledger) == 5 * 3  # after steps 2, 4, 6, 8 and 10
    assert curve == expected_curve


def test_newest_whole_checkpoint_removes_the_halves(tmp_path: Path) -> None:
    assert newest_whole_checkpoint(tmp_path / "nothing") is None
    for step, is_whole in ((900, True), (1000, True), (1100, False), (50, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        if is_whole:
            write_sums(folder)
    assert newest_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1000")  # by number, not by name
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-900", "checkpoint-1000"}
    for step in (900, 1000):
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"Weights")  # one bit of it
    assert newest_whole_checkpoint(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_two_checkpoints_are_kept_and_none_of_the_finished_run(tmp_path: Path) -> None:
    fine_tune(tiny_llama(), LEARNED, **_settings(max_steps=12).arguments(), seed=0, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-9"]
