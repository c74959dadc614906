"""The kernels against gradients formed whole in float64.

Where there is no GPU they run in Triton's interpreter (`tests/conftest.py`), which shows what they compute, not how
fast, and takes some Python that the compiler refuses: `test_kernels_compile.py` compiles them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest
import torch
from by_hand import ARCHITECTURES, error_of_fisher, error_of_terms, samples_of_all_lengths, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from reductions import Nothing
from tiny import random_samples, tiny_llama
from torch import Tensor

from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.gradients import fused
from lwf_assets.engine.gradients.blocks import reduce_factors
from lwf_assets.engine.gradients.factors import Outer
from lwf_assets.engine.gradients.fused import Products, Tile

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

TILES = (Tile(16, 16, 16, 1, 1), Tile(32, 16, 16, 1, 1), Tile(16, 64, 32, 1, 1))


@pytest.fixture
def _fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels take every matrix, and have some."""
    taken = []
    joined = fused.joined

    def noted(uses: Sequence[Outer], keep: Tensor | None, samples: Tensor) -> Products:
        taken.append(len(uses))
        return joined(uses, keep, samples)

    monkeypatch.setattr(fused, "joined", noted)
    with fused.kernels_used(True):
        yield
    assert taken


def _products(
    samples: int, positions: int, rows: int, columns: int, dtype: torch.dtype, keep: bool, seed: int, order: bool = True
) -> Products:
    generator = torch.Generator().manual_seed(seed)

    def factor(width: int) -> Tensor:
        if order:
            return torch.randn(samples, positions, width, generator=generator).to(DEVICE, dtype)
        return torch.randn(width, samples, positions, generator=generator).to(DEVICE, dtype).permute(1, 2, 0)

    left, right = factor(rows), factor(columns)
    kept = (torch.rand(samples, rows, generator=generator) > 0.3).to(DEVICE, torch.uint8) if keep else None
    return Products(left, right, kept, torch.arange(samples, device=DEVICE))


def _whole(products: Products) -> Tensor:
    gradients = products.left.double().mT @ products.right.double()
    return gradients if products.keep is None else gradients * products.keep.unsqueeze(2)


_cases = {
    "samples": st.integers(1, 3),
    "positions": st.integers(1, 20),
    "rows": st.integers(1, 33),
    "columns": st.integers(1, 33),
    "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
    "keep": st.booleans(),
    "order": st.booleans(),
    "tile": st.sampled_from(TILES),
    "seed": st.integers(0, 99),
}


@settings(max_examples=12, deadline=None)
@given(**_cases)
def test_squares_of_any_shape(
    samples: int,
    positions: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    keep: bool,
    order: bool,
    tile: Tile,
    seed: int,
) -> None:
    products = _products(samples, positions, rows, columns, dtype, keep, seed, order)
    start = torch.rand(columns, rows, device=DEVICE).T if not order else torch.rand(rows, columns, device=DEVICE)
    expected = start.double() + 0.25 * _whole(products).square().sum(dim=0)
    fused.add_squares(start, products, 0.25, tile=tile)
    assert (start - expected).norm() <= 1e-6 * expected.norm()  # of bf16 factors too: nothing is rounded on the way


@settings(max_examples=12, deadline=None)
@given(**_cases, weights=st.sampled_from([torch.float32, torch.bfloat16]), limit=st.sampled_from([1, 200, 2**26]))
def test_weighted_sums_of_any_shape(
    samples: int,
    positions: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    keep: bool,
    order: bool,
    tile: Tile,
    seed: int,
    weights: torch.dtype,
    limit: int,
) -> None:
    products = _products(samples, positions, rows, columns, dtype, keep, seed, order)
    fisher = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).exp().to(DEVICE, weights)
    delta = torch.randn(columns, rows, generator=torch.Generator().manual_seed(seed)).to(DEVICE, weights).T
    gradients, f, d = _whole(products), fisher.double(), delta.double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "SUMS_ELEMENTS", limit)
        linear, quadratic, norms = fused.weighted_sums(products, fisher, delta, tile=tile)
    size = (f * d * gradients).abs().sum(dim=(1, 2))  # the linear term is a small difference of large sums
    assert ((linear - (f * d * gradients).sum(dim=(1, 2))).abs() <= 1e-6 * size).all()
    assert torch.allclose(quadratic, (f * gradients.square()).sum(dim=(1, 2)), rtol=1e-5)
    assert torch.allclose(norms, gradients.square().sum(dim=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("advantage", [0, 10**9], ids=["gram", "kernel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_either_way(dtype: torch.dtype, advantage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "GRAM_ADVANTAGE", advantage)
    products = _products(3, 9, 20, 30, dtype, False, 0)
    ones = torch.ones(20, 30, device=DEVICE)
    _, quadratic, norms = fused.weighted_sums(products, ones, ones)
    assert torch.allclose(norms, _whole(products).square().sum(dim=(1, 2)), rtol=1e-5)
    assert torch.allclose(norms, quadratic, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 5, 3), (9, 1, 1)], ids=["no position", "one element"])
def test_nothing_and_next_to_nothing(shape: tuple[int, int, int]) -> None:
    products = _products(2, *shape, torch.float32, False, 0)
    result = torch.ones(shape[1:], device=DEVICE)
    fused.add_squares(result, products, 1.0)
    assert torch.allclose(result.double(), 1 + _whole(products).square().sum(dim=0))
    _, quadratic, norms = fused.weighted_sums(products, torch.ones_like(result), result)
    assert torch.allclose(quadratic, norms)


@pytest.mark.usefixtures("_fused")
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_whole(architecture: str, tied: bool) -> None:
    """Against the loop over single samples in float64; Conv1D, biases, experts and lookups among the parameters."""
    model, samples = tiny_model(architecture, tied=tied), samples_of_all_lengths(4)
    assert error_of_fisher(model, samples) <= 1e-5
    assert error_of_terms(model, samples) <= 1e-5


@pytest.mark.usefixtures("_fused")
@pytest.mark.parametrize("count", [1, 5])
def test_the_same_as_the_loop_in_bfloat16(count: int) -> None:
    """But for the loop's own rounding of each gradient to bfloat16."""
    model, samples = tiny_llama().to(DEVICE, torch.bfloat16), random_samples(count)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    delta = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    fisher = fisher_diagonal(model, samples)
    terms = confidence_terms(model, samples, fisher=fisher, delta=delta)
    with fused.kernels_used(False):
        by_loop = fisher_diagonal(model, samples)
        terms_by_loop = confidence_terms(model, samples, fisher=fisher, delta=delta)
    for name, value in by_loop.items():
        assert (fisher[name] - value).norm() <= 2e-2 * value.norm()
    assert terms.quadratic == pytest.approx(terms_by_loop.quadratic, rel=2e-2)
    assert terms.gradient_norm == pytest.approx(terms_by_loop.gradient_norm, rel=2e-2)
    assert terms.linear == pytest.approx(terms_by_loop.linear, rel=5e-2, abs=1e-2 * abs(terms_by_loop.linear).max())


def test_a_type_without_kernels_goes_through_the_loop() -> None:
    def outer(left: torch.dtype, right: torch.dtype) -> Outer:
        return Outer(torch.zeros(1, 2, 3, dtype=left), torch.zeros(1, 2, 3, dtype=right))

    with fused.kernels_used(True):
        assert fused.suits([outer(torch.float32, torch.float32)] * 2)
        assert not fused.suits([outer(torch.float64, torch.float64)])
        assert not fused.suits([outer(torch.float32, torch.bfloat16)])
        assert not fused.suits([outer(torch.float32, torch.float32), outer(torch.bfloat16, torch.bfloat16)])
        # A reduction of somebody's own, which knows nothing of products, gets blocks.
        reduce_factors([outer(torch.float32, torch.float32)], Nothing(), torch.arange(1), "it")


def test_a_device_on_which_the_kernels_fail_takes_the_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find C compiler")

    fused._works.cache_clear()
    assert fused._works(DEVICE, torch.bfloat16)
    assert not fused.runs_on(torch.device("cpu"), torch.float32)
    for broken, said in ((no_compiler, "Failed to find C compiler"), (lambda *_, **__: None, "compute wrongly")):
        fused._works.cache_clear()
        monkeypatch.setattr(fused, "add_squares", broken)
        with caplog.at_level(logging.WARNING):
            assert not fused._works(DEVICE, torch.bfloat16)
            assert not fused._works(DEVICE, torch.bfloat16)
        assert [said in record.message for record in caplog.records] == [True]
        caplog.clear()
    fused._works.cache_clear()
