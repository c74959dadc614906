"""Fixtures of the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretend_store import Pretend, pretend_in


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    return pretend_in(tmp_path, monkeypatch)


@pytest.fixture
def fresh(pretend: Pretend) -> Pretend:
    """The pretended study with everything made and checked."""
    pretend.make_all()
    pretend.made.clear()
    return pretend
