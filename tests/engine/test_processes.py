"""Two processes share what one would do, and find the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import relative_error, weights
from hypothesis import given
from hypothesis import strategies as st
from tiny import random_samples, tiny_llama, tiny_tokenizer
from two_processes import in_two_processes

from lwf_assets.engine import processes
from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.evaluation.answers import greedy_responses, likeliest_choices
from lwf_assets.engine.evaluation.memorization import memorisation
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.mean_gradient import step_along_mean_gradient
from lwf_assets.engine.processes import Processes
from lwf_assets.engine.samples import Context
from lwf_assets.engine.shared_generation import generate_together
from lwf_assets.progress import Silent


class Bar(Silent):
    """How far a phase is."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, amount: int = 1) -> None:
        self.done += amount


@given(lengths=st.lists(st.integers(0, 9), max_size=12), world=st.integers(1, 5))
def test_every_sample_is_in_one_share(lengths: list[int], world: int) -> None:
    things = [[0] * length for length in lengths]
    shares = [Processes(rank, world).share(things) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(len(lengths)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(keys=st.lists(st.integers(0, 4), max_size=12), world=st.integers(1, 5))
def test_equal_prompts_stay_together(keys: list[int], world: int) -> None:
    shares = [Processes(rank, world).share_of_groups(keys) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(len(keys)))
    assert sum(len({keys[index] for index in share}) for share in shares) == len(set(keys))


def test_alone_nothing_is_said() -> None:
    alone = processes.here()
    assert (alone.rank, alone.world, alone.is_first) == (0, 1, True)
    assert alone.share([[1], [1, 2]]) == [0, 1]
    assert alone.gather([0, 1], ["a", "b"]) == ["a", "b"]
    assert alone.of_first(3) == 3
    alone.wait()


def _of_both_sizes() -> dict[int, dict[str, Any]]:
    return {count: _everything(count) for count in (7, 1)}


def _everything(count: int) -> dict[str, Any]:
    model, samples = tiny_llama(seed=1), random_samples(count, seed=3)
    tokenizer, context = tiny_tokenizer(), Context(200)
    bar = Bar()
    fisher = fisher_diagonal(model, samples, token_budget=60, progress=bar)
    delta = {name: 0.01 * torch.ones_like(value) for name, value in model.named_parameters()}
    terms = confidence_terms(model, samples, fisher=fisher, delta=delta, token_budget=60)
    prompts = [(str(n), "what " * (1 + n % 3) + str(n % 5)) for n in range(count)]
    ids = [sample.prompt_ids for sample in samples]
    moved = tiny_llama(seed=1)
    step_along_mean_gradient(moved, samples, length=0.1, token_budget=60)
    return {
        "bar": bar.done,
        "fisher": fisher,
        "terms": terms,
        "losses": negative_log_likelihoods(model, samples, token_budget=60),
        "known": [(one.nll, one.memorised) for one in memorisation(model, samples, token_budget=60)],
        "answers": greedy_responses(model, tokenizer, prompts, max_new_tokens=6, context=context, batch_size=2),
        "choices": likeliest_choices(model, tokenizer, prompts, [["yes", "no", "a b"]] * count, context=context),
        "generated": generate_together(model, ids + ids, max_new_tokens=5, pad_id=257, end_ids=[256]),
        "moved": weights(moved),
    }


@pytest.mark.slow
def test_two_find_what_one_finds(tmp_path: Path) -> None:
    expected = _of_both_sizes()
    for rank, both in enumerate(in_two_processes(_of_both_sizes, tmp_path)):
        for count, alone in expected.items():
            found = both[count]
            assert relative_error(found["fisher"], alone["fisher"]) <= 1e-6
            assert found["terms"].constant == pytest.approx(alone["terms"].constant, rel=1e-6)
            for name in ("linear", "quadratic", "gradient_norm", "losses"):
                values = getattr(alone["terms"], name)
                assert np.abs(getattr(found["terms"], name) - values).max() <= 1e-6 * np.abs(values).max(), name
            assert found["losses"] == pytest.approx(alone["losses"], rel=1e-6)
            assert np.array(found["known"]) == pytest.approx(np.array(alone["known"]), rel=1e-6)
            for name in ("answers", "choices", "generated"):
                assert found[name] == alone[name]
            assert relative_error(found["moved"], alone["moved"]) <= 1e-6
            assert rank > 0 or found["bar"] == count
