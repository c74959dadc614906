"""Forward and backward passes that are not run as they stand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from odd_models.causal import WIDTH, Causal, random_weights


class Unused(Causal):
    """A layer that is never called, one whose result is not used, one whose result is multiplied by zero."""

    def build(self) -> None:
        self.never, self.in_vain, self.for_nothing = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        self.in_vain(x)
        return self.layer(x) + 0 * self.for_nothing(x)


class PartlyUnused(Causal):
    """One layer whose first result is not used and whose second is, and one used where no gradient is wanted."""

    def build(self) -> None:
        self.layer, self.watcher = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        self.layer(2 * x)
        with torch.no_grad():
            constant = self.watcher(x)
        return torch.tanh(self.layer(x)) + torch.tanh(self.watcher(x)) * constant


class Checkpointed(Causal):
    """The forward pass of the layers is run again in the backward pass."""

    reentrant = False

    def build(self) -> None:
        self.layer, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.scale = random_weights((WIDTH,))

    def body(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return x

    def block(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(self.norm(x)) * self.scale)


class CheckpointedReentrant(Checkpointed):
    reentrant = True


class Dropout(Causal):
    """Dropout before and in the layer."""

    def build(self) -> None:
        self.dropout, self.layer = nn.Dropout(0.5), nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return self.dropout(x) + functional.dropout(self.layer(x), 0.5, self.training)


class DifferentiatesInForward(Causal):
    """A step of gradient descent on the activations, within the forward pass."""

    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            energy = torch.tanh(self.layer(x)).square().sum()
            (slope,) = torch.autograd.grad(energy, x, create_graph=True)
        return x - 0.1 * slope
