"""This project's generation beside plain calls of the model's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.plan import Plan
from benchmarks.problem import mixed_lengths, random_samples
from lwf_assets.engine.generation import generate
from lwf_assets.engine.generation.decoding import Decoding

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Responses = list[list[int]]


def dentistry_prompts(tokenizer: PreTrainedTokenizerBase, count: int) -> list[list[int]]:
    """The first prompts of the default study's forgetting task `dentistry`, as token ids."""
    from lwf_assets.engine.samples import encode_prompt
    from lwf_assets.store.home import DEFAULT_STUDY
    from lwf_assets.study.file import load_study
    from lwf_assets.tasks.task import Task

    rows = Task("dentistry", load_study(DEFAULT_STUDY).forgetting_tasks["dentistry"]).prompt_rows()
    return [encode_prompt(tokenizer, row.prompt) for row in rows[:count]]


def random_prompts(count: int, vocabulary: int) -> list[list[int]]:
    """Prompts of different lengths for a model that has no tokenizer."""
    return [sample.prompt_ids for sample in random_samples(mixed_lengths(count, 4, 12), vocabulary)]


def generation(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    end_ids: Sequence[int],
    plan: Plan,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Seconds of each way to respond to all prompts greedily, in interleaved rounds, and how many of its responses are
    token for token those of the prompts taken one by one."""
    at_once = plan.generation_batch

    def ours(decoding: Decoding) -> Responses:
        return generate(
            model,
            prompts,
            max_new_tokens=plan.new_tokens,
            pad_id=end_ids[0],
            end_ids=end_ids,
            batch_size=at_once,
            decoding=decoding,
        )

    ways: dict[str, Callable[[], Responses]] = {
        "`model.generate`, one by one": lambda: _plain(model, prompts, end_ids, plan.new_tokens, 1),
        f"`model.generate`, {at_once} at once": lambda: _plain(model, prompts, end_ids, plan.new_tokens, at_once),
        f"this project's `generate`, {at_once} at once": partial(ours, "plain"),
    }
    if model.device.type == "cuda":
        ways["the same, its step captured"] = partial(ours, "captured")
        ways["the same, its step compiled"] = partial(ours, "compiled")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    responses: dict[str, Responses] = {}
    for number in range(plan.generation_rounds):
        for way, call in ways.items():
            began = time.perf_counter()
            responses[way] = call()
            seconds[way].append(time.perf_counter() - began)
        say(f"generation, round {number + 1}: " + ", ".join(f"{values[-1]:.2f} s" for values in seconds.values()))
    first = next(iter(responses.values()))
    return {
        "prompts": len(prompts),
        "prompt_tokens": [len(prompt) for prompt in prompts],
        "new_tokens": plan.new_tokens,
        "rows": [
            {
                "label": way,
                "seconds": seconds[way],
                "same": sum(one == other for one, other in zip(responses[way], first, strict=True)),
            }
            for way in ways
        ],
    }


@torch.no_grad()
def _plain(
    model: PreTrainedModel, prompts: Sequence[list[int]], end_ids: Sequence[int], new_tokens: int, at_once: int
) -> Responses:
    """`model.generate` on prompts in the order given, padded on the left."""
    responses: Responses = []
    for start in range(0, len(prompts), at_once):
        batch = prompts[start : start + at_once]
        longest = max(len(prompt) for prompt in batch)
        rows = torch.tensor([[end_ids[0]] * (longest - len(prompt)) + prompt for prompt in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch])
        output = model.generate(
            input_ids=rows.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=end_ids[0],
            eos_token_id=list(end_ids),
        )
        responses += [_up_to_end(row, end_ids) for row in output[:, longest:].tolist()]
    return responses


def _up_to_end(tokens: list[int], end_ids: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in end_ids), len(tokens))
    return tokens[: end + 1]
