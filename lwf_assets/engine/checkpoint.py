"""Load and save models and tokenizers, whole ones and adapters on a base; differences of their weights."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lwf_assets.engine.adapter import is_adapter, put_on, save_adapter
from lwf_assets.engine.precision import best_device
from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(path: Path, base: Path | None = None, *, merged: bool = False) -> PreTrainedModel:
    """The causal language model in the directory `path`, on the best device, in eval mode.

    A whole model is loaded in the type it was stored in. An adapter is put on the model in the directory `base`, where
    it stays in fp32 beside weights that are frozen.

    Args:
        path: a model directory or an adapter's.
        base: what an adapter was trained on; not read for a whole model.
        merged: add the update of an adapter to the weights, all in fp32 (in bfloat16 most of an update is less than a
            weight's last digit), and give a plain model, which is trainable.

    Raises:
        LwfError: an adapter without its base, or one that does not fit it.
    """
    from transformers import AutoModelForCausalLM

    carries = is_adapter(path)
    if carries and base is None:
        raise LwfError(f"{path}: holds an adapter and no whole model; it is opened on the base that it was trained on")
    whole = base if carries else path
    model = AutoModelForCausalLM.from_pretrained(whole, dtype="auto", local_files_only=True, use_safetensors=True)
    model = model.to(best_device())
    if carries:
        model = put_on(model.float() if merged else model, path, merged=merged)
    return model.eval()


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


def save_weights(model: PreTrainedModel | PeftModel, path: Path, *, base: str = "") -> None:
    """A model directory as `from_pretrained` reads it, in safetensors; of a PEFT model the adapter alone.

    Args:
        model: what is written.
        path: the directory.
        base: what an adapter's settings name as the model that it belongs to.
    """
    if hasattr(model, "peft_config"):
        save_adapter(model, path, base=base)
    else:
        model.save_pretrained(str(path))


def save_model(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, path: Path, *, base: str = ""
) -> None:
    """The weights, or the adapter, and the tokenizer, in one directory."""
    save_weights(model, path, base=base)
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
    minuend: PreTrainedModel,
    subtrahend: PreTrainedModel,
    dtype: torch.dtype = torch.float32,
    *,
    only: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """minuend - subtrahend by parameter name, tied ones once; of fp32 values, rounded to `dtype`; of `only` some, if
    given."""
    other = dict(subtrahend.named_parameters())
    return {
        name: (value.float() - other[name].float()).to(dtype)
        for name, value in minuend.named_parameters()
        if only is None or name in only
    }
