"""The loss of a sample against transformers' own, and what must not change it."""

from __future__ import annotations

import pytest
import torch
from by_hand import ARCHITECTURES, in_float64, loss_by_hand, samples_of_all_lengths, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_samples, tiny_llama

from lwf_assets.engine.loss import negative_log_likelihoods, sample_losses
from lwf_assets.engine.samples import Batch, collate


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_loss_of_transformers(architecture: str) -> None:
    model = tiny_model(architecture)
    with torch.no_grad():
        for sample in samples_of_all_lengths():
            batch = collate([sample])
            own = sample_losses(model, batch)
            theirs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
            assert own.shape == (1,)
            assert own.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_rows_of_a_batch_equal_single_rows(architecture: str, reduction: str) -> None:
    model, samples = tiny_model(architecture), samples_of_all_lengths(8)
    precise = in_float64(model)
    with torch.no_grad():
        losses = sample_losses(model, collate(samples), reduction=reduction)
        expected = [loss_by_hand(precise, sample, reduction).item() for sample in samples]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=20)
@given(extra=st.integers(0, 30), pad_id=st.integers(0, 255), seed=st.integers(0, 1000))
def test_padding_does_not_count(extra: int, pad_id: int, seed: int) -> None:
    """Neither how much of it there is, nor which token it is made of."""
    model, batch = tiny_llama(), collate(random_samples(4, seed=seed))

    def wider(tensor: torch.Tensor, value: int) -> torch.Tensor:
        return torch.nn.functional.pad(tensor, (0, extra), value=value)

    padded = Batch(
        wider(batch.input_ids, 0).where(wider(batch.attention_mask, 0).bool(), torch.tensor(pad_id)),
        wider(batch.attention_mask, 0),
        wider(batch.labels, -100),
    )
    with torch.no_grad():
        assert torch.allclose(sample_losses(model, padded), sample_losses(model, batch), rtol=1e-5)


def test_the_loss_of_bfloat16_weights_is_in_float32() -> None:
    model = tiny_llama().to(torch.bfloat16)
    losses = sample_losses(model, collate(random_samples(3)))
    assert losses.dtype == torch.float32
    assert losses.requires_grad


@settings(max_examples=15)
@given(count=st.integers(1, 9), token_budget=st.integers(1, 200), seed=st.integers(0, 1000))
def test_likelihoods_keep_the_order_of_the_samples(count: int, token_budget: int, seed: int) -> None:
    model, samples = tiny_llama(), random_samples(count, seed=seed)
    precise = in_float64(model)
    expected = [loss_by_hand(precise, sample).item() for sample in samples]
    assert negative_log_likelihoods(model, samples, token_budget=token_budget) == pytest.approx(expected, rel=1e-5)


def test_likelihoods_of_nothing() -> None:
    assert negative_log_likelihoods(tiny_llama(), []) == []
