"""The corpus as an asset: what decides its rows, with either engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
from tiny import tiny_study_values, write_study

from lwf_assets.building.materialize import materialize
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.store.home import Home
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import read_rows
from lwf_assets.study.file import load_study

pytestmark = pytest.mark.slow

TEETH = Partition(forgetting_task="teeth")


def _corpus(folder: Path, *, home: str, reverse: bool = False, **generation: Any) -> dict[str, tuple[str, list[int]]]:
    """Prompt and response by id, made in a home of its own."""
    values = tiny_study_values(folder)
    values["generation"] = {"max_new_tokens": 6, "samples_per_prompt": 2} | generation
    lines = sorted((folder / "teeth.jsonl").read_text().splitlines(), reverse=reverse)
    (folder / "teeth.jsonl").write_text("\n".join(lines) + "\n")
    study, store = load_study(write_study(folder, values)), Home(folder / home).store
    materialize(study, store, Cell("base_model", Partition()))
    materialize(study, store, Cell("forgetting_prompts", TEETH))
    made = materialize(study, store, Cell("self_generated_corpus", TEETH)).artifact
    return {row["id"]: (row["prompt"], row["response_ids"]) for row in read_rows(made.path / "corpus.parquet")}


def test_neither_batches_nor_the_order_of_prompts_decide_it(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path, home="auto")
    assert len(corpus) == 12
    assert len({tuple(response) for _, response in corpus.values()}) == 12
    assert _corpus(tmp_path, home="one", batch_size=1) == corpus
    assert _corpus(tmp_path, home="five", batch_size=5, reverse=True) == corpus
    assert _corpus(tmp_path, home="seed", seed=1) != corpus


def test_vllm_makes_the_same_rows_with_draws_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm.module())
    own = _corpus(tmp_path, home="home")
    other = _corpus(tmp_path, home="home", engine="vllm")  # in one home: the engine is part of the recipe
    assert fake_vllm.LLM.made[0].dtype == "float32"
    assert {key: prompt for key, (prompt, _) in own.items()} == {key: prompt for key, (prompt, _) in other.items()}
    assert own != other
    assert _corpus(tmp_path, home="again", engine="vllm", batch_size=3) == other


def test_without_vllm_it_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(LwfError, match=r"generation\.engine: vllm is not installed"):
        _corpus(tmp_path, home="home", engine="vllm")
