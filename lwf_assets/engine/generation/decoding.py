"""One batch of prompts answered by a transformers model, padded on the left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from lwf_assets.engine.generation.captured_step import CannotBeCapturedError, CapturedStep
from lwf_assets.engine.generation.draws import Draws, draw_keys
from lwf_assets.engine.generation.ends import up_to_end

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Decoding = Literal["plain", "captured", "compiled"]
"""How the model is called step by step.

`plain`: its own call, with a cache that grows. `captured` and `compiled`: with a cache of fixed length, and the step as
one CUDA graph, or compiled by torch (once, in about half a minute).
"""
STEPS_TO_COMPILE = 3500
"""Decoding steps from which the step is compiled. On an H100, for 135M parameters and 256 rows, a plain step takes
44 ms, a compiled one 7.5 ms, and compiling 37 s. A captured step has not been measured. If it is as slow as a plain
one, a little less work takes 2.4 times as long as it could; if it is as fast as a compiled one, a little more does. No
other number has a smaller worst case."""


def best_decoding(model: PreTrainedModel, steps: int) -> Decoding:
    """The fastest way to make `steps` decoding steps: the one place where this is decided."""
    if model.device.type != "cuda" or not getattr(model, "_can_compile_fullgraph", False):
        return "plain"
    return "compiled" if steps >= STEPS_TO_COMPILE else "captured"


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


class Decoder:
    """A model that answers batches of prompts.

    Args:
        rows: of the largest batch.
        longest: tokens of the longest prompt of all batches. Neither is exceeded, so that caches have one shape.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sampling: Sampling,
        *,
        pad_id: int,
        decoding: Decoding = "plain",
        rows: int = 0,
        longest: int = 0,
    ) -> None:
        # What PEFT wraps has the adapter in its layers; `generate` would not find a step that is put on the wrapper.
        self._model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._sampling, self._pad_id = sampling, pad_id
        self._decoding, self._rows, self._longest = decoding, rows, longest

    def answer(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int]) -> list[list[int]]:
        """A response to each prompt, which was asked `numbers` times before."""
        try:
            if self._decoding != "compiled":
                return self._decode(prompts, numbers)
            # Filled up, for a smaller last batch would be compiled once more.
            more = self._rows - len(prompts)
            return self._decode([*prompts, *[prompts[-1]] * more], [*numbers, *[numbers[-1]] * more])[: len(prompts)]
        except torch.OutOfMemoryError:
            self._rows = max(1, self._rows // 2)  # whoever asks will do so with half as many
            raise
        except CannotBeCapturedError as error:
            log.warning("%s is decoded step by step, without a CUDA graph: %s", type(self._model).__name__, error)
            self._decoding = "plain"
        return self._decode(prompts, numbers)

    @torch.no_grad()
    def _decode(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int]) -> list[list[int]]:
        from transformers import GenerationConfig

        longest, device, sampling = max(map(len, prompts)), self._model.device, self._sampling
        input_ids = torch.tensor([[self._pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        attention_mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        cache = {} if self._decoding == "plain" else {"cache_implementation": "static", "max_cache_len": self._room}
        # The draw is in the scores already: what is left to do is to take the largest.
        config = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=self._pad_id,
            eos_token_id=list(sampling.end_ids),
            do_sample=False,
            **cache,
        )
        with _own_settings(self._model), self._step():
            output = self._model.generate(
                input_ids=input_ids.to(device),
                attention_mask=attention_mask.to(device),
                generation_config=config,
                logits_processor=_processors(prompts, numbers, sampling, longest, device),
            )
        return [up_to_end(row, sampling.end_ids) for row in output[:, longest:].tolist()]

    @property
    def _room(self) -> int:
        return self._longest + self._sampling.max_new_tokens

    @contextmanager
    def _step(self) -> Iterator[None]:
        """In the block, `generate` makes its decoding steps as this decoder wants them."""
        if self._decoding != "captured":
            yield
            return
        step, own = CapturedStep(self._model.__call__), vars(self._model)
        # Where the cache allows it, `generate` asks the model for its compiled call.
        own["get_compiled_call"] = lambda compile_config: step
        try:
            yield
        finally:
            del own["get_compiled_call"]


@contextmanager
def _own_settings(model: PreTrainedModel) -> Iterator[None]:
    """What a call leaves open, transformers takes from the settings published with the model: repetition penalties and
    the like, which are not its own distribution. In the block there are none."""
    from transformers import GenerationConfig

    published, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = published


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
