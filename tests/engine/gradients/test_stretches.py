"""Rows of experts in order, against a loop over the rows."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lwf_assets.engine.gradients.factors import Routed
from lwf_assets.engine.gradients.stretches import SHORT, groups_of_matrices

SAMPLES, COUNT = 5, 4

_rows = st.lists(
    st.tuples(st.integers(0, SAMPLES - 1), st.integers(0, COUNT), st.sampled_from(["left", "right", "neither"])),
    max_size=60,
)
"""Sample, matrix (`COUNT` is none) and the side that is zero."""


def _routed(rows: list[tuple[int, int, str]], seed: int) -> Routed:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(len(rows), width, generator=generator, dtype=torch.float64) for width in (6, 3))
    for number, (_, _, zero) in enumerate(rows):
        for side, tensor in (("left", left), ("right", right)):
            if zero == side:
                tensor[number] = 0
    samples, matrices = (torch.tensor([row[place] for row in rows], dtype=torch.long) for place in (0, 1))
    return Routed(left, right, samples, matrices, COUNT)


def _by_loop(routed: list[Routed]) -> Tensor:
    result = torch.zeros(SAMPLES, COUNT, 6, 3, dtype=torch.float64)
    for factor in routed:
        for left, right, sample, matrix in zip(factor.left, factor.right, factor.samples, factor.matrices, strict=True):
            if matrix < COUNT:
                result[sample, matrix] += left.outer(right)
    return result


@settings(max_examples=200)
@given(uses=st.lists(_rows, min_size=1, max_size=2), most=st.integers(1, 7), seed=st.integers(0, 9))
def test_the_products_of_the_groups_are_the_gradients(
    uses: list[list[tuple[int, int, str]]], most: int, seed: int
) -> None:
    routed = [_routed(rows, seed + number) for number, rows in enumerate(uses)]
    samples = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed)) + 10  # named as in the whole work
    lengths = Counter((sample, matrix) for rows in uses for sample, matrix, zero in rows if zero == "neither")
    found = torch.zeros(SAMPLES, COUNT, 6, 3, dtype=torch.float64)
    seen: list[tuple[int, int]] = []
    matrices = []
    for matrix, groups in groups_of_matrices(routed, samples, most):
        matrices.append(matrix)
        for whose, (outer,) in groups:
            places = [samples.tolist().index(name) for name in whose.tolist()]
            seen += [(place, matrix) for place in places]
            assert len(places) <= most
            of_group = [lengths[place, matrix] for place in places]
            assert outer.left.shape[1] == max(of_group)
            assert max(of_group) <= 2 * max(SHORT, min(of_group))
            for place, product in zip(places, outer.left.mT @ outer.right, strict=True):
                found[place, matrix] += product
    assert torch.allclose(found, _by_loop(routed), atol=1e-12)
    assert matrices == sorted(set(matrices))
    # Each once, and none that has no rows, or nothing but zeros.
    assert sorted(seen) == sorted(place for place in lengths if place[1] < COUNT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [1e-40, -1e-40, math.nan, math.inf])
def test_only_zeros_are_left_out(value: float, dtype: torch.dtype) -> None:
    left = torch.zeros(3, 4, dtype=dtype)
    left[1, 2] = value
    one = torch.zeros(3, dtype=torch.long)
    ((_, groups),) = groups_of_matrices([Routed(left, torch.ones(3, 2, dtype=dtype), one, one, 1)], one[:1], 1)
    ((_, (outer,)),) = groups
    assert torch.equal(outer.left.nan_to_num(7), left[1:2].unsqueeze(0).nan_to_num(7))
