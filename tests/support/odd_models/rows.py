"""Rows in another order than sample by sample, fewer or more of them, and rows that are not alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from odd_models.causal import WIDTH, Causal, random_weights


class OneTokenOfEach(Causal):
    """A layer that sees one position of each sample: as many rows as there are samples."""

    def build(self) -> None:
        self.summary = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.summary(x[:, 0])).unsqueeze(1)


class PositionsFirst(Causal):
    """Layers see [positions, batch, width]."""

    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def body(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return (x + torch.tanh(self.layer(self.norm(x)))).transpose(0, 1)


class PositionsFirstWithPrefix(PositionsFirst):
    """Two more positions stand before the tokens: [positions + 2, batch, width]."""

    def build(self) -> None:
        super().build()
        self.prefix = random_weights((2, WIDTH))

    def body(self, x: Tensor) -> Tensor:
        prefix = self.prefix.expand(len(x), -1, -1)
        return super().body(torch.cat([prefix, x], dim=1))[:, 2:]


class PositionsFirstHead(Causal):
    """Also the positions with loss come first: [positions with loss, batch, width]."""

    def logits(self, x: Tensor) -> Tensor:
        return self.head(x.transpose(0, 1)).transpose(0, 1)


class PositionsFirstFlattened(PositionsFirst):
    """Layers see [positions * batch, width]."""

    def body(self, x: Tensor) -> Tensor:
        batch, positions, _ = x.shape
        rows = x.transpose(0, 1).reshape(-1, WIDTH)
        rows = rows + torch.tanh(self.layer(self.norm(rows)))
        return rows.view(positions, batch, WIDTH).transpose(0, 1)


class Flattened(PositionsFirst):
    """Layers see [batch * positions, width], and so on through the layer, as GPT-2 does it."""

    def body(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, WIDTH)
        return (rows + torch.tanh(self.layer(self.norm(rows)))).view_as(x)


class Layered(Causal):
    """States of all layers in one tensor, [layers, batch, positions, width] or with the latter flattened."""

    layers, flat = 3, False

    def build(self) -> None:
        self.norm = nn.LayerNorm(WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        states = torch.stack([torch.tanh(x * (number + 1)) for number in range(self.layers)])
        if self.flat:
            states = states.flatten(1, 2)
        return x + self.mix(self.norm(states)).sum(dim=0).view_as(x)


class LayeredFlat(Layered):
    flat = True


class TwoLayers(Layered):
    layers = 2


class Heads(Causal):
    """Norms over heads, in [batch, positions, heads, width] and in [batch, heads, positions, width]."""

    def build(self) -> None:
        self.before, self.after = nn.LayerNorm(3), nn.RMSNorm(3)

    def body(self, x: Tensor) -> Tensor:
        heads = self.before(x.unflatten(-1, (2, 3))).transpose(1, 2)
        return x + torch.tanh(self.after(heads)).transpose(1, 2).flatten(-2)


class HeadsOfLogits(Causal):
    """A norm over groups of the width behind the choice of the positions with loss."""

    def build(self) -> None:
        self.norm = nn.LayerNorm(3)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x.unflatten(-1, (2, 3))).flatten(-2))


class Bias(Causal):
    """A learned bias for each position and element, and a linear layer with bias over one position at a time."""

    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return torch.stack([torch.tanh(self.layer(x[:, place : place + 1])) for place in range(x.shape[1])], 1).flatten(
            1, 2
        )


class IgnoresTheMask(Causal):
    """What a position sees depends on how long the row is, padding included."""

    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(x)) / x.shape[1]


class MixesRows(Causal):
    """What a row gives depends on the other rows, so that each must be a batch of its own."""

    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(x) + x[:, :1].mean(dim=0, keepdim=True))
