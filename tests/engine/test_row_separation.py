"""A model that gives other values in a padded batch, or in a batch of any kind, than for one sample."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from by_hand import (
    ARCHITECTURES,
    error_of_fisher,
    error_of_terms,
    in_float64,
    loss_by_hand,
    samples_of_all_lengths,
    tiny_model,
)
from odd_models import operations, rows, tied
from odd_models.causal import Causal, build, samples_of

from lwf_assets.engine.evaluation.memorization import memorisation
from lwf_assets.engine.loss import negative_log_likelihoods, sample_losses
from lwf_assets.engine.row_separation import RowSeparation, check_row_separation, row_separation
from lwf_assets.engine.samples import batches_by_length, collate

SAMPLES = samples_of((3, 5), (1, 1), (4, 2), (0, 8), (9, 1), (1, 3), (2, 6), (6, 4))

FOUND = {
    rows.IgnoresTheMask: RowSeparation.EQUAL,
    rows.MixesRows: RowSeparation.NONE,
    tied.Shared: RowSeparation.ANY,
    operations.Recurrent: RowSeparation.ANY,
}


@pytest.mark.parametrize("kind", FOUND)
def test_what_a_batch_may_have_is_found_and_said_once(kind: type[Causal], caplog: pytest.LogCaptureFixture) -> None:
    model = build(kind).train()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert check_row_separation(model, SAMPLES) is FOUND[kind]
    assert row_separation(model) is FOUND[kind]
    assert model.training
    assert len(caplog.records) == (FOUND[kind] is not RowSeparation.ANY)
    assert all(f"have {FOUND[kind].value} from here on" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_common_architectures_take_any_batch(architecture: str, dtype: torch.dtype) -> None:
    model = tiny_model(architecture).to(dtype)
    assert check_row_separation(model, samples_of_all_lengths(4)) is RowSeparation.ANY


@pytest.mark.parametrize("kind", [rows.IgnoresTheMask, rows.MixesRows])
def test_fisher_and_terms_are_those_of_single_samples(kind: type[Causal]) -> None:
    assert error_of_fisher(build(kind), SAMPLES) <= 1e-5
    assert error_of_terms(build(kind), SAMPLES) <= 1e-5


@pytest.mark.parametrize("kind", [rows.IgnoresTheMask, rows.MixesRows])
def test_losses_and_their_gradients_are_those_of_single_samples(kind: type[Causal]) -> None:
    model = build(kind)
    precise = in_float64(model)
    expected = [loss_by_hand(precise, sample).item() for sample in SAMPLES]
    assert negative_log_likelihoods(model, SAMPLES) == pytest.approx(expected, rel=1e-5)
    assert [one.nll for one in memorisation(copy.deepcopy(model), SAMPLES)] == pytest.approx(expected, rel=1e-5)
    losses = sample_losses(model, collate(SAMPLES))  # as a training step has them
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    torch.autograd.backward(losses.sum())
    torch.autograd.backward(sum(loss_by_hand(precise, sample) for sample in SAMPLES))
    for (name, parameter), exact in zip(model.named_parameters(), precise.parameters(), strict=True):
        assert (parameter.grad - exact.grad).norm() <= 1e-5 * exact.grad.norm(), name


def test_a_single_sample_needs_no_check() -> None:
    model = build(rows.MixesRows)
    assert check_row_separation(model, SAMPLES[:1]) is RowSeparation.ANY
    assert check_row_separation(model, SAMPLES) is RowSeparation.NONE


def test_equal_batches_have_one_length_each() -> None:
    batches = list(batches_by_length(SAMPLES, equal=True))
    assert sorted(index for batch in batches for index in batch) == list(range(len(SAMPLES)))
    assert all(len({len(SAMPLES[index]) for index in batch}) == 1 for batch in batches)
    assert len(batches) == len({len(sample) for sample in SAMPLES})
