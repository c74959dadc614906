"""Blocks of per-sample gradients against gradients formed whole, one factor at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lwf_assets.engine.gradients import blocks as gradient_blocks
from lwf_assets.engine.gradients.blocks import GradientsOfSamples, RowsOfParameter, reduce_factors
from lwf_assets.engine.gradients.factors import Factor, Outer, Routed, Scattered, Whole


class Kept:
    """A reduction that puts the blocks together again, and notes what it got."""

    def __init__(self, samples: int, *shape: int) -> None:
        self.gradients = torch.zeros(samples, *shape, dtype=torch.float64)
        self.times = torch.zeros(samples, *shape)
        self.largest = 0
        self.rows_apart: list[tuple[Tensor, Tensor]] = []

    def add(self, name: str, rows: RowsOfParameter, gradients: Iterable[GradientsOfSamples]) -> None:
        assert name == "it"
        for samples, some in gradients:
            self.largest = max(self.largest, some.numel())
            for sample, gradient in zip(samples, some, strict=True):
                self.gradients[sample][rows] += gradient
                self.times[sample][rows] += 1
            some.fill_(math.nan)  # a reduction may overwrite them

    def add_rows(self, name: str, rows: Tensor, gradients: GradientsOfSamples) -> None:
        assert name == "it"
        samples, some = gradients
        self.rows_apart.append((rows, some.clone()))
        for sample, ids, values in zip(samples, rows, some, strict=True):
            self.gradients[sample].index_add_(0, ids, values.double())
        some.fill_(math.nan)


def _whole(factors: Sequence[Factor], samples: int, *shape: int) -> Tensor:
    """Their sum in float64: [samples, *shape]."""
    result = torch.zeros(samples, *shape, dtype=torch.float64)
    for factor in factors:
        for sample in range(samples):
            if isinstance(factor, Outer):
                result[sample] += factor.left[sample].double().T @ factor.right[sample].double()
            elif isinstance(factor, Scattered):
                for row, values in zip(factor.ids[sample].tolist(), factor.values[sample], strict=True):
                    result[sample, row] += values
            else:
                result[sample] += factor.gradients[sample]
    return result


def _matrix_factors(seed: int, samples: int, rows: int, columns: int, kinds: Sequence[tuple[str, int]]) -> list[Factor]:
    """Of the kinds "outer" and "scattered", each with its number of positions; ids repeat and are out of order."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return [
        Outer(random(samples, positions, rows), random(samples, positions, columns))
        if kind == "outer"
        else Scattered(
            torch.randint(rows, (samples, positions), generator=generator), random(samples, positions, columns)
        )
        for kind, positions in kinds
    ]


_kinds = st.lists(st.tuples(st.sampled_from(["outer", "scattered"]), st.integers(1, 7)), min_size=1, max_size=4)


@settings(max_examples=200)
@given(
    samples=st.integers(1, 5),
    rows=st.integers(1, 23),
    columns=st.integers(1, 9),
    kinds=_kinds,
    limit=st.sampled_from([1, 7, 64, 2**19]),
    threads=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_uses_of_a_matrix_add_up(
    samples: int, rows: int, columns: int, kinds: list[tuple[str, int]], limit: int, threads: int, seed: int
) -> None:
    factors = _matrix_factors(seed, samples, rows, columns, kinds)
    places = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    kept = Kept(samples, rows, columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", limit)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        reduce_factors(factors, kept, places, "it")
    expected = torch.empty(samples, rows, columns, dtype=torch.float64)
    expected[places] = _whole(factors, samples, rows, columns)
    assert (kept.gradients - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("limit", [7, 64, 100])
def test_each_element_comes_once_and_no_block_is_larger_than_asked(
    limit: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", limit)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    kept = Kept(3, 23, 5)
    reduce_factors(_matrix_factors(0, 3, 23, 5, [("outer", 2), ("outer", 3)]), kept, torch.arange(3), "it")
    assert (kept.times == 1).all()
    assert kept.largest <= limit * min(threads, 3)


def test_small_gradients_share_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", 4 * 23 * 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    kept = Kept(11, 23, 5)
    reduce_factors(_matrix_factors(0, 11, 23, 5, [("outer", 2)]), kept, torch.arange(11), "it")
    assert (kept.times == 1).all()
    assert kept.largest == 2 * 4 * 23 * 5


def test_a_row_is_the_smallest_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    kept = Kept(2, 3, 50)
    reduce_factors(_matrix_factors(0, 2, 3, 50, [("outer", 2)]), kept, torch.arange(2), "it")
    assert kept.largest == 50


def test_real_threads_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a patched number: a block of several samples on several threads."""
    monkeypatch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", 11 * 7)
    factors, before = _matrix_factors(0, 5, 11, 7, [("outer", 4), ("scattered", 3)]), torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(Kept(5, 11, 7))
            reduce_factors(factors, results[-1], torch.arange(5), "it")
        finally:
            torch.set_num_threads(before)
    assert torch.allclose(results[0].gradients, results[1].gradients)
    assert results[1].largest == 2 * results[0].largest


def test_a_row_looked_up_twice_comes_once() -> None:
    """What is squared must be whole: of the places of one row, all but one are zero."""
    ids = torch.tensor([[4, 2, 4, 4], [0, 1, 2, 3]])
    factors = [Scattered(ids, torch.ones(2, 4, 3)), *_matrix_factors(0, 2, 5, 3, [("outer", 2)])]
    kept = Kept(2, 5, 3)
    reduce_factors(factors, kept, torch.arange(2), "it")
    ((rows, values),) = kept.rows_apart
    assert torch.equal(rows, ids)
    assert (values[0, [2, 3]] == 0).all()
    assert (values[0, [0, 1]] != 0).all()
    assert (values[1] != 0).all()
    # And what the tiles hold of these rows is zero, so that the squares are those of the sums.
    tiles = Kept(2, 5, 3)
    tiles.add_rows = lambda *_: None  # type: ignore[method-assign]
    reduce_factors(factors, tiles, torch.arange(2), "it")
    assert (tiles.gradients[0, [2, 4]] == 0).all()
    assert (tiles.gradients[0, [0, 1, 3]] != 0).all()


@settings(max_examples=50)
@given(samples=st.integers(1, 4), uses=st.integers(1, 3), width=st.integers(1, 5), seed=st.integers(0, 99))
def test_uses_of_a_vector_add_up(samples: int, uses: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factors = [Whole(torch.randn(samples, width, generator=generator)) for _ in range(uses)]
    copies = [factor.gradients.clone() for factor in factors]
    kept = Kept(samples, width)
    reduce_factors(factors, kept, torch.arange(samples), "it")
    expected = _whole([Whole(copy) for copy in copies], samples, width)
    assert (kept.gradients - expected).norm() <= 1e-5 * expected.norm()
    assert (kept.times == 1).all()
    assert all(torch.equal(factor.gradients, copy) for factor, copy in zip(factors, copies, strict=True))


@pytest.mark.parametrize("together", [1, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("uses", [1, 2])
def test_rows_of_experts_in_any_order(rows: int, uses: int, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some samples reach no expert, some experts no sample, some rows have no expert."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: together)
    monkeypatch.setitem(gradient_blocks.BLOCK_ELEMENTS, "cpu", 8)
    samples, count, generator = 5, 4, torch.Generator().manual_seed(rows + uses)
    factors = [
        Routed(
            torch.randn(rows, 6, generator=generator, dtype=torch.float64),
            torch.randn(rows, 3, generator=generator, dtype=torch.float64),
            torch.randint(samples - 1, (rows,), generator=generator),
            torch.randint(1, count + 1, (rows,), generator=generator),
            count,
        )
        for _ in range(uses)
    ]
    kept = Kept(samples, count, 6, 3)
    reduce_factors(factors, kept, torch.arange(samples), "it")
    expected = torch.zeros_like(kept.gradients)
    for factor in factors:
        for left, right, sample, matrix in zip(factor.left, factor.right, factor.samples, factor.matrices, strict=True):
            if matrix < count:
                expected[sample, matrix] += left.outer(right)
    assert (kept.gradients - expected).norm() <= 1e-12 * expected.norm()
    assert kept.times.max() <= 1
    assert kept.largest <= together * 8


def test_samples_of_an_expert_share_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """However unlike their numbers of rows are: each block costs several calls."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    samples = torch.arange(3).repeat_interleave(torch.tensor([90, 30, 1]))
    ones = torch.ones(len(samples), 2)
    kept = Kept(3, 1, 2, 2)
    reduce_factors([Routed(ones, ones, samples, torch.zeros_like(samples), 1)], kept, torch.arange(3), "it")
    assert torch.equal(kept.gradients[:, 0, 0, 0], torch.tensor([90.0, 30.0, 1.0], dtype=torch.float64))
    assert kept.largest == 3 * 2 * 2


def test_a_vector_is_no_matrix() -> None:
    factors = [Whole(torch.ones(1, 3)), *_matrix_factors(0, 1, 3, 1, [("outer", 1)])]
    with pytest.raises(ValueError, match="used both as a vector and as a matrix"):
        reduce_factors(factors, Kept(1, 3), torch.arange(1), "it")


def test_factors_may_lie_in_any_order_in_memory() -> None:
    left, right = torch.randn(11, 3, 4).permute(1, 2, 0), torch.randn(3, 7, 4).mT
    kept = Kept(3, 11, 7)
    reduce_factors([Outer(left, right)], kept, torch.arange(3), "it")
    assert torch.allclose(kept.gradients, _whole([Outer(left, right)], 3, 11, 7), atol=1e-5)


def test_no_positions_give_zero() -> None:
    kept = Kept(2, 5, 3)
    reduce_factors([Outer(torch.zeros(2, 0, 5), torch.zeros(2, 0, 3))], kept, torch.arange(2), "it")
    assert (kept.gradients == 0).all()
    assert (kept.times == 1).all()


def test_bfloat16_factors_keep_small_contributions() -> None:
    """A product over 1000 positions: added one by one in bfloat16 it would stand still at 256."""
    ones = torch.ones(1, 1000, 4, dtype=torch.bfloat16)
    kept = Kept(1, 4, 4)
    reduce_factors([Outer(ones, ones)], kept, torch.arange(1), "it")
    assert torch.equal(kept.gradients, torch.full((1, 4, 4), 1000.0, dtype=torch.float64))
    looked_up = Kept(1, 4, 4)
    reduce_factors([Scattered(torch.zeros(1, 1000, dtype=torch.long), ones)], looked_up, torch.arange(1), "it")
    assert torch.equal(looked_up.gradients[0, 0], torch.full((4,), 1000.0, dtype=torch.float64))
