"""Generation by vLLM, for large corpora on a GPU: the same distribution and the same ends, other draws.

vLLM is an optional dependency and is imported when it is asked for. Here too, a response follows from the seed, the
prompt and how often the prompt was asked before: each request has a generator of its own, seeded by these.

Interface as of vLLM 0.29 and 0.30: https://docs.vllm.ai/en/stable/api/vllm/
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lwf_assets.engine.generation.decoding import Sampling
from lwf_assets.engine.generation.draws import draw_keys, numbers_of
from lwf_assets.engine.generation.ends import up_to_end
from lwf_assets.engine.generation.responses import answer_all
from lwf_assets.errors import LwfError
from lwf_assets.progress import SILENT, Progress

SAVED_AT_ONCE = 4096
"""Requests between two shards. vLLM decides by itself how many of them are answered at the same time."""
COOLEST, HOTTEST = 0.01, 2.0
"""Temperatures that vLLM samples at as they are; lower ones it raises, higher ones it refuses."""
OTHER = "or use generation.engine: transformers"


def generate_with_vllm(
    folder: Path,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    dtype: str,
    shards: Path | None = None,
    progress: Progress = SILENT,
) -> list[list[int]]:
    """As `generate`, with the model of the directory `folder`, of which no copy needs to be loaded.

    Args:
        dtype: of the weights, as they are stored: left alone, vLLM would round float32.

    Raises:
        LwfError: vLLM is not installed, or does not sample at this temperature.
    """
    vllm = _imported()
    if sampling.temperature is not None and not COOLEST <= sampling.temperature <= HOTTEST:
        raise LwfError(
            f"generation.temperature: {sampling.temperature:g} is not a temperature that vLLM samples at; choose one "
            f"from {COOLEST:g} to {HOTTEST:g}, {OTHER}"
        )
    if not prompts:
        return []
    numbers = numbers_of(prompts)
    with _loaded(vllm, folder, dtype, max(map(len, prompts)) + sampling.max_new_tokens) as model:

        def answer(indices: Sequence[int]) -> list[list[int]]:
            outputs = model.generate(
                [vllm.TokensPrompt(prompt_token_ids=list(prompts[index])) for index in indices],
                [_parameters(vllm, sampling, prompts[index], numbers[index]) for index in indices],
                use_tqdm=False,
            )
            return [up_to_end(output.outputs[0].token_ids, sampling.end_ids) for output in outputs]

        return answer_all(prompts, answer, batch_size=SAVED_AT_ONCE, shards=shards, progress=progress)


def _imported() -> Any:
    try:
        import vllm
    except ImportError as error:
        missing = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported ({error})"
        raise LwfError(
            f"generation.engine: vllm {missing}; install it with `pip install 'lwf-assets[vllm]'`, {OTHER}"
        ) from error
    return vllm


@contextmanager
def _loaded(vllm: Any, folder: Path, dtype: str, room: int) -> Iterator[Any]:
    """The model in vLLM, in a process of its own on the GPU, which ends with the block and gives its memory back."""
    if torch.cuda.is_available():  # what earlier steps left in torch's hands would be missing there
        gc.collect()
        torch.cuda.empty_cache()
    model = vllm.LLM(
        str(folder),
        skip_tokenizer_init=True,
        dtype=dtype,
        max_model_len=room,
        generation_config="vllm",  # nothing of what is published with the model
    )
    try:
        yield model
    finally:
        model.llm_engine.engine_core.shutdown()


def _parameters(vllm: Any, sampling: Sampling, prompt: Sequence[int], number: int) -> Any:
    (key,) = draw_keys(sampling.seed, prompt, number, 1)
    return vllm.SamplingParams(
        temperature=sampling.temperature or 0.0,
        top_p=sampling.top_p if sampling.temperature else 1.0,
        top_k=0,
        min_p=0.0,
        seed=key & ((1 << 63) - 1),
        max_tokens=sampling.max_new_tokens,
        # The ends are ours alone: vLLM would add those of the model's generation config.
        ignore_eos=True,
        stop_token_ids=list(sampling.end_ids),
        detokenize=False,
    )
