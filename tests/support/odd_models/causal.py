"""A small causal model whose parts can be changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import transformers.integrations.moe  # noqa: F401 - it registers the grouped product of older devices
from by_hand import VOCABULARY
from torch import Tensor, nn

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
