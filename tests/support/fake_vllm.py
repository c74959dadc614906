"""A stand-in for vLLM: what this project uses of its interface (0.29, 0.30), with its own names, orders and defaults.

It runs on a transformers model, one request at a time. Each request draws with a generator of its own. The stop tokens
and the ends of the model's generation config stop a response, as in vLLM's scheduler, and are part of `token_ids`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

ENGINE_ARGUMENTS = {"max_model_len", "generation_config", "max_num_seqs", "override_generation_config"}
"""Of EngineArgs, which `LLM` passes further keywords to."""


@dataclass
class SamplingParams:
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    detokenize: bool = True

    def __post_init__(self) -> None:
        if 0 < self.temperature < 0.01:
            self.temperature = 0.01
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be in [0, 2], got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.seed == -1:
            self.seed = None


def TokensPrompt(*, prompt_token_ids: list[int]) -> dict[str, list[int]]:  # noqa: N802  # a TypedDict there
    return {"prompt_token_ids": prompt_token_ids}


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int] | None
    prompt_logprobs: None
    outputs: list[CompletionOutput] = field(default_factory=list)
    finished: bool = True


class LLM:
    made: list[LLM] = []  # noqa: RUF012  # what the tests look at

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        skip_tokenizer_init: bool = False,
        dtype: str = "auto",
        seed: int = 0,
        gpu_memory_utilization: float = 0.92,
        enforce_eager: bool = False,
        **kwargs: Any,
    ) -> None:
        if unknown := kwargs.keys() - ENGINE_ARGUMENTS:
            raise TypeError(f"EngineArgs.__init__() got an unexpected keyword argument {min(unknown)!r}")
        # vLLM computes float32 in half precision unless told otherwise.
        kept = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
        self.dtype, self.options, self.skip_tokenizer_init = dtype, kwargs, skip_tokenizer_init
        self.model = AutoModelForCausalLM.from_pretrained(Path(model), dtype=kept).eval()
        self.requests, self.is_running = 0, True
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self._shut_down))
        LLM.made.append(self)

    def _shut_down(self, timeout: float | None = None) -> None:
        self.is_running = False

    def generate(
        self,
        prompts: list[dict[str, list[int]]],
        sampling_params: SamplingParams | list[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        lora_request: None = None,
        priority: None = None,
        tokenization_kwargs: None = None,
        mm_processor_kwargs: None = None,
    ) -> list[RequestOutput]:
        assert self.is_running
        assert isinstance(sampling_params, list)
        assert len(sampling_params) == len(prompts)
        return [self._respond(**prompt, given=given) for prompt, given in zip(prompts, sampling_params, strict=True)]

    @torch.no_grad()
    def _respond(self, prompt_token_ids: list[int], given: SamplingParams) -> RequestOutput:
        if self.skip_tokenizer_init and given.detokenize:
            raise ValueError("detokenization needs a tokenizer")
        assert given.max_tokens is not None
        assert len(prompt_token_ids) < self.options["max_model_len"]
        self.requests += 1
        stops = set(given.stop_token_ids or ())
        if not given.ignore_eos:
            configured = self.model.generation_config.eos_token_id
            stops |= set(configured if isinstance(configured, list) else [configured])
        generator = None if given.seed is None else torch.Generator().manual_seed(given.seed)
        tokens: list[int] = []
        while len(tokens) < given.max_tokens:
            logits = self.model(torch.tensor([[*prompt_token_ids, *tokens]])).logits[0, -1].float()
            tokens.append(_next(logits, given, generator))
            if tokens[-1] in stops:
                break
        reason = "stop" if tokens[-1] in stops else "length"
        said = CompletionOutput(0, "", tokens, finish_reason=reason)
        return RequestOutput(str(self.requests), None, prompt_token_ids, None, [said])


def _next(logits: torch.Tensor, given: SamplingParams, generator: torch.Generator | None) -> int:
    if given.temperature == 0:
        return int(logits.argmax())
    ordered, order = (logits / given.temperature).sort()
    if given.top_p < 1:
        outside = ordered.softmax(-1).cumsum(-1) <= 1 - given.top_p
        outside[-1] = False
        ordered[outside] = -torch.inf
    race = torch.empty(len(ordered)).exponential_(generator=generator)
    return int(order[(ordered.softmax(-1) / race).argmax()])


def module() -> ModuleType:
    """What `import vllm` gives."""
    made = ModuleType("vllm")
    vars(made).update(LLM=LLM, SamplingParams=SamplingParams, TokensPrompt=TokensPrompt)
    LLM.made.clear()
    return made
