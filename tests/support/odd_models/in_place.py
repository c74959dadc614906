"""What is changed in place, and copies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from odd_models.causal import WIDTH, Causal, random_weights


class InPlace(Causal):
    """What operations with a rule give is changed in place."""

    def build(self) -> None:
        self.layer, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.scale = random_weights((WIDTH,))

    def embed(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        x *= 1.5
        x += 0.1
        return x

    def body(self, x: Tensor) -> Tensor:
        x = functional.relu_(self.layer(x) + 0.1)
        x = self.norm(x).mul_(0.5)
        return (x * self.scale).tanh_()


class ResultsInPlace(Causal):
    """What operations with a rule give, or a view of it, is changed in place by what has a gradient of its own."""

    def build(self) -> None:
        self.table = nn.Embedding(64, WIDTH)
        self.layer, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.bare = nn.Linear(WIDTH, WIDTH, bias=False)
        self.register_buffer("fixed", torch.randn(WIDTH, WIDTH))
        self.scale, self.shift = random_weights((WIDTH,)), random_weights((WIDTH,))
        self.stack = random_weights((2, WIDTH, WIDTH))

    def embed(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x += self.table(places.unsqueeze(0))
        return x.view(*x.shape[:2], 2, 3).mul_(1.5).flatten(-2)

    def body(self, x: Tensor) -> Tensor:
        before = torch.sin(x)
        for result in (self.layer(x), self.bare(x), x @ self.stack[0], self.norm(x), x * self.scale, x + self.shift):
            result += before
            result[:, :, 0] *= 0.5
            result.view(-1, WIDTH)[:, 1:].add_(before.view(-1, WIDTH)[:, :1])
            before = torch.sin(result)
        flat = functional.linear(before.view(-1, WIDTH), self.fixed, self.shift)
        before += 1  # no gradient of a parameter needs it
        flat.mul_(0.5).view_as(x)[:, -1] *= 2
        return torch.tanh(flat.view_as(x)) + before


class ParameterInPlace(Causal):
    """Operations in place with a parameter as their other operand."""

    def build(self) -> None:
        self.scale, self.shift = random_weights((WIDTH,)), random_weights((WIDTH,))

    def body(self, x: Tensor) -> Tensor:
        x = torch.sin(x)
        x *= self.scale
        x += self.shift
        return torch.tanh(x)


class ChangedCopy(Causal):
    """A copy of a parameter is changed in place before it is used."""

    def build(self) -> None:
        self.weight, self.scale = random_weights((WIDTH, WIDTH)), random_weights((WIDTH,))

    def body(self, x: Tensor) -> Tensor:
        scale = 1 + self.scale
        scale *= 3
        weight = self.weight.to(x.dtype, copy=True)
        weight[0] = 0
        return x + torch.tanh(functional.linear(x * scale, weight))


class ConstantCopy(Causal):
    """A copy of a parameter that no gradient flows through, beside the parameter itself."""

    def build(self) -> None:
        self.scale, self.rounded = random_weights((WIDTH,)), random_weights((WIDTH,), scale=3)

    def body(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            constant = 1 + self.scale
        steps = self.rounded.to(torch.int32).to(x.dtype)
        return torch.tanh(x * constant + x * self.scale) + 0.1 * x * steps + x * self.rounded
