"""Small models, many short trainings: what makes them quick."""

from __future__ import annotations

import gc

import pytest
import transformers.trainer  # noqa: F401  # imported before the freeze below


@pytest.fixture(scope="session", autouse=True)
def _quick() -> None:
    """Trainer collects garbage at its start: what the imports left need not be searched through each time."""
    gc.collect()
    gc.freeze()
