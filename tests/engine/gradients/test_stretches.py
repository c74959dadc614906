"""Rows of experts in order, against a loop over the rows."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lwf_assets.engine.gradients import stretches
from lwf_assets.engine.gradients.factors import Routed
from lwf_assets.engine.gradients.stretches import groups_of_matrices

SAMPLES, COUNT = 5, 4

_uses = st.lists(
    st.lists(st.sampled_from([0, 0, 1, 2, 3, 5, 30]), min_size=SAMPLES * COUNT, max_size=SAMPLES * COUNT),
    min_size=1,
    max_size=2,
)
"""For each use of the stack, how many rows of each sample are for each matrix."""


def _rows(lengths: list[int], seed: int) -> list[tuple[int, int, str]]:
    """Sample, matrix (`COUNT` is none) and the side that is zero of each row, in any order."""
    random = Random(seed)
    rows = [
        (*divmod(place, COUNT), random.choice(["neither", "neither", "left", "right"]))
        for place, length in enumerate(lengths)
        for _ in range(length)
    ]
    rows += [(random.randrange(SAMPLES), COUNT, "neither") for _ in range(random.randrange(4))]
    random.shuffle(rows)
    return rows


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
@given(uses=_uses, most=st.integers(1, 7), short=st.sampled_from([1, 3, 8]), seed=st.integers(0, 9))
def test_the_products_of_the_groups_are_the_gradients(uses: list[list[int]], most: int, short: int, seed: int) -> None:
    rows_of_uses = [_rows(lengths, seed + number) for number, lengths in enumerate(uses)]
    routed = [_routed(rows, seed) for rows in rows_of_uses]
    samples = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed)) + 10  # named as in the whole work
    lengths = Counter((sample, matrix) for rows in rows_of_uses for sample, matrix, zero in rows if zero == "neither")
    found = torch.zeros(SAMPLES, COUNT, 6, 3, dtype=torch.float64)
    seen: list[tuple[int, int]] = []
    matrices = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "SHORT", short)
        for matrix, groups in groups_of_matrices(routed, samples, most):
            matrices.append(matrix)
            for whose, (outer,) in groups:
                places = [samples.tolist().index(name) for name in whose.tolist()]
                seen += [(place, matrix) for place in places]
                assert len(places) <= most
                of_group = [lengths[place, matrix] for place in places]
                assert outer.left.shape[1] == max(of_group)
                assert max(of_group) <= 2 * max(short, min(of_group))
                for place, product in zip(places, outer.left.mT @ outer.right, strict=True):
                    found[place, matrix] += product
    assert torch.allclose(found, _by_loop(routed), atol=1e-12)
    assert matrices == sorted(set(matrices))
    # Each once, and none that has no rows, or nothing but zeros.
    assert sorted(seen) == sorted(place for place in lengths if place[1] < COUNT)


@pytest.mark.parametrize(
    ("lengths", "most", "groups"),
    [
        ([40, 20, 19, 1], 9, [[40, 20], [19], [1]]),
        ([40, 20, 19, 1], 1, [[40], [20], [19], [1]]),
        ([16, 1, 1, 9], 9, [[16, 9, 1, 1]]),  # short ones go together
        ([17, 1, 9, 8], 2, [[17, 9], [8, 1]]),
    ],
)
def test_about_equal_lengths_go_together(lengths: list[int], most: int, groups: list[list[int]]) -> None:
    samples = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    ones = torch.ones(len(samples), 2)
    routed = Routed(ones, ones, samples, torch.zeros_like(samples), 1)
    ((_, found),) = groups_of_matrices([routed], torch.arange(len(lengths)), most)
    assert [[lengths[sample] for sample in whose.tolist()] for whose, _ in found] == groups


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [1e-40, -1e-40, math.nan, math.inf])
def test_only_zeros_are_left_out(value: float, dtype: torch.dtype) -> None:
    left = torch.zeros(3, 4, dtype=dtype)
    left[1, 2] = value
    one = torch.zeros(3, dtype=torch.long)
    ((_, groups),) = groups_of_matrices([Routed(left, torch.ones(3, 2, dtype=dtype), one, one, 1)], one[:1], 1)
    ((_, (outer,)),) = groups
    assert torch.equal(outer.left.nan_to_num(7), left[1:2].unsqueeze(0).nan_to_num(7))
