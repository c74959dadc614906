"""Penalties on the learner's loss: their values and gradients by hand, and their place in the fine-tune."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from by_hand import ARCHITECTURES, distance, in_float64, same_bits, samples_of_all_lengths, tiny_model
from by_hand import weights as weights_of
from hypothesis import given, settings
from hypothesis import strategies as st
from penalty_settings import LEARNED, some_settings
from tiny import random_samples, tiny_llama
from torch import Tensor
from transformers import PreTrainedModel

from lwf_assets.engine.loss import token_losses
from lwf_assets.engine.samples import Sample, collate
from lwf_assets.engine.training.fine_tune import fine_tune
from lwf_assets.engine.training.penalties import L2SP, BatchSpectralShrinkage, Penalty
from lwf_assets.engine.training.penalties.batch_spectral_shrinkage import response_features, smallest_squares


def _value(penalty: Penalty, model: PreTrainedModel, samples: list[Sample]) -> Tensor:
    batch = collate(samples)
    with penalty.watching(model):
        token_losses(model, batch)
    return penalty.value(model, batch)


def _moved_llama(tied: bool = True) -> PreTrainedModel:
    model = tiny_llama(tied=tied)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_l2_sp_is_half_the_squared_distance_and_pulls_back(tied: bool) -> None:
    base, model = tiny_llama(tied=tied), _moved_llama(tied)
    penalty = L2SP(base, weight=0.3)
    value = _value(penalty, model, LEARNED)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0.15 * distance(weights_of(model), weights_of(base)) ** 2, rel=1e-5)
    value.backward()
    for (name, parameter), start in zip(model.named_parameters(), base.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, 0.3 * (parameter - start).detach(), msg=name)
    assert all(parameter.grad is None for parameter in base.parameters())


def test_l2_sp_holds_what_is_trainable() -> None:
    base, model = tiny_llama(), _moved_llama()
    for frozen in (base, model):
        frozen.model.embed_tokens.weight.requires_grad_(False)
    rest = [name for name, _ in base.named_parameters() if "embed" not in name]
    mine, theirs = ({name: weights_of(one)[name] for name in rest} for one in (model, base))
    assert _value(L2SP(base, weight=2.0), model, LEARNED).item() == pytest.approx(distance(mine, theirs) ** 2, rel=1e-5)


def test_l2_sp_keeps_a_copy_of_the_start(tmp_path: Path) -> None:
    """It may be handed the model that is trained."""
    model, apart = tiny_llama(), tiny_llama()
    fine_tune(
        model, LEARNED, **some_settings().arguments(), seed=0, folder=tmp_path / "same", penalty=L2SP(model, weight=5.0)
    )
    fine_tune(
        apart,
        LEARNED,
        **some_settings().arguments(),
        seed=0,
        folder=tmp_path / "apart",
        penalty=L2SP(tiny_llama(), weight=5.0),
    )
    assert same_bits(weights_of(model), weights_of(apart))


def test_l2_sp_keeps_the_model_near(tmp_path: Path) -> None:
    moved = []
    for weight in (None, 1.0, 100.0):
        model = tiny_llama()
        penalty = L2SP(model, weight=weight) if weight else None
        fine_tune(
            model,
            LEARNED,
            **some_settings(max_steps=20).arguments(),
            seed=0,
            folder=tmp_path / str(weight),
            penalty=penalty,
        )
        moved.append(distance(weights_of(model), weights_of(tiny_llama())))
    assert moved[0] > 1.2 * moved[1] > 1.5 * moved[2]


def test_l2_sp_of_bfloat16_weights_is_in_float32() -> None:
    base = tiny_llama().to(torch.bfloat16)
    model = copy.deepcopy(base)
    with torch.no_grad():
        model.model.norm.weight[0] = 300  # less 1: 299, which bfloat16 does not have
    assert _value(L2SP(base, weight=1.0), model, LEARNED).item() == 299**2 / 2


def _features_by_hand(model: PreTrainedModel, samples: list[Sample]) -> Tensor:
    """Of unpadded rows, one at a time; the states are read at the head's own input."""
    rows = []
    for sample in samples:
        seen: list[Tensor] = []
        handle = model.get_output_embeddings().register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(*inputs)
        )
        model(input_ids=torch.tensor([sample.prompt_ids + sample.response_ids]), use_cache=False)
        handle.remove()
        rows.append(seen[0][0, len(sample.prompt_ids) - 1 : -1].mean(dim=0))
    return torch.stack(rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("k", [1, 3, 99])
def test_bss_is_the_sum_of_the_smallest_squares(architecture: str, k: int) -> None:
    """Numpy's decomposition of features in double precision; the gradient by autograd through the determinant's kin:
    the eigenvalues of the Gram matrix, in double precision."""
    model, samples = tiny_model(architecture), samples_of_all_lengths(6)
    precise = in_float64(model)
    value = _value(BatchSpectralShrinkage(weight=0.5, k=k), model, samples)
    features = _features_by_hand(precise, samples)
    values = np.linalg.svd(features.detach().numpy(), compute_uv=False)
    assert value.item() == pytest.approx(0.5 * sum(sorted(values**2)[:k]), rel=1e-3)
    value.backward()
    (0.5 * torch.linalg.eigvalsh(features @ features.T)[:k].sum()).backward()
    mine = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    theirs = {name: p.grad for name, p in precise.named_parameters() if p.grad is not None}
    assert set(mine) == set(theirs)
    assert distance(mine, theirs) < 1e-3 * distance(theirs, {name: 0 * grad for name, grad in theirs.items()})


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), extra=st.integers(0, 20), pad_id=st.integers(0, 255), k=st.integers(1, 4))
def test_bss_feels_neither_padding_nor_the_order_of_rows(seed: int, extra: int, pad_id: int, k: int) -> None:
    model, samples = tiny_llama(), random_samples(4, seed=seed)
    penalty = BatchSpectralShrinkage(weight=1.0, k=k)
    length = max(map(len, samples)) + extra
    with torch.no_grad():
        plain = _value(penalty, model, samples)
        batch = collate(samples[::-1], pad_id=pad_id, length=length)
        with penalty.watching(model):
            token_losses(model, batch)
        assert penalty.value(model, batch).item() == pytest.approx(plain.item(), rel=1e-3)


def test_features_are_of_a_samples_own_positions() -> None:
    """What stands at prompts, padding, others' responses or behind the last prediction could be anything."""
    batch = collate([Sample([1, 2, 3], [4, 5]), Sample([1], [2]), Sample([1, 2], [3])])
    states = torch.full((3, 5, 2), float("nan"))
    states[0, 2], states[0, 3] = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])
    states[1, 0] = torch.tensor([5.0, 7.0])
    states[2, 1] = torch.tensor([8.0, 9.0])
    expected = torch.tensor([[2.0, 4.0], [5.0, 7.0], [8.0, 9.0]])
    assert torch.equal(response_features(states, batch), expected)
    assert torch.equal(response_features(states[:, :4], batch), expected)  # where a head was given these alone
    assert torch.equal(response_features(states.bfloat16(), batch), expected)
    assert response_features(states.bfloat16(), batch).dtype == torch.float32


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("values", [[5, 3, 2, 1], [4, 1, 1, 1], [2, 2, 2, 2], [3, 1, 0, 0]], ids=str)
def test_the_gradient_where_singular_values_repeat_or_vanish(values: list[int], k: int) -> None:
    """Central differences along random directions. Where a repeated value is cut in two, the sum has a kink: there the
    gradient must be one of those in between (concave: at least the difference forwards, at most the one backwards)."""
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64))
    features = (left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right[:4]).requires_grad_(True)
    smallest_squares(features, k).backward()
    assert torch.isfinite(features.grad).all()

    def at(step: float, direction: Tensor) -> float:
        moved = (features.detach() + step * direction).numpy()
        return float(sum(sorted(np.linalg.svd(moved, compute_uv=False) ** 2)[:k]))

    for _ in range(5):
        direction = torch.randn(4, 7, generator=generator, dtype=torch.float64)
        slope = (features.grad * direction).sum().item()
        forwards = (at(1e-6, direction) - at(0, direction)) / 1e-6
        backwards = (at(0, direction) - at(-1e-6, direction)) / 1e-6
        assert forwards - 1e-3 <= slope <= backwards + 1e-3
        if k == 4 or values[4 - k] != values[3 - k]:
            assert slope == pytest.approx((forwards + backwards) / 2, abs=1e-3)


def test_bss_under_autocast_is_in_float32() -> None:
    model, batch = tiny_llama(), collate(LEARNED)
    penalty = BatchSpectralShrinkage(weight=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        with penalty.watching(model):
            token_losses(model, batch)
        value = penalty.value(model, batch)
    assert value.dtype == torch.float32
    with torch.no_grad():
        assert value.item() == pytest.approx(_value(penalty, model, LEARNED).item(), rel=0.1)


def test_bss_leaves_no_hook_and_remembers_no_pass() -> None:
    model, penalty = tiny_llama(), BatchSpectralShrinkage()
    _value(penalty, model, LEARNED)
    assert not model.lm_head._forward_pre_hooks
    with pytest.raises(ValueError, match="saw no forward pass"):
        penalty.value(model, collate(LEARNED))
    with pytest.raises(RuntimeError, match="in the pass"), penalty.watching(model):
        raise RuntimeError("in the pass")
    assert not model.lm_head._forward_pre_hooks


def test_bss_shrinks_what_it_is_about(tmp_path: Path) -> None:
    left = []
    for weight in (None, 10.0):
        model = tiny_llama()
        penalty = BatchSpectralShrinkage(weight=weight) if weight else None
        settings = some_settings(max_steps=20, batch_size=8)
        fine_tune(model, LEARNED, **settings.arguments(), seed=0, folder=tmp_path / str(weight), penalty=penalty)
        with torch.no_grad():
            left.append(_value(BatchSpectralShrinkage(weight=1.0), model.eval(), LEARNED).item())
    assert left[1] < 0.5 * left[0]


def test_settings_that_mean_nothing() -> None:
    for weight in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="weight of L2-SP must be positive"):
            L2SP(tiny_llama(), weight=weight)
        with pytest.raises(ValueError, match="weight of batch spectral shrinkage must be positive"):
            BatchSpectralShrinkage(weight=weight)
    with pytest.raises(ValueError, match="k of batch spectral shrinkage must be at least 1"):
        BatchSpectralShrinkage(k=0)
    with pytest.raises(ValueError, match="no parameter is trainable"):
        L2SP(tiny_llama().requires_grad_(False), weight=1.0)
    assert (BatchSpectralShrinkage().weight, BatchSpectralShrinkage().k) == (1e-3, 1)
