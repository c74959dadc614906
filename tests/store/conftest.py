"""Fixtures of the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwf_assets.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
