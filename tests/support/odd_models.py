"""Small causal models that use their parameters in every way that an architecture might."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import transformers.integrations.moe  # noqa: F401 - it registers the grouped product of older devices
from by_hand import VOCABULARY, fisher_by_hand, gradients_by_hand, in_float64, loss_by_hand, relative_error
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lwf_assets.engine.confidence import confidence_terms
from lwf_assets.engine.fisher import fisher_diagonal
from lwf_assets.engine.samples import Sample

WIDTH = 6


class Causal(nn.Module):
    """Embedding, `body`, head; a position sees those before it. Subclasses change the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.build()

    def build(self) -> None:
        """Further modules."""

    def body(self, x: Tensor) -> Tensor:
        """[batch, positions, width] to the same shape."""
        return x

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.embedding(input_ids)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(x)

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def set_experts_implementation(self, _: str) -> None:
        """As transformers' models have it."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool = False,
        logits_to_keep: Tensor | None = None,
    ) -> Any:
        x = self.body(self.look_back(self.embed(input_ids)))
        if logits_to_keep is not None:
            x = x[:, logits_to_keep]
        return SimpleNamespace(logits=self.logits(x))

    def look_back(self, x: Tensor) -> Tensor:
        """Add the mean of all positions up to each: without it positions would be independent."""
        count = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype).unsqueeze(-1)
        return x + torch.tanh(x.cumsum(dim=1) / count)


def random_weights(shape: Sequence[int], scale: float = 0.5) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * scale)


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


class Bias(Causal):
    """A learned bias for each position and element, and a linear layer with bias over one position at a time."""

    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        return torch.stack([torch.tanh(self.layer(x[:, place : place + 1])) for place in range(x.shape[1])], 1).flatten(
            1, 2
        )


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


class DifferentiatesInForward(Causal):
    """A step of gradient descent on the activations, within the forward pass."""

    def build(self) -> None:
        self.layer = nn.Linear(WIDTH, WIDTH)

    def body(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            energy = torch.tanh(self.layer(x)).square().sum()
            (slope,) = torch.autograd.grad(energy, x, create_graph=True)
        return x - 0.1 * slope


def build(kind: Callable[[], Causal], *, seed: int = 0) -> Causal:
    torch.manual_seed(seed)
    return kind().eval()


def samples_of(*lengths: tuple[int, int], seed: int = 0) -> list[Sample]:
    """One sample for each pair of lengths, of prompt and response."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Sample(*(torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in pair))
        for pair in lengths
    ]


def error_of_fisher(model: Any, samples: Sequence[Sample], **settings: Any) -> float:
    """Relative error of the Fisher diagonal, against a backward pass a sample in double precision."""
    expected = fisher_by_hand(gradients_by_hand(model, samples, "mean"))
    return relative_error(fisher_diagonal(model, samples, **settings), expected)


def error_of_terms(model: Any, samples: Sequence[Sample], **settings: Any) -> float:
    """The same for each term of the confidence and each loss; the largest of them.

    Relative to the norm of the term, and of its summands where it is a small difference of large sums.
    """
    generator = torch.Generator().manual_seed(3)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    fisher = {name: torch.rand(shape, generator=generator) + 0.1 for name, shape in shapes.items()}
    delta = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    terms = confidence_terms(model, samples, fisher=fisher, delta=delta, **settings)
    gradients = gradients_by_hand(model, samples, "mean")

    def totals(of: Callable[[str, Tensor], Tensor]) -> Tensor:
        return torch.tensor([math.fsum(of(n, g).double().sum().item() for n, g in one.items()) for one in gradients])

    precise = in_float64(model)
    expected = {
        "linear": totals(lambda n, g: fisher[n] * delta[n] * g),
        "quadratic": totals(lambda n, g: 0.5 * fisher[n] * g**2),
        "gradient_norm": totals(lambda _, g: g**2).sqrt(),
        "losses": torch.tensor([loss_by_hand(precise, sample).item() for sample in samples]),
    }
    sizes = expected | {"linear": totals(lambda n, g: (fisher[n] * delta[n] * g).abs())}
    return max(
        ((torch.from_numpy(getattr(terms, name)) - value).norm() / sizes[name].norm()).item()
        for name, value in expected.items()
    )
