"""Random noise on the weights: how much, when, on what, and the same again after a resume."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from by_hand import distance, same_bits, tiny_model, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from tiny import random_samples, tiny_llama
from trainers import Snapshots, StopAt, StoppedError, trainer

from lwf_assets.engine.training.weight_noise import WeightNoise, add_noise
from lwf_assets.errors import LwfError

SAVING = {"max_steps": 7, "save_strategy": "steps", "save_steps": 3}


@settings(max_examples=15)
@given(norm=st.floats(1e-3, 100), seed=st.integers(0, 2**40))
def test_the_norm_is_exact(norm: float, seed: int) -> None:
    model = tiny_llama()
    before = weights(model)
    add_noise(list(model.parameters()), norm, seed=seed)
    assert distance(weights(model), before) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("norm", [0.005, 0.02, 1.0, 30.0])
def test_the_norm_is_that_of_what_rounding_leaves(norm: float) -> None:
    """A bfloat16 weight of 0.02 has steps of 1e-4: most noise of norm 0.02 over 30,000 weights would vanish."""
    model = tiny_llama().to(torch.bfloat16)
    before = weights(model)
    add_noise(list(model.parameters()), norm, seed=0)
    assert distance(weights(model), before) == pytest.approx(norm, rel=2e-4)


def test_the_noise_is_normal_and_as_large_everywhere() -> None:
    model = tiny_llama()
    before = weights(model)
    add_noise(list(model.parameters()), 5.0, seed=1)
    count = sum(value.numel() for value in before.values())
    for name, value in weights(model).items():
        noise = (value.double() - before[name].double()).flatten() / (5.0 / math.sqrt(count))
        if noise.numel() > 500:
            assert kstest(noise.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("tied", [True, False])
def test_all_trainable_weights_move_and_no_other(tmp_path: Path, tied: bool) -> None:
    model = tiny_llama(tied=tied)
    frozen = [name for name, _ in model.named_parameters() if "mlp" in name]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    before, snapshots = weights(model), Snapshots()
    trainer(tmp_path, model, [WeightNoise({0: 2.0}), snapshots], max_steps=1).train()
    assert distance(snapshots.at[0], before) == pytest.approx(2.0, rel=1e-5)
    assert all(torch.equal(before[name], snapshots.at[0][name]) == (name in frozen) for name in before)


def test_noise_comes_at_its_steps_alone(tmp_path: Path) -> None:
    """At a rate that moves nothing, all that moves is noise; three bits of it come before the first step."""
    model, before, after = tiny_llama(), Snapshots(), Snapshots()
    start = weights(model)
    noise = WeightNoise({-1: 0.3, 0: 0.4, 2: 0.5, 3: 0.0, 5: 0.25})
    trainer(tmp_path, model, [before, noise, after], learning_rate=1e-30).train()
    added = {step: distance(after.at[step], before.at[step]) for step in range(7)}
    assert added == pytest.approx({0: 0.5, 1: 0, 2: 0.5, 3: 0, 4: 0, 5: 0.25, 6: 0}, rel=0.02)  # 0.3 and 0.4: at angles
    alone = tiny_llama()
    for step, norm in ((-1, 0.3), (0, 0.4)):
        add_noise(list(alone.parameters()), norm, seed=f"0/{step}")
    assert distance(weights(alone), after.at[0]) == 0
    assert distance(start, before.at[0]) == 0


def _noised(seed: int) -> dict[str, torch.Tensor]:
    model = tiny_llama()
    add_noise(list(model.parameters()), 1.0, seed=seed)
    return weights(model)


def test_seed_and_step_decide() -> None:
    torch.manual_seed(4)
    state = torch.get_rng_state()
    first = _noised(0)
    torch.set_rng_state(state)
    model = tiny_llama()
    global_state = torch.get_rng_state()
    add_noise(list(model.parameters()), 1.0, seed=0)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert same_bits(_noised(0), first)
    assert distance(_noised(1), first) > 1.3  # independent: at a right angle


def test_two_steps_have_noise_of_their_own(tmp_path: Path) -> None:
    before, after = Snapshots(), Snapshots()
    trainer(
        tmp_path, tiny_llama(), [before, WeightNoise({1: 1.0, 2: 1.0}), after], max_steps=2, learning_rate=1e-30
    ).train()
    steps = [{name: after.at[n][name] - before.at[n][name] for name in after.at[n]} for n in (1, 2)]
    assert distance(*steps) == pytest.approx(math.sqrt(2), rel=0.05)


def test_dropout_draws_are_not_disturbed(tmp_path: Path) -> None:
    results = []
    for callbacks in ([], [WeightNoise({0: 1e-30, 2: 1e-30})]):
        model = tiny_model("gpt2")
        used = trainer(tmp_path, model, callbacks)
        used.train_dataset = random_samples(8, vocabulary=60)
        used.train()
        results.append(weights(model))
    assert same_bits(*results)


@pytest.mark.parametrize("norms", [{0: 0.5, -1: 0.5}, {2: 0.5, 3: 0.5, 5: 0.5, 7: 0.5}], ids=["upfront", "periodic"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, norms: dict[int, float]) -> None:
    """Resumed at a step that had noise, and again before one that will have it."""
    whole, resumed = tiny_llama(), tiny_llama(seed=5)
    trainer(tmp_path / "whole", whole, [WeightNoise(norms, seed=3)], **SAVING).train()
    with pytest.raises(StoppedError):
        trainer(tmp_path / "cut", tiny_llama(), [WeightNoise(norms, seed=3), StopAt(5)], **SAVING).train()
    trainer(tmp_path / "cut", resumed, [WeightNoise(norms, seed=3)], **SAVING).train(
        resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-3")
    )
    assert same_bits(weights(resumed), weights(whole))


def test_norms_that_mean_nothing(tmp_path: Path) -> None:
    for norm in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="noise at step 4 must be finite and at least 0"):
            WeightNoise({1: 1.0, 4: norm})
    with pytest.raises(LwfError, match="due after step 7, but the training has 6 steps"):
        trainer(tmp_path, tiny_llama(), [WeightNoise({7: 1.0})]).train()
