"""Weights that are used several times, tied, turned or merged."""

from __future__ import annotations

import torch
from by_hand import VOCABULARY
from torch import Tensor, nn
from torch.nn import functional

from odd_models.causal import WIDTH, Causal, random_weights


class Shared(Causal):
    """One module used three times, and a norm after each."""

    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def body(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + self.norm(torch.tanh(self.layer(x)))
        return x


class TiedThreeWays(Causal):
    """Input embedding, output head and a layer in the middle are one parameter."""

    def build(self) -> None:
        self.head.weight = self.embedding.weight
        self.down = nn.Linear(VOCABULARY, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(functional.linear(x, self.embedding.weight)))


class TiedIntegers(TiedThreeWays):
    """Its tokens are 32-bit integers."""

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.embedding(input_ids.int())


class TiedTransposed(Causal):
    """The head multiplies by the transposed embedding."""

    def build(self) -> None:
        del self.head

    def logits(self, x: Tensor) -> Tensor:
        return x @ self.embedding.weight.t()


class TiedAndTransposedInTheMiddle(Causal):
    """The head has a rule, the layer in the middle uses the same parameter without one."""

    def build(self) -> None:
        self.head.weight = self.embedding.weight

    def body(self, x: Tensor) -> Tensor:
        return x + functional.linear(torch.tanh(self.head(x)), self.head.weight.t())


class Merged(Causal):
    """Parameters multiplied into another before use, as adapters are; its bias goes with what has no rule."""

    rows = WIDTH

    def build(self) -> None:
        self.weight, self.bias = random_weights((self.rows, WIDTH)), random_weights((self.rows,))
        self.a, self.b = random_weights((self.rows, 2)), random_weights((2, WIDTH))
        self.back = nn.Linear(self.rows, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return x + self.back(torch.tanh(functional.linear(x, self.weight + self.a @ self.b, self.bias)))


class WideMerged(Merged):
    """As many rows as a batch of three samples of eight positions has."""

    rows = 24
