"""Load and save models and tokenizers; sums and differences of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine.precision import best_device

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(path: Path) -> PreTrainedModel:
    """The causal language model in the directory `path`, in the type it was stored in, on the best device, in eval
    mode."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype="auto", local_files_only=True, use_safetensors=True)
    return model.to(best_device()).eval()


def load_outline(path: Path) -> PreTrainedModel:
    """The model in the directory `path` without its weights, for what it says of itself: its configuration and the
    generation settings published with it."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path, local_files_only=True))
    if (path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
    return model


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in the directory `path`, with a padding token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """An ordinary safetensors model directory, as `from_pretrained` reads it."""
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def load_tensors(path: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a safetensors file on the best device, read one after the other: in another type than that of the
    file, no copy of them all exists."""
    from safetensors import safe_open

    device = best_device()
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).to(device, dtype) for name in file.keys()}  # noqa: SIM118  # is no mapping


@torch.no_grad()
def parameter_difference(
    minuend: PreTrainedModel, subtrahend: PreTrainedModel, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """minuend - subtrahend by parameter name, tied ones once; of fp32 values, rounded to `dtype`."""
    other = dict(subtrahend.named_parameters())
    return {name: (value.float() - other[name].float()).to(dtype) for name, value in minuend.named_parameters()}
