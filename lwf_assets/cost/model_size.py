"""What a model's files say about its size, read without loading it and without torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwf_assets.engine.activation_memory import Dimensions
from lwf_assets.study.sections import AdapterSettings, DirectoryModel
from lwf_assets.study.study import Study

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
_HEADER_LIMIT = 100_000_000
"""Bytes; safetensors refuses longer headers too."""


@dataclass(frozen=True)
class AdapterSize:
    """Values of an adapter, and of the weights that carry it."""

    parameters: int
    carried: int


@dataclass(frozen=True, kw_only=True)
class ModelFacts(Dimensions):
    """Sizes of a causal language model. Tied weights are counted once.

    The dimensions are None where the config does not have them under a known name; then what depends on them
    cannot be foreseen.
    """

    parameters: int
    bytes_per_weight: int
    tied: bool = True
    adapter: AdapterSize | None = None
    """What the study's fine-tunes train in place of the weights; None: they train all weights."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of one copy of all weights in their own type."""
        return self.parameters * self.bytes_per_weight

    @property
    def trained(self) -> int:
        """Parameters that a fine-tune trains."""
        return self.parameters if self.adapter is None else self.adapter.parameters

    @property
    def trained_bytes(self) -> int:
        """Bytes of one copy of them: an adapter is in float32 whatever its base is in."""
        return self.weight_bytes if self.adapter is None else 4 * self.adapter.parameters

    def space(self, study: Study) -> int:
        """Parameters that FC is over."""
        if self.adapter is None:
            return self.parameters
        return self.adapter.carried if study.confidence_space == "weights" else self.adapter.parameters


def facts_of_study(study: Study, base_model: Path | None) -> ModelFacts | None:
    """The facts of the study's model: from the folder of its built `base_model`, else from a source directory on this
    machine; None before it was ever fetched."""
    source = study.model.source
    folder = base_model or (source.path if isinstance(source, DirectoryModel) else None)
    return None if folder is None else read_facts(folder, study.model.dtype, study.model.adapter)


def read_facts(folder: Path, dtype: str, adapter: AdapterSettings | None = None) -> ModelFacts | None:
    """The facts of a model directory whose weights will be held as `dtype`, and carry `adapter`; None if its files do
    not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config") or config
        parameters = _count_parameters(folder, config)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, struct.error):
        return None  # loading the model will report what is wrong with it
    if not parameters:
        return None
    return ModelFacts(
        **vars(Dimensions.of_config(config)),
        parameters=parameters,
        bytes_per_weight=_BYTES[dtype],
        tied=bool(config.get("tie_word_embeddings", True)),
        adapter=None if adapter is None else _adapter_size(folder, adapter),
    )


_NOT_IN_A_LAYER = ("embed", "wte", "wpe", "lm_head", "shared")
"""Parts of the names of matrices that are embeddings or output heads."""


def _adapter_size(folder: Path, adapter: AdapterSettings) -> AdapterSize:
    """By the names of the matrices, for without loading the model nothing says which of them are linear layers."""
    shapes = [
        shape
        for path in folder.glob("*.safetensors")
        for name, shape in _shapes(path).items()
        if len(shape) == 2 and _carries(name.removesuffix(".weight"), adapter)
    ]
    return AdapterSize(adapter.rank * sum(map(sum, shapes)), sum(map(math.prod, shapes)))


def _carries(name: str, adapter: AdapterSettings) -> bool:
    if adapter.targets == "all-linear":
        return not any(part in name for part in _NOT_IN_A_LAYER)
    return any(name == target or name.endswith(f".{target}") for target in adapter.targets)


def _count_parameters(folder: Path, config: Mapping[str, Any]) -> int:
    headers = sorted(folder.glob("*.safetensors"))
    if headers:
        return sum(math.prod(shape) for path in headers for shape in _shapes(path).values())
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return sum(path.stat().st_size for path in folder.glob("pytorch_model*.bin")) // _BYTES.get(stored, 4)


def _shapes(path: Path) -> dict[str, list[int]]:
    """The shapes, by name, in the header of a safetensors file: 8 bytes with its length, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _HEADER_LIMIT:
            raise ValueError(f"{path}: not a safetensors header")
        header = json.loads(file.read(length))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
