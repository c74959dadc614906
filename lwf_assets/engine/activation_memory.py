"""What one token of a batch holds in memory, from a model's dimensions. Without torch: the planner reads it too.

The factors were read off the operations; tests hold them against measured peaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOKEN_BUDGET = 2048
"""Tokens in memory at once, by default on a CPU."""

LOGIT_COPIES = 3.3
"""fp32 values held for each logit where there is loss: the logits, those that count, their log-softmax, a gradient."""


@dataclass(frozen=True)
class Dimensions:
    """Of a causal language model; None where its config does not have them under a known name."""

    layers: int | None = None
    hidden: int | None = None
    intermediate: int | None = None
    attention: int | None = None
    """Width of the queries, all heads together."""
    key_value: int | None = None
    """Width of the keys, all heads together; as wide are the values."""
    vocabulary: int | None = None
    context: int | None = None

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Dimensions:
        """From a transformers config as a mapping."""
        hidden = _first(config, "hidden_size", "n_embd", "d_model")
        heads = _first(config, "num_attention_heads", "n_head", "num_heads")
        key_value_heads = _first(config, "num_key_value_heads") or heads
        head = _first(config, "head_dim") or (hidden // heads if hidden and heads else None)
        return cls(
            layers=_first(config, "num_hidden_layers", "n_layer", "num_layers"),
            hidden=hidden,
            intermediate=_first(config, "intermediate_size", "n_inner", "ffn_dim") or (4 * hidden if hidden else None),
            attention=heads * head if heads and head else None,
            key_value=key_value_heads * head if key_value_heads and head else None,
            vocabulary=_first(config, "vocab_size"),
            context=_first(config, "max_position_embeddings", "n_positions"),
        )

    def values_by_token(self, *, differentiated: bool) -> float | None:
        """Activations that a token of a batch holds at the peak, in values of the weights' type; without its logits."""
        if self.layers is None or self.hidden is None or self.intermediate is None:
            return None
        if not differentiated:
            return 3 * self.intermediate + 4 * self.hidden  # of one layer at a time
        attention, key_value = self.attention or self.hidden, self.key_value or self.hidden
        # In each layer, what the backward pass will need: four of the MLP's width (gate, up, activated gate, product);
        # queries, repeated keys and values, and the attention's result; what enters and what leaves the norms.
        return self.layers * (4 * self.intermediate + 9 * self.hidden + 5 * attention + 2 * key_value)

    @property
    def logit_bytes(self) -> float:
        """Of one position that has loss."""
        return LOGIT_COPIES * (self.vocabulary or 0) * 4


def _first(config: Mapping[str, Any], *names: str) -> int | None:
    return next((config[name] for name in names if isinstance(config.get(name), int)), None)
