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
from lwf_assets.study.sections import DirectoryModel
from lwf_assets.study.study import Study

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
_HEADER_LIMIT = 100_000_000
"""Bytes; safetensors refuses longer headers too."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts(Dimensions):
    """Sizes of a causal language model. Tied weights are counted once.

    The dimensions are None where the config does not have them under a known name; then what depends on them
    cannot be foreseen.
    """

    parameters: int
    bytes_per_weight: int
    tied: bool = True

    @property
    def weight_bytes(self) -> int:
        """Bytes of one copy of all weights in their own type."""
        return self.parameters * self.bytes_per_weight


def facts_of_study(study: Study, base_model: Path | None) -> ModelFacts | None:
    """The facts of the study's model: from the folder of its built `base_model`, else from a source directory on this
    machine; None before it was ever fetched."""
    source = study.model.source
    folder = base_model or (source.path if isinstance(source, DirectoryModel) else None)
    return None if folder is None else read_facts(folder, study.model.dtype)


def read_facts(folder: Path, dtype: str) -> ModelFacts | None:
    """The facts of a model directory whose weights will be held as `dtype`; None if its files do not say."""
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
    )


def _count_parameters(folder: Path, config: Mapping[str, Any]) -> int:
    headers = sorted(folder.glob("*.safetensors"))
    if headers:
        return sum(math.prod(shape) for path in headers for shape in _shapes(path))
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return sum(path.stat().st_size for path in folder.glob("pytorch_model*.bin")) // _BYTES.get(stored, 4)


def _shapes(path: Path) -> list[list[int]]:
    """The shapes in the header of a safetensors file: 8 bytes with its length, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _HEADER_LIMIT:
            raise ValueError(f"{path}: not a safetensors header")
        header = json.loads(file.read(length))
    return [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
