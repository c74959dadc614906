"""Small models, many short trainings: what makes them quick."""

from __future__ import annotations

import gc

import pytest
import torch
import transformers.trainer  # noqa: F401  # imported before the freeze below


@pytest.fixture(scope="session", autouse=True)
def _quick() -> None:
    """One thread, as the models are too small for more. And Trainer collects garbage at its start: what the imports
    left need not be searched through each time."""
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
