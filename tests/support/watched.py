"""One watched operation, and what it hands out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lwf_assets.engine.gradients.autograd_graph import parameters_reached_by
from lwf_assets.engine.gradients.factors import Factor, Outer, Routed, Whole
from lwf_assets.engine.gradients.operations import NODES_WITH_RULE
from lwf_assets.engine.gradients.rules import RULES
from lwf_assets.engine.gradients.watch import GradientWatch

BATCH, POSITIONS, WIDTH = 3, 4, 6


Parameters = Mapping[str, nn.Parameter]


Operation = Callable[[Any, Tensor], Tensor]


watching = partial(GradientWatch, rules=RULES, nodes_with_rule=NODES_WITH_RULE)


def some_parameters(**shapes: tuple[int, ...]) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, shape in shapes.items()
    }


def some_input(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def dense(factor: Factor, shape: torch.Size) -> Tensor:
    """The gradients of all samples, [batch, *shape]."""
    if isinstance(factor, Outer):
        return torch.einsum("npr,npc->nrc", factor.left, factor.right)
    if isinstance(factor, Whole):
        return factor.gradients.double()
    if isinstance(factor, Routed):
        stack = torch.zeros(BATCH, *shape, dtype=torch.float64)
        return stack.index_put_(
            (factor.samples, factor.matrices), torch.einsum("pr,pc->prc", factor.left, factor.right), accumulate=True
        )
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
            gradients = dense(factor, parameters[name].shape)
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


def assert_has_rule(operation: Operation, parameters: Parameters, x: Tensor) -> None:
    watched = Watched(operation, parameters, x)
    assert watched.reached == set()
    gradients, onward = watched.expected(operation, parameters, x)
    assert set(watched.told) == set(parameters)
    for name, gradient in gradients.items():
        assert (watched.told[name] - gradient).norm() <= 1e-6 * gradient.norm()
    if x.requires_grad:
        assert watched.onward is not None
        assert (watched.onward - onward).norm() <= 1e-6 * onward.norm()
