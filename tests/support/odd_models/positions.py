"""A table of positions, looked up in all ways."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from odd_models.causal import WIDTH, Causal


class Positions(Causal):
    """A table of positions, looked up once for all samples."""

    def build(self) -> None:
        self.table = nn.Embedding(64, WIDTH)

    def places(self, input_ids: Tensor) -> Tensor:
        return torch.arange(input_ids.shape[1], device=input_ids.device)

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.embedding(input_ids) + self.table(self.places(input_ids).unsqueeze(0))


class PositionsAsVector(Positions):
    def embed(self, input_ids: Tensor) -> Tensor:
        return self.table(self.places(input_ids)) + self.embedding(input_ids)


class PositionsOfEach(Positions):
    def embed(self, input_ids: Tensor) -> Tensor:
        places = self.places(input_ids).to(torch.int32).expand_as(input_ids)
        return self.embedding(input_ids) + self.table(places)


class PositionsFromTheFirstRow(Positions):
    def embed(self, input_ids: Tensor) -> Tensor:
        return self.embedding(input_ids) + self.table(self.places(input_ids).unsqueeze(0))[0]


class PositionsSummed(Positions):
    def embed(self, input_ids: Tensor) -> Tensor:
        return self.embedding(input_ids) + torch.sin(self.table(self.places(input_ids).unsqueeze(0)).sum(dim=0))


class PositionsTwice(Positions):
    """Looked up once; the second use is not a sum with the tokens."""

    def embed(self, input_ids: Tensor) -> Tensor:
        places = self.table(self.places(input_ids).unsqueeze(0))
        x = self.embedding(input_ids)
        return (x + places) * torch.sin(places) + places
