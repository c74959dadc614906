"""Operations with and without a rule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from odd_models.causal import WIDTH, Causal, random_weights


class ScaledColumns(Causal):
    """A weight multiplied by a vector; it has as many rows as a batch of three samples of eight positions."""

    def build(self) -> None:
        self.weight, self.scale = random_weights((24, WIDTH)), random_weights((WIDTH,))
        self.back = nn.Linear(24, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return x + self.back(torch.tanh(functional.linear(x, torch.tanh(self.weight) * self.scale)))


class Scalar(Causal):
    """A parameter without dimensions, one of a single element, and a bias of a single element."""

    def build(self) -> None:
        self.gate = nn.Parameter(torch.tensor(0.7))
        self.temperature = nn.Parameter(torch.tensor([1.3]))
        self.shift = nn.Parameter(torch.tensor([0.3]))
        self.layer = nn.Linear(WIDTH, WIDTH, bias=False)

    def body(self, x: Tensor) -> Tensor:
        x = x + self.gate * torch.tanh(functional.linear(x, self.layer.weight, self.shift))
        return x * self.temperature


class _Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight) ** 3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        inner = 3 * functional.linear(x, weight) ** 2 * gradient
        return inner @ weight, inner.flatten(0, -2).T @ x.flatten(0, -2)


class OwnFunction(Causal):
    """A parameter inside an autograd function of the model's own, whose forward calls an operation with a rule."""

    def build(self) -> None:
        self.weight = random_weights((WIDTH, WIDTH))
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.tanh(_Cubed.apply(x, self.weight)))


class Convolution(Causal):
    """A causal convolution over positions."""

    def build(self) -> None:
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3)

    def body(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.convolution(functional.pad(x.mT, (2, 0))).mT)


class FixedWeights(Causal):
    """Linear layers whose weight is a constant: bias and scale are parameters."""

    def build(self) -> None:
        self.register_buffer("weight", torch.randn(WIDTH, WIDTH))
        self.bias = random_weights((WIDTH,))

    def body(self, x: Tensor) -> Tensor:
        return x + torch.tanh(functional.linear(x, self.weight, self.bias))


class BesideWhatHasNoRule(Causal):
    """The weight has no rule: its bias cannot have one either."""

    def build(self) -> None:
        self.weight, self.bias = random_weights((WIDTH, WIDTH)), random_weights((WIDTH,))

    def body(self, x: Tensor) -> Tensor:
        return x + torch.tanh(functional.linear(x, torch.tanh(self.weight), self.bias))


class Gemma(Causal):
    """`1 + weight`, by all ways to write it."""

    def build(self) -> None:
        self.first, self.second, self.third = (random_weights((WIDTH,)) for _ in range(3))

    def body(self, x: Tensor) -> Tensor:
        return torch.tanh(x * (1 + self.first)) * (self.second + 1.0) * torch.add(self.third, 1).to(x.dtype)


class WideNorm(Causal):
    """A norm over more than one dimension."""

    def build(self) -> None:
        self.norm = nn.LayerNorm((2, 3))

    def body(self, x: Tensor) -> Tensor:
        return x + self.norm(x.unflatten(-1, (2, 3))).flatten(-2)


class OddNumbers(Causal):
    """Weights behind a parametrization, a stack of weights, a slice of one."""

    def build(self) -> None:
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))
        self.packed = random_weights((3 * WIDTH, WIDTH))
        self.stack = random_weights((2, WIDTH, WIDTH))

    def body(self, x: Tensor) -> Tensor:
        first, second, third = (functional.linear(x, part) for part in self.packed.chunk(3))
        x = x + torch.tanh(first * second + third)
        x = torch.tanh(self.normed(x))
        return x + torch.einsum("btd,df->btf", x, self.stack[0]) + torch.tanh(x @ self.stack[1])


class Attention(Causal):
    """torch's own attention and transformer layer."""

    def build(self) -> None:
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True)

    def body(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        x = x + self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return self.layer(x, src_mask=mask, is_causal=True)


class Recurrent(Causal):
    """Weights used inside one operation of torch's, for all positions."""

    def build(self) -> None:
        self.layer = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def body(self, x: Tensor) -> Tensor:
        return x + self.layer(x)[0]
