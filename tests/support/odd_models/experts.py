"""Stacks of matrices, one for each expert, in all the ways that they are chosen and multiplied."""

from __future__ import annotations

import torch
import transformers.integrations.moe  # noqa: F401 - it registers the grouped product of older devices
from by_hand import VOCABULARY
from torch import Tensor, nn
from torch.nn import functional

from odd_models.causal import WIDTH, Causal, random_weights


class Experts(Causal):
    """Each expert gets the tokens whose score for it is among the first `chosen`, in the order of their choice."""

    count, chosen = 3, 1

    def build(self) -> None:
        self.router = nn.Linear(WIDTH, self.count, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH)) for _ in range(self.count)
        )

    def body(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, WIDTH)
        shares, choice = self.router(torch.tanh(flat)).softmax(dim=-1).topk(self.chosen, dim=-1)
        result = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rank, token = torch.where((choice == number).T)
            if len(token):
                mixed = expert(flat[token]) * shares[token, rank].unsqueeze(-1)
                result = result.index_add(0, token, mixed)
        return x + result.view_as(x)


class AllExperts(Experts):
    """Every expert gets every token: as many rows as the batch has, in another order."""

    count, chosen = 2, 2


class ExpertsByFirstToken(AllExperts):
    """All tokens of a sample prefer the same expert: whole samples change places."""

    def body(self, x: Tensor) -> Tensor:
        batch, positions, _ = x.shape
        flat = x.reshape(-1, WIDTH)
        first = (self.tokens[:, :1] % 2).expand(batch, positions).reshape(-1)
        choice = torch.stack([first, 1 - first], dim=1)
        shares = self.router(torch.tanh(flat)).softmax(dim=-1).gather(1, choice)
        result = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rank, token = torch.where((choice == number).T)
            result = result.index_add(0, token, expert(flat[token]) * shares[token, rank].unsqueeze(-1))
        return x + result.view_as(x)

    def embed(self, input_ids: Tensor) -> Tensor:
        self.tokens = input_ids
        return super().embed(input_ids)


class StackedExperts(Causal):
    """Weights of all experts in one parameter, biases in another; each row is multiplied with its expert's by a loop
    over the experts, as gpt_oss does it. In a short batch some experts have no tokens."""

    count, chosen, layers = 5, 2, 2

    def build(self) -> None:
        self.router = nn.Linear(WIDTH, self.count)
        self.up, self.up_bias = random_weights((self.count, WIDTH, 8)), random_weights((self.count, 8))
        self.down, self.down_bias = random_weights((self.count, WIDTH, 4)), random_weights((self.count, WIDTH))

    def body(self, x: Tensor) -> Tensor:
        for _ in range(self.layers):  # the same experts again
            flat = x.reshape(-1, WIDTH)
            shares, choice = self.choose(self.router(torch.tanh(flat)).softmax(dim=-1))
            x = x + self.mixed(flat, shares, choice).view_as(x)
        return x

    def choose(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        return scores.topk(self.chosen, dim=-1)

    def gated(self, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return functional.silu(gate) * (up + 1)

    def mixed(self, flat: Tensor, shares: Tensor, choice: Tensor) -> Tensor:
        result = torch.zeros_like(flat)
        for number in choice.unique():
            token, rank = torch.where(choice == number)
            inner = self.gated(flat[token] @ self.up[number] + self.up_bias[number])
            outer = functional.linear(inner, self.down[number], self.down_bias[number])
            result.index_add_(0, token, outer * shares[token, rank, None])
        return result


class SameExpertTwice(StackedExperts):
    """Both choices of a token are the same expert: its two rows add up."""

    def choose(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        shares, choice = scores.topk(1, dim=-1)
        return torch.cat([shares, shares**2], dim=-1), choice.expand(-1, 2)


class GroupedExperts(StackedExperts):
    """Rows sorted by expert, in one grouped product; biases are added in place."""

    def mixed(self, flat: Tensor, shares: Tensor, choice: Tensor) -> Tensor:
        numbers, order = choice.reshape(-1).sort()
        ends = numbers.bincount(minlength=self.count).cumsum(0).int()
        rows = flat[order // self.chosen]
        inner = self.gated(self.grouped(rows, self.up, ends).add_(self.up_bias[numbers]))
        outer = self.grouped(inner, self.down.transpose(-2, -1), ends)
        outer.add_(self.down_bias[numbers])
        weighted = outer * shares.reshape(-1)[order].unsqueeze(-1)
        return weighted[order.argsort()].view(len(flat), self.chosen, WIDTH).sum(dim=1)

    def grouped(self, x: Tensor, stack: Tensor, ends: Tensor) -> Tensor:
        return torch.ops.transformers.grouped_mm_fallback(x, stack, offs=ends)


class BatchedExperts(StackedExperts):
    """A copy of the expert's weights for each row, from the right and from the left."""

    def mixed(self, flat: Tensor, shares: Tensor, choice: Tensor) -> Tensor:
        numbers = choice.reshape(-1)
        rows = flat.repeat_interleave(self.chosen, dim=0)
        inner = torch.bmm(rows.unsqueeze(1), self.up[numbers]).squeeze(1) + self.up_bias[numbers]
        outer = torch.bmm(self.down[numbers], self.gated(inner).unsqueeze(-1)).squeeze(-1)
        outer.add_(self.down_bias[numbers])
        return (outer * shares.reshape(-1, 1)).view(len(flat), self.chosen, WIDTH).sum(dim=1)


class EveryExpert(StackedExperts):
    """All rows times the weights of all experts, as llama4 does it: most of it for nothing."""

    def mixed(self, flat: Tensor, shares: Tensor, choice: Tensor) -> Tensor:
        scores = torch.zeros(len(flat), self.count, dtype=flat.dtype).scatter(1, choice, shares)
        rows = flat.repeat(self.count, 1) * scores.T.reshape(-1, 1)
        inner = self.gated(rows.view(self.count, -1, WIDTH) @ self.up)
        return torch.bmm(inner, self.down.mT).view(self.count, -1, WIDTH).sum(dim=0)


class SplitExperts(StackedExperts):
    """Rows sorted by expert and split, one product each, joined again, as jetmoe does it. Some have no rows."""

    def mixed(self, flat: Tensor, shares: Tensor, choice: Tensor) -> Tensor:
        numbers, order = choice.reshape(-1).sort()
        sizes = numbers.bincount(minlength=self.count).tolist()
        parts = flat[order // self.chosen].split(sizes, dim=0)
        inner = torch.cat([functional.linear(part, self.up[n].T) for n, part in enumerate(parts)], dim=0)
        parts = self.gated(inner).split(sizes, dim=0)
        outer = torch.cat([functional.linear(part, self.down[n]) for n, part in enumerate(parts)], dim=0)
        result = torch.zeros_like(flat)
        return result.index_add(0, order // self.chosen, outer * shares.reshape(-1)[order, None])


class ExpertsByEinsum(BatchedExperts):
    """The same in a way that has no rule."""

    def mixed(self, flat: Tensor, shares: Tensor, choice: Tensor) -> Tensor:
        numbers = choice.reshape(-1)
        rows = flat.repeat_interleave(self.chosen, dim=0)
        inner = self.gated(torch.einsum("sd,sdf->sf", rows, self.up[numbers]) + self.up_bias[numbers])
        outer = torch.einsum("sf,sdf->sd", inner, self.down[numbers]) + self.down_bias[numbers]
        return (outer * shares.reshape(-1, 1)).view(len(flat), self.chosen, WIDTH).sum(dim=1)


class TableOfBiases(Causal):
    """One table is the embedding of the tokens, a head, and the biases of experts; one stack is used as experts and is
    repeated for each sample."""

    def build(self) -> None:
        self.table, self.stack = nn.Embedding(VOCABULARY, WIDTH), random_weights((2, WIDTH, WIDTH))
        self.head.weight = self.table.weight

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.table(input_ids)

    def body(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, WIDTH)
        chosen = (flat[:, 0] > 0).long()
        biased = torch.tanh(flat) + self.table.weight[3 + chosen]
        routed = torch.bmm(biased.unsqueeze(1), self.stack[chosen]).squeeze(1).view_as(x)
        gates = self.stack.expand(len(x), -1, -1, -1).sum(dim=(1, 2)).unsqueeze(1)
        return x + torch.tanh(routed) * torch.tanh(gates)
