"""Rounded weights, one number at a time; what is left alone; and that all is as it was afterwards."""

from __future__ import annotations

import pytest
import torch
from by_hand import same_bits, tiny_model, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_samples, tiny_llama
from torch import Tensor

from lwf_assets.engine.loss import negative_log_likelihoods
from lwf_assets.engine.probes.quantization import quantize_weights, round_to_int4, round_to_int8
from lwf_assets.errors import LwfError


def _int8_grid(row: list[float]) -> list[tuple[float, float]]:
    """Where each value's grid begins and how far its points lie apart."""
    return [(0.0, max(abs(value) for value in row) / 127)] * len(row)


def _int4_grid(row: list[float]) -> list[tuple[float, float]]:
    group, grids = 64 if len(row) % 64 == 0 else 32, []
    for start in range(0, len(row), group):
        values = row[start : start + group]
        grids += [(min(values), (max(values) - min(values)) / 15)] * group
    return grids


def _weight(rows: int, width: int, seed: int) -> Tensor:
    """Rows of very different size, one of zeros, one of equal values."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator) * torch.logspace(-4, 2, rows)[:, None]
    weight[1], weight[2] = 0.0, 0.7
    return weight


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), width=st.sampled_from([32, 64, 96, 128, 192]))
def test_rounding_is_the_loop_over_rows_and_groups(seed: int, width: int) -> None:
    """Each value goes to the nearest point of its grid; half-way between two, rounding errors decide which."""
    weight = _weight(6, width, seed)
    for found, grid in ((round_to_int8(weight), _int8_grid), (round_to_int4(weight), _int4_grid)):
        for rounded, row in zip(found.tolist(), weight.tolist(), strict=True):
            for mine, value, (start, scale) in zip(rounded, row, grid(row), strict=True):
                if scale == 0:
                    assert mine == value
                    continue
                point = (mine - start) / scale
                assert point == pytest.approx(round(point), abs=1e-3)
                assert abs(round(point) - (value - start) / scale) <= 0.5 + 1e-3


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_error_grid_and_extremes(seed: int) -> None:
    weight = _weight(6, 128, seed)
    eight, four = round_to_int8(weight), round_to_int4(weight).reshape(6, 2, 64)
    groups = weight.reshape(6, 2, 64)
    assert ((eight - weight).abs() <= weight.abs().amax(1, keepdim=True) / 254 * 1.001).all()
    spread = groups.amax(2, keepdim=True) - groups.amin(2, keepdim=True)
    assert ((four - groups).abs() <= spread / 30 * 1.001 + 1e-6 * groups.abs().amax(2, keepdim=True)).all()
    assert torch.allclose(four.amax(2), groups.amax(2), rtol=1e-5)
    assert torch.allclose(four.amin(2), groups.amin(2), rtol=1e-5)
    assert all(len(row.unique()) <= 16 for row in four.reshape(12, 64))
    assert torch.allclose(round_to_int8(eight), eight, rtol=1e-5)
    assert torch.equal(round_to_int8(-weight), -eight)  # symmetric


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layers_are_rounded_and_all_is_put_back(bits: int, tied: bool, dtype: torch.dtype) -> None:
    model, samples = tiny_llama(tied=tied).to(dtype), random_samples(4)
    before, losses = weights(model), negative_log_likelihoods(model, samples)
    rounding = round_to_int8 if bits == 8 else round_to_int4
    with quantize_weights(model, bits):
        inside = weights(model)
        assert negative_log_likelihoods(model, samples) != losses
        assert torch.is_grad_enabled()
    rounded = {name for name, value in before.items() if not torch.equal(value, inside[name])}
    assert rounded == {name for name in before if "_proj" in name}
    assert all(torch.equal(inside[name], rounding(before[name]).to(dtype)) for name in rounded)
    assert same_bits(weights(model), before)
    assert negative_log_likelihoods(model, samples) == losses


def test_gpt2_keeps_its_weights_the_other_way_round() -> None:
    """Its layers are Conv1D, [inputs, outputs]: a channel is a column."""
    model = tiny_model("gpt2")
    before = weights(model)
    with quantize_weights(model, 8):
        inside = weights(model)
    layer = "transformer.h.0.mlp.c_fc.weight"
    assert torch.equal(inside[layer], round_to_int8(before[layer].T).T)
    assert not torch.equal(inside[layer], before[layer])
    assert torch.equal(inside["transformer.wte.weight"], before["transformer.wte.weight"])
    assert same_bits(weights(model), before)


def test_weights_come_back_after_an_exception() -> None:
    model = tiny_llama()
    before = weights(model)
    with pytest.raises(RuntimeError, match="inside"), quantize_weights(model, 4):
        raise RuntimeError("inside")
    assert same_bits(weights(model), before)


def test_what_cannot_be_quantized() -> None:
    model = tiny_llama(hidden=24)
    before = weights(model)
    with pytest.raises(LwfError, match=r"q_proj has 24 inputs; 4-bit groups need a multiple of 32"):
        quantize_weights(model, 4).__enter__()
    with pytest.raises(ValueError, match="4 or 8 bits; got 5"):
        quantize_weights(model, 5).__enter__()
    assert same_bits(weights(model), before)
    with quantize_weights(model, 8):
        assert not same_bits(weights(model), before)
