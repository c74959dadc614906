"""Study files to write, and what is said about them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lwf_assets.errors import LwfError
from lwf_assets.study.file import load_study

VALUES: dict[str, Any] = {
    "name": "small",
    "model": {"source": {"kind": "directory", "path": "model"}},
    "learning_tasks": {"sums": {"preset": "chain_sum"}},
    "forgetting_tasks": {"teeth": {"source": {"kind": "file", "prompts": "teeth.jsonl"}}},
    "training": {"max_steps": 6},
}


REMOVED = object()


def write(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False))
    return path


def study_with(tmp_path: Path, key: str, value: Any) -> Path:
    """The small study with `value` at the dotted `key`."""
    values = copy.deepcopy(VALUES)
    *sections, last = key.split(".")
    section = values
    for name in sections:
        section = section.setdefault(name, {})
    if value is REMOVED:
        del section[last]
    else:
        section[last] = value
    return write(tmp_path / "study.yaml", values)


def message(path: Path) -> str:
    with pytest.raises(LwfError) as caught:
        load_study(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text.replace(f"{path}: ", "", 1)


KINDS = ("lwf", "random_tokens", "weight_noise", "extra_steps", "bss", "l2_sp", "weight_decay", "other_base")
