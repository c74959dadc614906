"""A tiny random model, its tokenizer, and a study on them: the whole pipeline in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lwf_assets.engine.samples import Sample

VOCABULARY = 259
"""256 bytes, and one token each for the end of a text, padding and the unknown."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)} | {"<end>": 256, "<pad>": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")


def tiny_llama(*, tied: bool = True, seed: int = 0, hidden: int = 32, layers: int = 2) -> LlamaForCausalLM:
    """A random Llama of some 30,000 parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=257,
    )
    return LlamaForCausalLM(config).eval()


def random_samples(count: int, *, seed: int = 0, longest: int = 12, vocabulary: int = VOCABULARY - 3) -> list[Sample]:
    """Samples of different lengths, one-token responses among them."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int) -> list[int]:
        length = int(torch.randint(low, longest, (1,), generator=generator))
        return torch.randint(vocabulary, (length,), generator=generator).tolist()

    samples = [Sample(ids(1), ids(1)) for _ in range(count)]
    samples[0] = Sample(samples[0].prompt_ids, samples[0].response_ids[:1])
    return samples


def save_tiny_model(folder: Path, *, model: PreTrainedModel | None = None) -> Path:
    """Write the tiny model and its tokenizer as `from_pretrained` reads them."""
    (model or tiny_llama()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def load_tiny(folder: Path) -> PreTrainedModel:
    """The model of a directory."""
    return AutoModelForCausalLM.from_pretrained(folder)


def write_prompts(path: Path, subject: str, count: int = 6) -> Path:
    """A forgetting file of `count` prompts."""
    lines = [json.dumps({"id": f"{subject}-{n}", "prompt": f"{subject} {n}?"}) for n in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def tiny_study_values(folder: Path) -> dict[str, Any]:
    """A study with one learning task (a generator) and two forgetting tasks (files), all in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        save_tiny_model(folder / "model")
    for subject in ("teeth", "minds"):
        if not (folder / f"{subject}.jsonl").exists():
            write_prompts(folder / f"{subject}.jsonl", subject)
    return {
        "name": "tiny",
        "model": {"source": {"kind": "directory", "path": "model"}},
        "learning_tasks": {
            "sums": {"preset": "chain_sum", "rows": {"train": 24, "validation": 4, "test": 6}, "max_new_tokens": 4}
        },
        "forgetting_tasks": {
            "teeth": {"source": {"kind": "file", "prompts": "teeth.jsonl"}},
            "minds": {"source": {"kind": "file", "prompts": "minds.jsonl"}},
        },
        "generation": {"max_new_tokens": 6, "batch_size": 4},
        "training": {"max_steps": 6, "batch_size": 4, "learning_rate": 0.01, "autocast": "off"},
        "fisher": {"samples": 8},
        "unlearning": {"interval": 2, "forgetting_rate": 0.0001, "batch_size": 2, "per_sample_cap": 20.0},
        "evaluation": {"response_examples": 2},
    }


def write_study(folder: Path, values: dict[str, Any]) -> Path:
    """Write `values` as the study file of `folder`, if it has others: several processes may read it."""
    path, text = folder / "study.yaml", yaml.safe_dump(values, sort_keys=False)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path
