"""One batch of prompts answered by a transformers model, padded on the left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lwf_assets.engine.generation.draws import Draws, draw_keys
from lwf_assets.engine.generation.ends import up_to_end

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Sampling:
    """How a response is drawn and where it ends.

    `temperature` None decodes greedily; 1.0 samples the model's own distribution. `top_p` is the nucleus when sampling.
    """

    max_new_tokens: int
    end_ids: Sequence[int]
    temperature: float | None = None
    top_p: float = 1.0
    seed: int = 0


@torch.no_grad()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    sampling: Sampling,
    *,
    pad_id: int,
) -> list[list[int]]:
    """A response to each prompt, which was asked `numbers` times before."""
    from transformers import GenerationConfig

    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    attention_mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    # The draw is in the scores already: what is left to do is to take the largest.
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=list(sampling.end_ids),
        do_sample=False,
    )
    # What `config` leaves open, transformers takes from the settings published with the model: repetition penalties and
    # the like, which are not its own distribution.
    published, model.generation_config = model.generation_config, GenerationConfig()
    try:
        output = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            generation_config=config,
            logits_processor=_processors(prompts, numbers, sampling, longest, model.device),
        )
    finally:
        model.generation_config = published
    return [up_to_end(row, sampling.end_ids) for row in output[:, longest:].tolist()]


def _processors(
    prompts: Sequence[Sequence[int]], numbers: Sequence[int], sampling: Sampling, longest: int, device: torch.device
) -> Any:
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    steps: list[Callable[..., torch.Tensor]] = []
    if sampling.temperature is not None:
        if sampling.temperature != 1:
            steps.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_p < 1:
            steps.append(TopPLogitsWarper(sampling.top_p))
        keys = [
            draw_keys(sampling.seed, prompt, number, sampling.max_new_tokens)
            for prompt, number in zip(prompts, numbers, strict=True)
        ]
        steps.append(Draws(torch.tensor(keys, device=device), longest))
    return LogitsProcessorList(steps)
