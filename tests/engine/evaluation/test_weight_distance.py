"""The distance of two models' weights, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_llama
from torch import Tensor

from lwf_assets.engine.evaluation.weight_distance import euclidean_distance, euclidean_norm, weight_distance


def _numbers(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(first.flatten(), second.flatten(), strict=True)


@pytest.mark.parametrize("tied", [True, False])
def test_distance_is_the_root_of_the_sum_of_squares(tied: bool) -> None:
    """fsum over every single number; a tied embedding is there once."""
    model, base = tiny_llama(tied=tied, seed=1, hidden=8), tiny_llama(tied=tied, hidden=8)
    differences, values, seen = [], [], set()
    modules = zip(model.modules(), base.modules(), strict=True)
    for mine, theirs in modules:
        for name, parameter in mine._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                other = theirs._parameters[name]
                differences += [(value.item() - start.item()) ** 2 for value, start in _numbers(parameter, other)]
                values += [start.item() ** 2 for start in other.flatten()]
    found = weight_distance(model, base)
    assert found.total == pytest.approx(math.sqrt(math.fsum(differences)), rel=1e-12)
    assert found.relative == pytest.approx(math.sqrt(math.fsum(differences) / math.fsum(values)), rel=1e-12)


@settings(max_examples=10)
@given(scale=st.floats(1e-6, 1.0))
def test_a_scaled_model_is_relatively_as_far_as_it_was_scaled(scale: float) -> None:
    base, model = tiny_llama().double(), tiny_llama().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + scale)
    before = [parameter.clone() for parameter in (*model.parameters(), *base.parameters())]
    assert weight_distance(model, base).relative == pytest.approx(scale, rel=1e-6)
    after = (*model.parameters(), *base.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_a_tensor_of_many_pieces_and_in_any_layout() -> None:
    """Longer than what is copied to fp64 at once, with a rest; transposed; no numbers at all; and bf16."""
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(701, 563, generator=generator) for _ in range(2))
    firsts, seconds = [one.T, one.bfloat16(), one[:0]], [other.T, other.bfloat16(), other[:0]]
    expected = math.sqrt(
        math.fsum((a.double() - b.double()).square().sum().item() for a, b in zip(firsts, seconds, strict=True))
    )
    assert euclidean_distance(firsts, seconds) == pytest.approx(expected, rel=1e-12)
    assert euclidean_norm([one.T]) == pytest.approx(one.double().norm().item(), rel=1e-12)


def test_a_model_is_at_no_distance_of_itself_and_small_ones_are_not_lost() -> None:
    model = tiny_llama()
    assert weight_distance(model, model).total == 0
    moved = tiny_llama()
    with torch.no_grad():
        moved.model.norm.weight[0] += 2**-20
        moved.model.embed_tokens.weight.add_(0)
    assert weight_distance(moved, model).total == 2**-20


def test_models_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"differ in lm_head\.weight"):
        weight_distance(tiny_llama(tied=False), tiny_llama())
    with pytest.raises(ValueError, match="do not have the same parameters"):
        weight_distance(tiny_llama(hidden=8), tiny_llama())
    zero = tiny_llama()
    with torch.no_grad():
        for parameter in zero.parameters():
            parameter.zero_()
    with pytest.raises(ValueError, match="every parameter of the base is zero"):
        weight_distance(tiny_llama(), zero)
