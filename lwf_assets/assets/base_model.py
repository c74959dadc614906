"""Asset base_model: the pre-trained model as an ordinary safetensors directory with its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.study.model_source import model_files, packaged_gguf
from lwf_assets.study.sections import DirectoryModel, HubModel, PackagedGgufModel

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from lwf_assets.graph.work import Work
    from lwf_assets.study.study import Study


def materialize(work: Work) -> dict[str, Any]:
    """Load the model from its source, teach it what the study wants it to know, and write it down."""
    return import_model(work, work.study.model.prior)


def import_model(work: Work, prior: str | None) -> dict[str, Any]:
    """Write the study's model, in the study's type, into `work.out`, after teaching it `prior` if there is one."""
    import torch
    from transformers import AutoModelForCausalLM

    from lwf_assets.engine import processes
    from lwf_assets.engine.checkpoint import save_model
    from lwf_assets.engine.precision import best_device
    from lwf_assets.fine_tuning.prior_knowledge import teach

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[work.study.model.dtype]
    tokenizer = source_tokenizer(work.study)
    options = {"dtype": dtype, "use_safetensors": True}  # a pickle can run code when it is read
    match work.study.model.source:
        case HubModel() as source:
            model = _pretrained(AutoModelForCausalLM, source.id, revision=source.revision, **options)
        case DirectoryModel() as source:
            model = _pretrained(AutoModelForCausalLM, str(source.path), local_files_only=True, **options)
        case PackagedGgufModel() as source:
            model = _from_gguf(source, dtype)
    taught = {} if prior is None else teach(work, model.to(best_device()), tokenizer, work.study.priors[prior])
    if processes.here().is_first:
        save_model(model, tokenizer, work.out)
    return {
        **taught,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "architecture": type(model).__name__,
        "context": getattr(model.config.get_text_config(), "max_position_embeddings", None),
        "vocabulary": model.config.get_text_config().vocab_size,
        "dtype": work.study.model.dtype,
    }


def source_tokenizer(study: Study) -> PreTrainedTokenizerBase:
    """The tokenizer of the study's model with the study's chat template, without the model.

    Raises:
        LwfError: it cannot be loaded, or the template is none.
    """
    from transformers import AutoTokenizer

    match study.model.source:
        case HubModel() as source:
            tokenizer = _pretrained(AutoTokenizer, source.id, revision=source.revision)
        case DirectoryModel() as source:
            model_files(source.path)
            tokenizer = _pretrained(AutoTokenizer, str(source.path), local_files_only=True)
        case PackagedGgufModel() as source:
            path = packaged_gguf(source)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    if study.model.chat_template is not None:
        _set_template(tokenizer, study.model.chat_template)
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def source_config(study: Study) -> PretrainedConfig:
    """The configuration of the study's model, without the model.

    Raises:
        LwfError: it cannot be loaded.
    """
    from transformers import AutoConfig

    match study.model.source:
        case HubModel() as source:
            config = _pretrained(AutoConfig, source.id, revision=source.revision)
        case DirectoryModel() as source:
            config = _pretrained(AutoConfig, str(source.path), local_files_only=True)
        case PackagedGgufModel() as source:
            path = packaged_gguf(source)
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    loaded: PretrainedConfig = config
    return loaded


def _set_template(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    from lwf_assets.engine.chat import write_prompt

    try:
        tokenizer.chat_template = path.read_text(encoding="utf-8")
        write_prompt(tokenizer, [{"role": "user", "content": "a"}], row_id="of the template")
    except (OSError, UnicodeDecodeError, LwfError) as error:
        raise LwfError(
            f"model.chat_template: {path} is no chat template that can be used: {error.__cause__ or error}"
        ) from error


def _pretrained(kind: Any, name: str, **options: Any) -> Any:
    from safetensors import SafetensorError

    try:
        return kind.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise LwfError(f"model.source: {name} cannot be loaded as a causal language model: {error}") from error


def _from_gguf(source: PackagedGgufModel, dtype: Any) -> PreTrainedModel:
    """Dequantize a GGUF file. transformers marks what it loads from one as quantized, which it no longer is: without
    the mark it is saved as the ordinary model that it has become, and the rest of the pipeline never needs to know."""
    from transformers import AutoModelForCausalLM

    path = packaged_gguf(source)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    return model
