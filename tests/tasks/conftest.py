"""No network, no cache of earlier runs, and mirrors of the hub to read instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hub_mirrors import WRITERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here may reach the hub, or read what an earlier run left in the cache."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def mirror(tmp_path: Path) -> Callable[[str], str]:
    """Writes the mirror of one of the paper's tasks and gives its path."""

    def write(task: str) -> str:
        root = tmp_path / "hub" / task
        root.mkdir(parents=True)
        WRITERS[task](root)
        return str(root)

    return write
