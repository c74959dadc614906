"""Noise from hashes: it has the law that it should have, and two tokens, steps or prompts share none of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lwf_assets.engine.generation.draws import Draws, draw_keys, gumbel, numbers_of

VOCABULARY = 49152
PROMPTS = st.lists(st.integers(0, 70000), min_size=1, max_size=6)


def _noise(keys: list[int], vocabulary: int = VOCABULARY) -> torch.Tensor:
    """The noise of each step of one row, by token."""
    draws = Draws(torch.tensor([keys]), prompt_tokens=1)
    zeros = torch.zeros(1, vocabulary)
    return torch.cat([draws(torch.zeros(1, 1 + step, dtype=torch.long), zeros) for step in range(len(keys))])


def test_the_noise_is_gumbel_noise() -> None:
    noise = _noise(draw_keys(0, [1], 0, 10)).double().flatten().numpy()
    assert stats.kstest(noise, stats.gumbel_r.cdf).pvalue > 0.001
    largest = _noise(draw_keys(1, [1], 0, 400)).max(dim=1).values.double() - np.log(VOCABULARY)
    assert stats.kstest(largest.numpy(), stats.gumbel_r.cdf).pvalue > 0.001  # the tail, which alone decides


def test_noise_is_shared_by_no_two_tokens_steps_or_prompts() -> None:
    rows = [
        _noise(draw_keys(seed, [prompt], number, 3))
        for seed, prompt, number in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]
    ]
    noise = torch.cat(rows).double().numpy()
    correlation = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlation).max() < 5 / np.sqrt(VOCABULARY)
    for lag in (1, 2, 64, 1024):
        pairs = np.corrcoef(noise[:, lag:].ravel(), noise[:, :-lag].ravel())[0, 1]
        assert abs(pairs) < 5 / np.sqrt(noise.size)


def test_the_noise_is_finite_at_the_ends() -> None:
    integers = torch.randint(-(2**63), 2**63 - 1, (1_000_000,), generator=torch.Generator().manual_seed(0))
    integers[:3] = torch.tensor([0, -1, -(2**63)])
    noise = gumbel(integers)
    assert noise.isfinite().all()


def test_a_token_that_cannot_come_does_not_come() -> None:
    scores = torch.full((1, 300), -torch.inf)
    scores[0, 7] = -50.0
    draws = Draws(torch.tensor([draw_keys(0, [1], 0, 200)]), prompt_tokens=4)
    tokens = {int(draws(torch.zeros(1, 4 + step, dtype=torch.long), scores).argmax()) for step in range(200)}
    assert tokens == {7}


def test_logits_that_differ_in_their_last_bits_give_the_same_tokens() -> None:
    """What makes a response independent of its batch: one uniform number looked up in the cumulative distribution would
    give another token in about 2 of 1,000 of these."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, VOCABULARY, generator=generator) * 3
    other = logits * (1 + 1e-6 * torch.randn(logits.shape, generator=generator))
    keys = torch.tensor([draw_keys(0, [row], 0, 1) for row in range(len(logits))])
    ids = torch.zeros(len(logits), 1, dtype=torch.long)
    one, two = (Draws(keys, prompt_tokens=1)(ids, scores).argmax(-1) for scores in (logits, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, logits.argmax(-1))


@given(PROMPTS, PROMPTS, st.integers(0, 3), st.integers(0, 3))
def test_keys_are_those_of_one_prompt(one: list[int], other: list[int], number: int, seed: int) -> None:
    keys = draw_keys(seed, one, number, 4)
    assert keys[:2] == draw_keys(seed, one, number, 2)
    assert len(set(keys)) == 4
    assert (keys == draw_keys(seed, other, number, 4)) == (one == other)
    assert not {*keys} & {*draw_keys(seed + 1, one, number, 4), *draw_keys(seed, one, number + 1, 4)}


def test_draws_never_change() -> None:
    """A corpus is reproduced by any later version with the same code_version: these numbers are part of that."""
    assert draw_keys(0, [1, 2, 3], 0, 2) == [5080606046728511646, -3175929165690001814]
    noise = _noise(draw_keys(0, [1, 2, 3], 0, 1), vocabulary=4)
    assert noise[0].tolist() == pytest.approx([4.3698092, 0.3685009, -0.0298625, 0.4056967], rel=1e-5)


@given(st.lists(st.sampled_from([(1,), (2,), (1, 2)]), max_size=8))
def test_numbers_count_equal_prompts(prompts: list[tuple[int, ...]]) -> None:
    assert numbers_of(prompts) == [prompts[:index].count(prompt) for index, prompt in enumerate(prompts)]
