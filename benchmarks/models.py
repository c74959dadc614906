"""The models that are measured: the study's real one, and random ones of any size and architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TINY_VOCABULARY = 61
ARCHITECTURES = ("llama", "gpt2", "gpt_neox", "qwen2", "gemma", "opt", "mixtral", "qwen3_moe", "gpt_oss")

_TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
}
_NO_SPECIAL_TOKENS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def real_model(home: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2-135M as the pipeline makes it of the default study, from the store in `home` if it is there."""
    from lwf_assets.building.materialize import materialize
    from lwf_assets.engine.checkpoint import load_model, load_tokenizer
    from lwf_assets.graph.cells import Cell
    from lwf_assets.store.home import DEFAULT_STUDY, Home
    from lwf_assets.store.partition import Partition
    from lwf_assets.study.file import load_study

    made = materialize(load_study(DEFAULT_STUDY), Home(home).store, Cell("base_model", Partition()))
    return load_model(made.artifact.path), load_tokenizer(made.artifact.path)


def llama(*, hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int, vocabulary: int) -> Any:
    """A random Llama with tied embeddings, as SmolLM2 is one."""
    from transformers import LlamaConfig

    return _from_config(
        LlamaConfig(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            vocab_size=vocabulary,
            max_position_embeddings=2048,
            **_NO_SPECIAL_TOKENS,
        )
    )


def qwen3_moe(*, hidden: int, width: int, experts: int, chosen: int, layers: int, vocabulary: int) -> Any:
    """A random mixture of `experts` experts of `width` a layer, of which a token gets `chosen`; heads of 32."""
    from transformers import Qwen3MoeConfig

    return _from_config(
        Qwen3MoeConfig(
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            moe_intermediate_size=width,
            num_experts=experts,
            num_experts_per_tok=chosen,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 32,
            num_key_value_heads=max(1, hidden // 128),
            head_dim=32,
            vocab_size=vocabulary,
            max_position_embeddings=2048,
            **_NO_SPECIAL_TOKENS,
        )
    )


def tiny_model(architecture: str) -> PreTrainedModel:
    """A random model of a few thousand parameters; one of `ARCHITECTURES`."""
    return _from_config(tiny_config(architecture), spread=0.1)


def _from_config(config: PreTrainedConfig, *, spread: float = 0.02) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    config.tie_word_embeddings = True
    config.initializer_range = spread
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def tiny_config(architecture: str) -> PreTrainedConfig:
    """Two layers of width 16; one of `ARCHITECTURES`."""
    import transformers

    special = {"vocab_size": TINY_VOCABULARY, **_NO_SPECIAL_TOKENS}
    match architecture:
        case "llama":
            return transformers.LlamaConfig(**_TINY, **special)
        case "gpt2":
            return transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, n_positions=96, **special)
        case "gpt_neox":
            sizes = {name: size for name, size in _TINY.items() if name != "num_key_value_heads"}
            return transformers.GPTNeoXConfig(**sizes, **special)
        case "qwen2":
            return transformers.Qwen2Config(**_TINY, **special)
        case "gemma":
            return transformers.GemmaConfig(**_TINY, head_dim=4, **special)
        case "opt":
            return transformers.OPTConfig(
                hidden_size=16,
                word_embed_proj_dim=16,
                ffn_dim=24,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=96,
                **special | {"pad_token_id": 1},
            )
        case "mixtral":
            return transformers.MixtralConfig(**_TINY, num_local_experts=4, num_experts_per_tok=2, **special)
        case "qwen3_moe":
            return transformers.Qwen3MoeConfig(
                **_TINY, **special, head_dim=4, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2
            )
        case "gpt_oss":
            return transformers.GptOssConfig(
                **_TINY, **special, head_dim=4, num_local_experts=4, num_experts_per_tok=2, sliding_window=16
            )
    raise ValueError(architecture)
