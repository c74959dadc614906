"""The Fisher diagonal against one backward pass a sample in double precision."""

from __future__ import annotations

import pytest
import torch
from by_hand import (
    ARCHITECTURES,
    fisher_by_hand,
    gradients_by_hand,
    relative_error,
    samples_of_all_lengths,
    tiny_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_samples, tiny_llama

from lwf_assets.engine.fisher import _norms, fisher_diagonal
from lwf_assets.engine.samples import Sample


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_loop(architecture: str, tied: bool, reduction: str) -> None:
    model, samples = tiny_model(architecture, tied=tied), samples_of_all_lengths()
    names = [name for name, _ in model.named_parameters()]
    assert tied == (model.get_input_embeddings().weight is model.get_output_embeddings().weight)

    fisher = fisher_diagonal(model, samples, reduction=reduction, batch_size=4)

    assert list(fisher) == names
    assert all(value.dtype == torch.float32 for value in fisher.values())
    assert all(fisher[name].shape == parameter.shape for name, parameter in model.named_parameters())
    assert relative_error(fisher, fisher_by_hand(gradients_by_hand(model, samples, reduction))) <= 1e-5


_rows = st.lists(st.tuples(st.integers(1, 24), st.integers(1, 24)), min_size=1, max_size=5)


@settings(max_examples=40)
@given(
    lengths=_rows,
    hidden=st.sampled_from([8, 16, 24]),
    layers=st.integers(1, 2),
    tied=st.booleans(),
    reduction=st.sampled_from(["mean", "sum"]),
    batch_size=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_equals_the_loop_for_any_shape(
    lengths: list[tuple[int, int]], hidden: int, layers: int, tied: bool, reduction: str, batch_size: int, seed: int
) -> None:
    model = tiny_llama(tied=tied, seed=seed, hidden=hidden, layers=layers)
    generator = torch.Generator().manual_seed(seed)
    samples = [
        Sample(*(torch.randint(256, (length,), generator=generator).tolist() for length in pair)) for pair in lengths
    ]
    fisher = fisher_diagonal(model, samples, reduction=reduction, batch_size=batch_size)
    assert relative_error(fisher, fisher_by_hand(gradients_by_hand(model, samples, reduction))) <= 1e-5


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral"])
def test_batch_size_does_not_matter(architecture: str) -> None:
    model, samples = tiny_model(architecture), samples_of_all_lengths(8)
    whole = fisher_diagonal(model, samples, batch_size=len(samples))
    for batch_size in (1, 3, 100):
        assert relative_error(fisher_diagonal(model, samples, batch_size=batch_size), whole) <= 1e-5


def test_is_the_mean_of_squares_and_not_a_square_of_a_mean() -> None:
    model, samples = tiny_llama(), random_samples(8)
    gradients = gradients_by_hand(model, samples, "mean")
    square_of_mean = {name: torch.stack([one[name] for one in gradients]).mean(0) ** 2 for name in gradients[0]}
    fisher = fisher_diagonal(model, samples, batch_size=8)
    # The two differ by about the number of samples, whatever the batches.
    assert relative_error(fisher, square_of_mean) > 2
    trace, wrong_trace = (sum(v.double().sum().item() for v in f.values()) for f in (fisher, square_of_mean))
    assert 3 < trace / wrong_trace < 9


def test_samples_given_twice_weigh_the_same() -> None:
    model, samples = tiny_llama(), random_samples(5)
    assert relative_error(fisher_diagonal(model, samples * 2, batch_size=3), fisher_diagonal(model, samples)) <= 1e-6


def test_an_expert_that_no_token_reaches_has_no_information() -> None:
    model = tiny_model("mixtral")
    samples = [Sample([5], [7])]  # one predicting token, two of the four experts
    fisher = fisher_diagonal(model, samples)
    experts = fisher["model.layers.0.mlp.experts.down_proj"].flatten(1).sum(dim=1)
    assert (experts > 0).sum() == 2
    assert (experts == 0).sum() == 2


def test_frozen_parameters_are_included() -> None:
    model, samples = tiny_llama(), random_samples(3)
    expected = fisher_diagonal(model, samples)
    model.requires_grad_(False)
    assert relative_error(fisher_diagonal(model, samples), expected) == 0


def test_works_where_gradients_are_switched_off() -> None:
    model, samples = tiny_llama(), random_samples(3)
    with torch.no_grad():
        fisher = fisher_diagonal(model, samples)
    assert relative_error(fisher, fisher_diagonal(model, samples)) == 0


def test_bfloat16_weights_are_summed_in_float32() -> None:
    """In bfloat16 a sum of equal summands stands still at 256 of them: the mean of 520 would be half of one."""
    model = tiny_llama(hidden=8, layers=1).to(torch.bfloat16)
    sample = Sample([1], [2])
    one = fisher_diagonal(model, [sample])
    assert all(value.dtype == torch.float32 for value in one.values())
    assert relative_error(fisher_diagonal(model, [sample] * 520), one) <= 1e-4


def test_bfloat16_weights_give_about_the_same() -> None:
    model, samples = tiny_llama(), random_samples(4)
    rounded = model.to(torch.bfloat16)
    fisher = fisher_diagonal(rounded, samples)
    assert relative_error(fisher, fisher_by_hand(gradients_by_hand(rounded, samples, "mean"))) < 0.1


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        fisher_diagonal(tiny_llama(), [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_squared_together_are_as_those_squared_one_by_one(dtype: torch.dtype) -> None:
    """How a GPU, where each sample would be a launch, adds up what has no kernel."""
    gradients = torch.randn(70, 5, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = gradients.double().square().sum(dim=0)
    assert torch.allclose(_norms(gradients).double().square(), expected, rtol=1e-6)
