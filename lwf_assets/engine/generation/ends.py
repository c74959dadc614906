"""Which tokens end a response, and what a response says without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lwf_assets.engine.chat import Prompt, turn_end_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def end_token_ids(model: PreTrainedModel, tokenizer_end: int) -> list[int]:
    """Every token that ends a response for this model: its generation config's, and the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (*several, tokenizer_end) if token is not None})


def response_end_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]
) -> list[int]:
    """Every token that ends a response to `prompts`: `end_token_ids`, and where one of them is a conversation also the
    end of a turn in the chat template."""
    ends = end_token_ids(model, tokenizer.eos_token_id)
    is_chat = any(not isinstance(prompt, str) for prompt in prompts)
    return sorted({*ends, *(turn_end_ids(tokenizer) if is_chat else ())})


def up_to_end(tokens: Sequence[int], end_ids: Sequence[int]) -> list[int]:
    """The tokens up to the first that ends a response, that one included."""
    for position, token in enumerate(tokens):
        if token in end_ids:
            return list(tokens[: position + 1])
    return list(tokens)


def response_text(tokenizer: PreTrainedTokenizerBase, response: Sequence[int], end_ids: Sequence[int]) -> str:
    """What a response says: without its end, which not every tokenizer counts as a special token."""
    tokens = response[:-1] if response and response[-1] in end_ids else response
    return str(tokenizer.decode(tokens, skip_special_tokens=True))
