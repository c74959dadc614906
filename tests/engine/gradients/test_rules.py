"""Each rule by itself: the factors that it hands out, and the gradient that it lets through, against plain autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from watched import BATCH, POSITIONS, WIDTH, Operation, Watched, assert_has_rule, some_input, some_parameters

from lwf_assets.engine.gradients.rules import RULES
from lwf_assets.engine.gradients.watch import GradientWatch

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
    "transposed": (lambda p, x: x @ p["w"].t(), {"w": (5, 6)}),
    "T": (lambda p, x: functional.linear(x, p["w"].T, p["b"]), {"w": (6, 5), "b": (5,)}),
    "mT": (lambda p, x: x @ p["w"].mT, {"w": (5, 6)}),
    "transpose, and back": (
        lambda p, x: x @ torch.transpose(torch.t(p["w"].transpose(-2, -1)), dim0=0, dim1=1),
        {"w": (5, 6)},
    ),
    "one matrix of a stack": (lambda p, x: x @ p["w"][1] + p["b"][torch.tensor(2)], {"w": (3, 6, 5), "b": (3, 5)}),
    "one matrix of a stack, by linear": (
        lambda p, x: functional.linear(x, p["w"][torch.tensor(2)], p["b"][-1]),
        {"w": (3, 5, 6), "b": (3, 5)},
    ),
    "several matrices of a stack": (
        lambda p, x: functional.linear(x @ p["w"][0], p["w"][2]) @ p["w"].transpose(1, 2)[2],
        {"w": (3, 6, 6)},
    ),
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
    assert_has_rule(
        lambda p, x: operation(p, LAYOUTS[layout](x)), some_parameters(**shapes), some_input(BATCH, POSITIONS, 2, WIDTH)
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
            some_parameters(**shapes),
            some_input(BATCH, POSITIONS, 2, WIDTH),
        )
    names = {getattr(function, "__name__", function) for function in set(RULES) - tried}
    stacks = {"bmm", "_grouped_mm", "transformers::grouped_mm_fallback"}
    # These have tests of their own: here, and with the models of odd_models.
    assert names == {"embedding", "add_", "__iadd__", "reshape", "expand", *stacks}


@pytest.mark.parametrize("padding_idx", [None, 2, -3])
@pytest.mark.parametrize(
    "ids_of", [lambda x: x[:, :, 0], lambda x: x[:, :, 0].contiguous().view(-1), lambda x: x, lambda x: x.int()]
)
def test_embedding(ids_of: Callable[[Tensor], Tensor], padding_idx: int | None) -> None:
    ids = torch.tensor(
        [[[2, 1], [2, 2], [4, 0], [0, 0]], [[1, 1], [1, 1], [1, 1], [1, 1]], [[0, 1], [2, 3], [4, 2], [2, 4]]]
    )
    assert_has_rule(
        lambda p, x: functional.embedding(ids_of(x), p["w"], padding_idx=padding_idx),
        some_parameters(w=(5, WIDTH)),
        ids,
    )


@pytest.mark.parametrize("padding_idx", [None, 1, -4])
@pytest.mark.parametrize(
    "ids", [torch.tensor([3, 1, 1, 0]), torch.tensor([[3, 1, 1, 0]]), torch.tensor([[3, 1, 1, 0]]).int()]
)
@pytest.mark.parametrize("add", [lambda x, y: x + y, lambda x, y: torch.add(y, x)])
def test_lookup_for_all_samples_is_told_where_a_sum_spreads_it(add: Any, ids: Tensor, padding_idx: int | None) -> None:
    assert_has_rule(
        lambda p, x: add(x, functional.embedding(ids, p["w"], padding_idx=padding_idx)),
        some_parameters(w=(5, WIDTH)),
        some_input(BATCH, POSITIONS, WIDTH),
    )


@pytest.mark.parametrize(
    "spread",
    [
        lambda w, n: w.reshape(1, -1, 1).expand(n, -1, WIDTH),
        lambda w, n: w.view(5, 1).expand(n, 5, WIDTH),
        lambda w, n: w.expand(n, 5).unsqueeze(-1),
    ],
)
def test_a_parameter_that_is_repeated_for_each_sample(spread: Callable[[Tensor, int], Tensor]) -> None:
    """As attention sinks are."""
    assert_has_rule(
        lambda p, x: x * torch.tanh(spread(p["w"], len(x)).mean(dim=1, keepdim=True)),
        some_parameters(w=(5,)),
        some_input(BATCH, POSITIONS, WIDTH),
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
    parameters = some_parameters(**shapes)
    watched = Watched(operation, parameters, some_input(BATCH, POSITIONS, WIDTH))
    assert watched.reached == set(parameters)
    assert watched.told == {}
