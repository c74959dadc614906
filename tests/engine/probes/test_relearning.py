"""Learning again, against loops over samples and tokens."""

from __future__ import annotations

import pytest
import torch
from by_hand import in_float64, loss_by_hand, samples_of_all_lengths, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_samples, tiny_llama

from lwf_assets.engine.loss import response_logits
from lwf_assets.engine.probes.relearning import relearning_curve
from lwf_assets.engine.samples import collate, seeded_batch

FORGOTTEN = random_samples(7, seed=7)


@pytest.mark.parametrize("dropout", [False, True])
def test_the_curve_is_that_of_adam_by_hand(dropout: bool) -> None:
    """In double precision, from Adam's formula, one sample at a time."""
    samples = random_samples(7, seed=7, vocabulary=60)
    model = tiny_model("gpt2" if dropout else "llama")
    precise = in_float64(model)
    if dropout:
        model.train()
    curve = relearning_curve(model, samples, steps=4, learning_rate=3e-3, batch_size=3, seed=5)
    assert model.training == dropout
    assert all(parameter.grad is None for parameter in model.parameters())

    def mean() -> float:
        with torch.no_grad():
            return sum(loss_by_hand(precise, sample).item() for sample in samples) / 7

    expected = [mean()]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in precise.parameters()]
    for step in range(1, 5):
        precise.zero_grad()
        (sum(loss_by_hand(precise, samples[n]) for n in seeded_batch(7, 3, step - 1, 5)) / 3).backward()
        with torch.no_grad():
            for parameter, (first, second) in zip(precise.parameters(), moments, strict=True):
                first.mul_(0.9).add_(0.1 * parameter.grad)
                second.mul_(0.999).add_(0.001 * parameter.grad**2)
                parameter -= 3e-3 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        expected.append(mean())
    assert curve == pytest.approx(expected, rel=1e-4)
    assert curve[-1] < 0.95 * curve[0]


def test_the_seed_deals_the_batches() -> None:
    def curve(seed: int) -> list[float]:
        return relearning_curve(tiny_llama(), FORGOTTEN, steps=2, learning_rate=1e-2, batch_size=2, seed=seed)

    assert curve(0) == curve(0)
    assert curve(0)[0] == curve(1)[0]
    assert curve(0)[1:] != curve(1)[1:]


def test_no_step_is_a_look_alone() -> None:
    model = tiny_llama()
    before = [parameter.clone() for parameter in model.parameters()]
    assert len(relearning_curve(model, FORGOTTEN, steps=0, learning_rate=1e-2, batch_size=2, seed=0)) == 1
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_what_cannot_be_learned_again() -> None:
    fitting = {"steps": 1, "learning_rate": 1e-3, "batch_size": 2, "seed": 0}
    with pytest.raises(ValueError, match="samples is empty"):
        relearning_curve(tiny_llama(), [], **fitting)
    for wrong in ({"steps": -1}, {"batch_size": 0}, {"learning_rate": 0.0}):
        with pytest.raises(ValueError, match="steps must be at least 0"):
            relearning_curve(tiny_llama(), FORGOTTEN, **fitting | wrong)
    with pytest.raises(ValueError, match="none of its parameters"):
        relearning_curve(tiny_llama().requires_grad_(False), FORGOTTEN, **fitting)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_response_logits_are_those_of_the_whole_row(architecture: str) -> None:
    model, samples = tiny_model(architecture), samples_of_all_lengths(8)
    logits, tokens, counted = response_logits(model, collate(samples))
    rows = counted.nonzero()[:, 0]
    assert tokens.tolist() == [token for sample in samples for token in sample.response_ids]
    assert rows.tolist() == [row for row, sample in enumerate(samples) for _ in sample.response_ids]
    for row, sample in enumerate(samples):
        alone = model(input_ids=torch.tensor([sample.prompt_ids + sample.response_ids]), use_cache=False).logits[0]
        torch.testing.assert_close(logits[rows == row], alone[len(sample.prompt_ids) - 1 : -1], atol=1e-5, rtol=1e-5)


@settings(max_examples=50)
@given(count=st.integers(1, 30), batch_size=st.integers(1, 35), seed=st.integers(0, 99))
def test_everyone_has_a_turn_before_anyone_has_two(count: int, batch_size: int, seed: int) -> None:
    batches = max(1, count // batch_size)
    dealt = [seeded_batch(count, batch_size, number, seed) for number in range(batches)]
    turns = [index for batch in dealt for index in batch]
    assert all(len(batch) == min(batch_size, count) for batch in dealt)
    assert len(set(turns)) == len(turns)
    assert set(turns) <= set(range(count))
