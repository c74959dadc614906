"""How many rows are generated at once where the study leaves it open."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lwf_assets.cost import batch_rows as module
from lwf_assets.cost.batch_rows import MOST, SHARE, batch_rows, rows_that_fit, rows_within
from lwf_assets.cost.model_size import ModelFacts
from lwf_assets.cost.peak_memory import ROWS_ON_A_CPU, generated_rows, planned_rows
from lwf_assets.engine import precision

LLAMA_8B = ModelFacts(
    parameters=8_030_000_000, bytes_per_weight=2, layers=32, hidden=4096, intermediate=14336, attention=4096,
    key_value=1024, vocabulary=128256, context=8192, tied=False,
)  # fmt: skip


def _needed(rows: int, longest: int) -> float:
    size = generated_rows(LLAMA_8B, rows, longest, "", guessed=False).size
    assert size is not None
    return size


@pytest.mark.parametrize("gigabytes", [2, 8, 20, 60])
@pytest.mark.parametrize("longest", [64, 500, 4000])
def test_as_many_as_fit(gigabytes: int, longest: int) -> None:
    free = gigabytes * 10**9
    rows = rows_within(LLAMA_8B, longest, free)
    assert rows.bit_count() == 1
    assert rows == 1 or _needed(rows, longest) <= SHARE * free
    assert rows == MOST or _needed(2 * rows, longest) > SHARE * free
    # Keys and values of 32 layers, 1,024 wide, in two bytes: what is foreseen is never less.
    assert _needed(rows, longest) >= rows * longest * 2 * 32 * 1024 * 2


def test_longer_rows_and_less_memory_never_give_more() -> None:
    counts = [rows_within(LLAMA_8B, longest, 20 * 10**9) for longest in (10, 100, 1000, 10_000, 1_000_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 1
    assert counts[-1] == 1


def test_what_is_not_known_is_not_guessed() -> None:
    assert rows_within(replace(LLAMA_8B, layers=None), 100, 10**12) == ROWS_ON_A_CPU
    assert rows_that_fit(None, 100) == ROWS_ON_A_CPU


@pytest.mark.parametrize(
    ("device", "free", "expected"), [("cpu", 10**12, 16), ("cuda", 10**12, MOST), ("cuda", None, 16)]
)
def test_a_gpu_is_asked_what_it_has_free(
    device: str, free: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "best_device", lambda: torch.device(device))
    monkeypatch.setattr(module, "free_memory", lambda **_: free)
    found = batch_rows("auto", LLAMA_8B)
    assert not isinstance(found, int)
    assert found(100) == expected


def test_a_number_in_the_study_is_used_as_it_is() -> None:
    assert batch_rows(7, None) == 7
    assert planned_rows(7) == 7
    assert planned_rows("auto") == ROWS_ON_A_CPU
