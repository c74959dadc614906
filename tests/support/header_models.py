"""Model directories that say how large they are and hold no weights: enough to foresee a cost."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def write_header_model(folder: Path, *shapes: list[int], config: dict[str, Any] = CONFIG) -> Path:
    """A directory with config.json and the header of a safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    entries = {f"weight-{n}": {"dtype": "F32", "shape": s, "data_offsets": [0, 0]} for n, s in enumerate(shapes)}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder
