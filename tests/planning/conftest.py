"""Fixtures of the tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pretend_store import Pretend

from lwf_assets import assets
from lwf_assets.store.store import Store


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    folder = tmp_path / "sources"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    for subject in ("teeth", "minds"):
        (folder / f"{subject}.jsonl").write_text(f'{{"prompt": "{subject}?"}}\n')

    def source(subject: str) -> dict[str, Any]:
        return {"source": {"kind": "file", "prompts": str(folder / f"{subject}.jsonl")}}

    values = {
        "name": "pretend",
        "model": {"source": {"kind": "directory", "path": str(folder / "model")}},
        "learning_tasks": {"sums": {"preset": "chain_sum"}},
        "forgetting_tasks": {"teeth": source("teeth"), "minds": source("minds")},
        "training": {"max_steps": 6, "learning_rate": 0.25},
    }
    world = Pretend(values, Store(tmp_path / "store"))

    monkeypatch.setattr(assets, "materialize", world.work)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # two dozen artifacts a test are many for a slow disk
    return world


@pytest.fixture
def fresh(pretend: Pretend) -> Pretend:
    """The pretended study with everything made and checked."""
    pretend.make_all()
    pretend.made.clear()
    return pretend
