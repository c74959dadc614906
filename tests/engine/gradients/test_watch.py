"""What the watch of a forward pass notices beside the rules: aliases, order, uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched import (
    BATCH,
    POSITIONS,
    WIDTH,
    Parameters,
    Watched,
    assert_has_rule,
    dense,
    some_input,
    some_parameters,
    watching,
)

from lwf_assets.engine.gradients.factors import Factor, Scattered, Whole
from lwf_assets.engine.gradients.watch import GradientWatch
from lwf_assets.errors import LwfError


@pytest.mark.parametrize(
    "operation",
    [
        lambda w, x, out: torch.mul(x, w[0], out=out),
        lambda w, x, out: torch.add(x, w[0], out=out),
        lambda w, x, out: torch.matmul(x, w, out=out),
        lambda w, x, out: torch.addmm(w[0], x, w, out=out),
    ],
)
def test_operations_with_out_are_left_alone(operation: Callable[..., Tensor]) -> None:
    weight = some_parameters(w=(WIDTH, WIDTH))["w"]
    x, out = torch.ones(BATCH * POSITIONS, WIDTH, dtype=torch.float64), torch.zeros(12, WIDTH, dtype=torch.float64)
    with watching({"w": weight}, (BATCH, POSITIONS), _never) as watch, torch.no_grad():
        assert operation(weight, x, out) is out
    assert torch.equal(out, operation(weight.detach(), x, torch.zeros_like(out)))
    assert watch.uses == {}


def _never(name: str, factor: Factor) -> None:
    raise AssertionError(name)


@pytest.mark.parametrize(
    "constant",
    [lambda w: w.to(torch.int32), lambda w: w.detach(), lambda w: w.data.float()],
    ids=["int", "detach", "data"],
)
def test_a_constant_copy_has_no_gradient(constant: Callable[[Tensor], Tensor]) -> None:
    watched = Watched(lambda p, x: x * constant(p["w"]), some_parameters(w=(6,)), some_input(BATCH, POSITIONS, WIDTH))
    assert watched.reached == set()
    assert watched.told == {}


def test_a_copy_made_without_gradients_has_none() -> None:
    def operation(p: Parameters, x: Tensor) -> Tensor:
        with torch.no_grad():
            copy = 1 + p["w"]
        return x * copy

    watched = Watched(operation, some_parameters(w=(6,)), some_input(BATCH, POSITIONS, WIDTH))
    assert watched.told == {}


def test_an_operand_without_a_gradient_may_have_whole_numbers() -> None:
    places = torch.arange(BATCH * POSITIONS * WIDTH).view(BATCH, POSITIONS, WIDTH)
    assert_has_rule(lambda p, x: x * p["w"] + p["v"], some_parameters(w=(WIDTH,), v=(WIDTH,)), places)


def test_a_parameter_inside_an_own_function_is_reached() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            return functional.linear(x, weight)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(BATCH, POSITIONS, WIDTH).double(), torch.zeros(5, WIDTH).double()

    watched = Watched(
        lambda p, x: Doubled.apply(x, p["w"]), some_parameters(w=(5, 6)), some_input(BATCH, POSITIONS, WIDTH)
    )
    assert watched.reached == {"w"}


def test_uses_are_counted_once_for_each_operation() -> None:
    parameters, x = some_parameters(w=(WIDTH, WIDTH), v=(WIDTH,), idle=(WIDTH,)), some_input(BATCH, POSITIONS, WIDTH)
    with watching(parameters, (BATCH, POSITIONS), _never) as watch:
        functional.linear(functional.linear(x * parameters["v"], parameters["w"]), parameters["w"], parameters["v"])
    assert watch.uses == {"w": 2, "v": 2}


def test_nothing_is_watched_behind_the_block() -> None:
    parameters, x = some_parameters(w=(5, WIDTH)), some_input(BATCH, POSITIONS, WIDTH)
    with watching(parameters, (BATCH, POSITIONS), _never):
        pass
    functional.linear(x, parameters["w"]).sum().backward()
    assert parameters["w"].grad is not None


def test_sums_over_positions_are_in_float32() -> None:
    """Of 1001 ones; bfloat16 knows 1000 and 1004."""
    weight = nn.Parameter(torch.zeros(WIDTH, dtype=torch.bfloat16))
    x = torch.ones(2, 1001, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    told = []
    for operation in (lambda: x + weight, lambda: x * weight):
        with watching({"w": weight}, (2, 1001), lambda _, factor: told.append(factor)) as watch:
            result = operation()
        result.backward(torch.ones_like(result), inputs=[watch.anchor])
    assert len(told) == 2
    for factor in told:
        assert isinstance(factor, Whole)
        assert torch.equal(factor.gradients, torch.full((2, WIDTH), 1001.0))


def _order_is_checked(layout: Sequence[int]) -> GradientWatch:
    """A bias behind samples that a layer has put into the order `layout`, in a way that the graph does not tell; the
    last position has no loss."""
    parameters, x = some_parameters(w=(WIDTH,)), some_input(BATCH, POSITIONS, 2, WIDTH)
    with watching(parameters, (BATCH, POSITIONS), lambda *_: None) as watch:
        flat = x.flatten(0, 1)
        index = torch.tensor(layout).view(-1, 1, 1).expand_as(flat)
        result = flat.gather(0, index).view(x.shape) + parameters["w"]
    back = torch.empty(len(layout), dtype=torch.long)
    back[torch.tensor(layout)] = torch.arange(len(layout))
    loss = result.reshape(BATCH * POSITIONS, -1)[back].view(BATCH, POSITIONS, -1)[:, :-1].sum()
    torch.autograd.backward(loss, inputs=[watch.anchor])
    return watch


def test_rows_in_another_order_are_noticed() -> None:
    in_order = list(range(BATCH * POSITIONS))
    _order_is_checked(in_order).check_order()
    with pytest.raises(LwfError, match="w: the layer of this parameter mixes the samples"):
        _order_is_checked([*in_order[1:], 0]).check_order()


def test_as_many_groups_as_positions_are_no_positions() -> None:
    """[B, 2, 2, d] has four rows a sample, and the last of them has a gradient."""
    parameters, x = some_parameters(w=(WIDTH,)), some_input(BATCH, 2, 2, WIDTH)
    with watching(parameters, (BATCH, POSITIONS), lambda *_: None) as watch:
        result = x + parameters["w"]
    torch.autograd.backward(result.sum(), inputs=[watch.anchor])
    watch.check_order()


def test_as_many_heads_as_positions_are_in_order() -> None:
    """[B, h, T, d] with h = T: the last head has a gradient, the last position has none."""
    parameters, x = some_parameters(w=(WIDTH,)), some_input(BATCH, POSITIONS, POSITIONS, WIDTH)
    with watching(parameters, (BATCH, POSITIONS), lambda *_: None) as watch:
        result = x + parameters["w"]
    torch.autograd.backward(result[:, :, :-1].sum(), inputs=[watch.anchor], retain_graph=True)
    watch.check_order()
    torch.autograd.backward(result.sum(), inputs=[watch.anchor])
    with pytest.raises(LwfError, match="w: the layer of this parameter mixes the samples"):
        watch.check_order()


def test_as_many_samples_as_positions_are_refused() -> None:
    parameters = some_parameters(w=(WIDTH,))
    with pytest.raises(ValueError, match="must differ"):
        watching(parameters, (POSITIONS, POSITIONS), _never)
    watching(parameters, (1, 1), _never)


def test_differentiating_within_the_forward_pass_is_refused() -> None:
    def operation(p: Parameters, x: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad((x * p["w"]).sum(), x)
        return x + slope

    with pytest.raises(LwfError, match="differentiates within its forward pass"):
        Watched(operation, some_parameters(w=(WIDTH,)), some_input(BATCH, POSITIONS, WIDTH))


def test_a_single_sample_is_in_order_however_it_lies() -> None:
    parameters = some_parameters(w=(5, WIDTH))
    x, told = torch.randn(POSITIONS, 1, WIDTH, dtype=torch.float64), []
    with watching(parameters, (1, POSITIONS), lambda _, factor: told.append(factor)) as watch:
        result = functional.linear(x, parameters["w"])
    result.backward(torch.ones_like(result), inputs=[watch.anchor])
    expected = torch.ones(5, 1, dtype=torch.float64) * x.sum(dim=(0, 1))
    assert torch.allclose(dense(told[0], parameters["w"].shape)[0], expected)
    assert not isinstance(told[0], Scattered)
