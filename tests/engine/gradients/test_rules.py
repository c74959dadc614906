"""Each rule by itself: the factors that it hands out, and the gradient that it lets through, against plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lwf_assets.engine.gradients.autograd_graph import parameters_reached_by
from lwf_assets.engine.gradients.factors import Factor, Outer, Scattered, Whole
from lwf_assets.engine.gradients.operations import NODES_WITH_RULE
from lwf_assets.engine.gradients.rules import RULES
from lwf_assets.engine.gradients.watch import GradientWatch
from lwf_assets.errors import LwfError

BATCH, POSITIONS, WIDTH = 3, 4, 6
Parameters = Mapping[str, nn.Parameter]
Operation = Callable[[Any, Tensor], Tensor]


watching = partial(GradientWatch, rules=RULES, nodes_with_rule=NODES_WITH_RULE)


def _parameters(**shapes: tuple[int, ...]) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, shape in shapes.items()
    }


def _input(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def _dense(factor: Factor, shape: torch.Size) -> Tensor:
    """The gradients of all samples, [batch, *shape]."""
    if isinstance(factor, Outer):
        return torch.einsum("npr,npc->nrc", factor.left, factor.right)
    if isinstance(factor, Whole):
        return factor.gradients.double()
    result = torch.zeros(len(factor.ids), *shape, dtype=torch.float64)
    for row, ids, values in zip(result, factor.ids, factor.values, strict=True):
        row.index_add_(0, ids, values)
    return result


class Watched:
    """What is told of an operation on [batch, ..] in one backward pass of a random loss."""

    def __init__(self, operation: Operation, parameters: Parameters, x: Tensor) -> None:
        self.told: dict[str, Tensor] = {}
        with watching(parameters, (BATCH, POSITIONS), self._receive(parameters)) as watch:
            result = operation(parameters, x)
        generator = torch.Generator().manual_seed(2)
        self.weights = torch.randn(BATCH, result.numel() // BATCH, generator=generator, dtype=torch.float64)
        loss = (result.reshape(BATCH, -1) * self.weights).sum()
        names = {id(parameter): name for name, parameter in parameters.items()}
        self.reached = {names[id(leaf)] for leaf in parameters_reached_by(loss) if id(leaf) in names}
        x.grad = None
        inputs = [watch.anchor, x] if x.requires_grad else [watch.anchor]
        torch.autograd.backward(loss, inputs=inputs)
        self.watch, self.onward = watch, x.grad

    def _receive(self, parameters: Parameters) -> Callable[[str, Factor], None]:
        def receive(name: str, factor: Factor) -> None:
            gradients = _dense(factor, parameters[name].shape)
            self.told[name] = self.told[name] + gradients if name in self.told else gradients

        return receive

    def expected(self, operation: Operation, parameters: Parameters, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of single samples and of x, by plain autograd on one sample at a time."""
        by_sample: dict[str, list[Tensor]] = {name: [] for name in parameters}
        onward = []
        for sample, weights in zip(x.detach(), self.weights, strict=True):
            one = sample.unsqueeze(0)
            one = one.requires_grad_(x.requires_grad)
            loss = (operation(parameters, one).reshape(-1) * weights).sum()
            leaves = [*parameters.values(), *([one] if x.requires_grad else [])]
            gradients = torch.autograd.grad(loss, leaves)
            for name, gradient in zip(parameters, gradients, strict=False):
                by_sample[name].append(gradient)
            onward.append(gradients[-1])
        return {name: torch.stack(some) for name, some in by_sample.items()}, torch.cat(onward)


def _assert_has_rule(operation: Operation, parameters: Parameters, x: Tensor) -> None:
    watched = Watched(operation, parameters, x)
    assert watched.reached == set()
    gradients, onward = watched.expected(operation, parameters, x)
    assert set(watched.told) == set(parameters)
    for name, gradient in gradients.items():
        assert (watched.told[name] - gradient).norm() <= 1e-6 * gradient.norm()
    if x.requires_grad:
        assert watched.onward is not None
        assert (watched.onward - onward).norm() <= 1e-6 * onward.norm()


WITH_RULE: dict[str, tuple[Operation, dict[str, tuple[int, ...]]]] = {
    "linear": (lambda p, x: functional.linear(x, p["w"]), {"w": (5, 6)}),
    "linear with bias": (lambda p, x: functional.linear(x, p["w"], p["b"]), {"w": (5, 6), "b": (5,)}),
    "linear by name": (
        lambda p, x: functional.linear(bias=p["b"], weight=p["w"], input=x),
        {"w": (5, 6), "b": (5,)},
    ),
    "linear with a constant weight": (
        lambda p, x: functional.linear(x, torch.ones(5, 6, dtype=x.dtype), p["b"]),
        {"b": (5,)},
    ),
    "linear with a constant bias": (
        lambda p, x: functional.linear(x, p["w"], torch.ones(5, dtype=x.dtype)),
        {"w": (5, 6)},
    ),
    "addmm": (lambda p, x: torch.addmm(p["b"], x.view(-1, 6), p["w"]), {"w": (6, 5), "b": (5,)}),
    "addmm by name": (
        lambda p, x: torch.addmm(mat2=p["w"], input=p["b"], mat1=x.view(-1, 6)),
        {"w": (6, 5), "b": (5,)},
    ),
    "torch.matmul": (lambda p, x: torch.matmul(x, p["w"]), {"w": (6, 5)}),
    "torch.matmul by name": (lambda p, x: torch.matmul(other=p["w"], input=x), {"w": (6, 5)}),
    "Tensor.matmul": (lambda p, x: x.matmul(p["w"]), {"w": (6, 5)}),
    "@": (lambda p, x: x @ p["w"], {"w": (6, 5)}),
    "layer_norm": (lambda p, x: functional.layer_norm(x, (6,), p["w"], p["b"], 1e-3), {"w": (6,), "b": (6,)}),
    "layer_norm with weight": (lambda p, x: functional.layer_norm(x, [6], p["w"]), {"w": (6,)}),
    "layer_norm with bias": (lambda p, x: functional.layer_norm(x, (6,), bias=p["b"]), {"b": (6,)}),
    "layer_norm by name": (
        lambda p, x: functional.layer_norm(input=x, normalized_shape=(6,), bias=p["b"], weight=p["w"], eps=0.1),
        {"w": (6,), "b": (6,)},
    ),
    "rms_norm": (lambda p, x: functional.rms_norm(x, (6,), p["w"]), {"w": (6,)}),
    "rms_norm by name": (
        lambda p, x: functional.rms_norm(eps=0.1, weight=p["w"], normalized_shape=(6,), input=x),
        {"w": (6,)},
    ),
    "x * w": (lambda p, x: x * p["w"], {"w": (6,)}),
    "w * x": (lambda p, x: p["w"] * x, {"w": (6,)}),
    "torch.mul(x, w)": (lambda p, x: torch.mul(x, p["w"]), {"w": (6,)}),
    "torch.mul(w, x)": (lambda p, x: torch.mul(p["w"], x), {"w": (6,)}),
    "torch.mul by name": (lambda p, x: torch.mul(other=p["w"], input=x), {"w": (6,)}),
    "x.mul(w)": (lambda p, x: x.mul(p["w"]), {"w": (6,)}),
    "w.mul(x)": (lambda p, x: p["w"].mul(other=x), {"w": (6,)}),
    "x + w": (lambda p, x: x + p["w"], {"w": (6,)}),
    "w + x": (lambda p, x: p["w"] + x, {"w": (6,)}),
    "torch.add(x, w)": (lambda p, x: torch.add(x, p["w"], alpha=1), {"w": (6,)}),
    "torch.add(w, x)": (lambda p, x: torch.add(p["w"], x), {"w": (6,)}),
    "torch.add by name": (lambda p, x: torch.add(other=p["w"], input=x), {"w": (6,)}),
    "x.add(w)": (lambda p, x: x.add(other=p["w"]), {"w": (6,)}),
    "w.add(x)": (lambda p, x: p["w"].add(x), {"w": (6,)}),
    "1 + w": (lambda p, x: x * (1 + p["w"]), {"w": (6,)}),
    "w + 1.0": (lambda p, x: (p["w"] + 1.0) * x, {"w": (6,)}),
    "torch.add(w, 1)": (lambda p, x: x * torch.add(p["w"], 1), {"w": (6,)}),
    "w.float()": (lambda p, x: x * p["w"].float(), {"w": (6,)}),
    "w.to(type)": (lambda p, x: functional.linear(x, p["w"].to(x.dtype, copy=True)), {"w": (5, 6)}),
    "1 + w.float(), converted back": (lambda p, x: x * (1.0 + p["w"].float()).to(dtype=x.dtype), {"w": (6,)}),
    "used three times": (
        lambda p, x: functional.linear((x * p["v"] + p["v"]) @ p["w"], p["w"]),
        {"w": (6, 6), "v": (6,)},
    ),
}
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "[B, T, d]": lambda x: x[:, :, 0],
    "[B * T, d]": lambda x: x[:, :, 0].contiguous().view(-1, WIDTH),
    "[B, T, h, d]": lambda x: x,
    "[B, h, T, d]": lambda x: x.transpose(1, 2),
}


@pytest.mark.parametrize(
    ("case", "layout"),
    # addmm takes two dimensions alone
    [(case, layout) for case in WITH_RULE for layout in LAYOUTS if not ("addmm" in case and "h" in layout)],
)
def test_rule_equals_autograd(case: str, layout: str) -> None:
    operation, shapes = WITH_RULE[case]
    _assert_has_rule(
        lambda p, x: operation(p, LAYOUTS[layout](x)), _parameters(**shapes), _input(BATCH, POSITIONS, 2, WIDTH)
    )


def test_every_operation_with_a_rule_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = set()

    def noting(function: Any, rule: Callable[..., Any]) -> Callable[..., Any]:
        def call(watch: GradientWatch, *args: Any, **kwargs: Any) -> Any:
            tried.add(function)
            return rule(watch, *args, **kwargs)

        return call

    for function, rule in RULES.items():
        monkeypatch.setitem(RULES, function, noting(function, rule))
    for operation, shapes in WITH_RULE.values():
        Watched(
            lambda p, x, of=operation: of(p, x[:, :, 0].contiguous().view(-1, WIDTH)),
            _parameters(**shapes),
            _input(BATCH, POSITIONS, 2, WIDTH),
        )
    assert {function.__name__ for function in set(RULES) - tried} == {"embedding"}  # which has a test of its own


@pytest.mark.parametrize("padding_idx", [None, 2, -3])
@pytest.mark.parametrize(
    "ids_of", [lambda x: x[:, :, 0], lambda x: x[:, :, 0].contiguous().view(-1), lambda x: x, lambda x: x.int()]
)
def test_embedding(ids_of: Callable[[Tensor], Tensor], padding_idx: int | None) -> None:
    ids = torch.tensor(
        [[[2, 1], [2, 2], [4, 0], [0, 0]], [[1, 1], [1, 1], [1, 1], [1, 1]], [[0, 1], [2, 3], [4, 2], [2, 4]]]
    )
    _assert_has_rule(
        lambda p, x: functional.embedding(ids_of(x), p["w"], padding_idx=padding_idx), _parameters(w=(5, WIDTH)), ids
    )


@pytest.mark.parametrize("padding_idx", [None, 1, -4])
@pytest.mark.parametrize(
    "ids", [torch.tensor([3, 1, 1, 0]), torch.tensor([[3, 1, 1, 0]]), torch.tensor([[3, 1, 1, 0]]).int()]
)
@pytest.mark.parametrize("add", [lambda x, y: x + y, lambda x, y: torch.add(y, x)])
def test_lookup_for_all_samples_is_told_where_a_sum_spreads_it(add: Any, ids: Tensor, padding_idx: int | None) -> None:
    _assert_has_rule(
        lambda p, x: add(x, functional.embedding(ids, p["w"], padding_idx=padding_idx)),
        _parameters(w=(5, WIDTH)),
        _input(BATCH, POSITIONS, WIDTH),
    )


_ids = torch.tensor([[3, 1, 1, 0]])
WITHOUT_RULE: dict[str, tuple[Operation, dict[str, tuple[int, ...]]]] = {
    "addmm with beta": (lambda p, x: torch.addmm(p["b"], x.view(-1, 6), p["w"], beta=2), {"w": (6, 5), "b": (5,)}),
    "addmm with alpha": (lambda p, x: torch.addmm(p["b"], x.view(-1, 6), p["w"], alpha=2), {"w": (6, 5), "b": (5,)}),
    "addmm with a matrix as bias": (
        lambda p, x: torch.addmm(p["b"], x.view(-1, 6), p["w"]),
        {"w": (6, 5), "b": (BATCH * POSITIONS, 5)},
    ),
    "addmm with a bias of one element": (
        lambda p, x: torch.addmm(p["b"], x.view(-1, 6), p["w"]),
        {"w": (6, 5), "b": (1,)},
    ),
    "linear with a bias of one element": (lambda p, x: functional.linear(x, p["w"], p["b"]), {"w": (5, 6), "b": (1,)}),
    "linear beside a changed weight": (
        lambda p, x: functional.linear(x, 2 * p["w"], p["b"]),
        {"w": (5, 6), "b": (5,)},
    ),
    "matmul from the left": (lambda p, x: p["w"] @ x.mT, {"w": (5, 6)}),
    "matmul with a vector": (lambda p, x: x @ p["w"], {"w": (6,)}),
    "matmul with a stack": (lambda p, x: x @ p["w"], {"w": (BATCH, 6, 5)}),
    "transposed": (lambda p, x: x @ p["w"].t(), {"w": (5, 6)}),
    "sliced": (lambda p, x: functional.linear(x, p["w"][:3]), {"w": (5, 6)}),
    "add with alpha": (lambda p, x: torch.add(x, p["w"], alpha=2), {"w": (6,)}),
    "in place": (lambda p, x: x.clone().mul_(p["w"]).add_(p["v"]), {"w": (6,), "v": (6,)}),
    "scalar": (lambda p, x: x * p["w"], {"w": ()}),
    "one element": (lambda p, x: x * p["w"] + p["v"], {"w": (1,), "v": (1,)}),
    "matrix": (lambda p, x: x * p["w"] + p["v"], {"w": (POSITIONS, 6), "v": (1, 1, 6)}),
    "norm over two dimensions": (
        lambda p, x: functional.layer_norm(x, (POSITIONS, 6), p["w"], p["b"]),
        {"w": (POSITIONS, 6), "b": (POSITIONS, 6)},
    ),
    "rms norm over two dimensions": (
        lambda p, x: functional.rms_norm(x, (POSITIONS, 6), p["w"]),
        {"w": (POSITIONS, 6)},
    ),
    "positions first": (lambda p, x: functional.linear(x.transpose(0, 1), p["w"]).transpose(0, 1), {"w": (5, 6)}),
    "positions first and flattened": (
        lambda p, x: functional.linear(x.transpose(0, 1).reshape(-1, 6), p["w"]).view(-1, len(x), 5).transpose(0, 1),
        {"w": (5, 6)},
    ),
    "all rows in another order": (
        lambda p, x: (x.view(-1, 6).flip(0) * p["w"]).flip(0),
        {"w": (6,)},
    ),
    "all rows by their numbers": (
        lambda p, x: torch.tanh(x.view(-1, 6)[torch.arange(len(x) * POSITIONS)] * 2) + p["w"],
        {"w": (6,)},
    ),
    "one row of each sample": (lambda p, x: functional.linear(x[:, 0], p["w"]), {"w": (5, 6)}),
    "rows of another parameter": (
        lambda p, x: functional.linear(x, torch.tanh(p["w"]) * p["v"]),
        {"w": (BATCH * POSITIONS, 6), "v": (6,)},
    ),
    "product of parameters": (
        lambda p, x: functional.linear(x, p["a"] @ p["b"]),
        {"a": (BATCH * POSITIONS, 2), "b": (2, 6)},
    ),
    "copy that is changed": (lambda p, x: x * (1 + p["w"]).mul_(2), {"w": (6,)}),
    "embedding that counts": (
        lambda p, x: x + functional.embedding(_ids.expand(len(x), -1), p["w"], scale_grad_by_freq=True),
        {"w": (5, 6)},
    ),
    "embedding with a largest norm": (
        lambda p, x: x + functional.embedding(_ids.expand(len(x), -1), p["w"], max_norm=100.0),
        {"w": (5, 6)},
    ),
    "first row of a lookup": (lambda p, x: x + functional.embedding(_ids, p["w"])[0], {"w": (5, 6)}),
    "product with a lookup": (lambda p, x: x * functional.embedding(_ids, p["w"]), {"w": (5, 6)}),
    "changed lookup": (lambda p, x: x + functional.embedding(_ids, p["w"]).mul_(2), {"w": (5, 6)}),
    "lookup of other places": (
        lambda p, x: x + functional.embedding(torch.tensor([[0, 1]]), p["w"]).sum(dim=1),
        {"w": (5, 6)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WITHOUT_RULE)
def test_what_has_no_rule_stays_in_the_graph(case: str) -> None:
    operation, shapes = WITHOUT_RULE[case]
    parameters = _parameters(**shapes)
    watched = Watched(operation, parameters, _input(BATCH, POSITIONS, WIDTH))
    assert watched.reached == set(parameters)
    assert watched.told == {}


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
    weight = _parameters(w=(WIDTH, WIDTH))["w"]
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
    watched = Watched(lambda p, x: x * constant(p["w"]), _parameters(w=(6,)), _input(BATCH, POSITIONS, WIDTH))
    assert watched.reached == set()
    assert watched.told == {}


def test_a_copy_made_without_gradients_has_none() -> None:
    def operation(p: Parameters, x: Tensor) -> Tensor:
        with torch.no_grad():
            copy = 1 + p["w"]
        return x * copy

    watched = Watched(operation, _parameters(w=(6,)), _input(BATCH, POSITIONS, WIDTH))
    assert watched.told == {}


def test_an_operand_without_a_gradient_may_have_whole_numbers() -> None:
    places = torch.arange(BATCH * POSITIONS * WIDTH).view(BATCH, POSITIONS, WIDTH)
    _assert_has_rule(lambda p, x: x * p["w"] + p["v"], _parameters(w=(WIDTH,), v=(WIDTH,)), places)


def test_a_parameter_inside_an_own_function_is_reached() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            return functional.linear(x, weight)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(BATCH, POSITIONS, WIDTH).double(), torch.zeros(5, WIDTH).double()

    watched = Watched(lambda p, x: Doubled.apply(x, p["w"]), _parameters(w=(5, 6)), _input(BATCH, POSITIONS, WIDTH))
    assert watched.reached == {"w"}


def test_uses_are_counted_once_for_each_operation() -> None:
    parameters, x = _parameters(w=(WIDTH, WIDTH), v=(WIDTH,), idle=(WIDTH,)), _input(BATCH, POSITIONS, WIDTH)
    with watching(parameters, (BATCH, POSITIONS), _never) as watch:
        functional.linear(functional.linear(x * parameters["v"], parameters["w"]), parameters["w"], parameters["v"])
    assert watch.uses == {"w": 2, "v": 2}


def test_nothing_is_watched_behind_the_block() -> None:
    parameters, x = _parameters(w=(5, WIDTH)), _input(BATCH, POSITIONS, WIDTH)
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
    """A bias behind samples that a layer has put into the order `layout`; the last position has no loss."""
    parameters, x = _parameters(w=(WIDTH,)), _input(BATCH, POSITIONS, 2, WIDTH)
    with watching(parameters, (BATCH, POSITIONS), lambda *_: None) as watch:
        result = x.flatten(0, 1)[torch.tensor(layout)].view(x.shape) + parameters["w"]
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
    parameters, x = _parameters(w=(WIDTH,)), _input(BATCH, 2, 2, WIDTH)
    with watching(parameters, (BATCH, POSITIONS), lambda *_: None) as watch:
        result = x + parameters["w"]
    torch.autograd.backward(result.sum(), inputs=[watch.anchor])
    watch.check_order()


def test_as_many_samples_as_positions_are_refused() -> None:
    parameters = _parameters(w=(WIDTH,))
    with pytest.raises(ValueError, match="must be unique"):
        watching(parameters, (POSITIONS, POSITIONS), _never)
    watching(parameters, (1, 1), _never)


def test_differentiating_within_the_forward_pass_is_refused() -> None:
    def operation(p: Parameters, x: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad((x * p["w"]).sum(), x)
        return x + slope

    with pytest.raises(LwfError, match="differentiates within its forward pass"):
        Watched(operation, _parameters(w=(WIDTH,)), _input(BATCH, POSITIONS, WIDTH))


def test_a_single_sample_is_in_order_however_it_lies() -> None:
    parameters = _parameters(w=(5, WIDTH))
    x, told = torch.randn(POSITIONS, 1, WIDTH, dtype=torch.float64), []
    with watching(parameters, (1, POSITIONS), lambda _, factor: told.append(factor)) as watch:
        result = functional.linear(x, parameters["w"])
    result.backward(torch.ones_like(result), inputs=[watch.anchor])
    expected = torch.ones(5, 1, dtype=torch.float64) * x.sum(dim=(0, 1))
    assert torch.allclose(_dense(told[0], parameters["w"].shape)[0], expected)
    assert not isinstance(told[0], Scattered)
