"""The asset confidence_terms with what the study says of it."""

from __future__ import annotations

import pytest
import torch
from world import World

from lwf_assets.building.materialize import materialize
from lwf_assets.engine import confidence
from lwf_assets.engine.gradients.per_sample import reduce_per_sample_gradients
from lwf_assets.graph.cells import Cell
from lwf_assets.store.layout import CONFIDENCE_TERMS
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import read_rows

TERMS = Cell("confidence_terms", Partition(forgetting_task="teeth", learning_task="sums"))


@pytest.mark.slow
def test_half_the_memory_gives_nearly_the_same_terms(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    compute = confidence._Terms

    def noted(count: int, fisher: dict[str, torch.Tensor], delta: dict[str, torch.Tensor]) -> confidence._Terms:
        seen.append({value.dtype for tensors in (fisher, delta) for value in tensors.values()})
        return compute(count, fisher, delta)

    monkeypatch.setattr(confidence, "_Terms", noted)
    before = materialize(built.study, built.home.store, TERMS)
    assert before.reused
    exact = read_rows(before.artifact.path / CONFIDENCE_TERMS)
    built.values["confidence"] = {**built.values.get("confidence", {}), "precision": "bfloat16"}
    made = materialize(built.study, built.home.store, TERMS)
    assert not made.reused
    assert seen == [{torch.bfloat16}]
    rounded = read_rows(made.artifact.path / CONFIDENCE_TERMS)
    for name in ("constant", "quadratic", "gradient_norm", "nll"):
        assert [row[name] for row in rounded] == pytest.approx([row[name] for row in exact], rel=1e-2)
    assert [row["quadratic"] for row in rounded] != [row["quadratic"] for row in exact]


@pytest.mark.slow
def test_tf32_is_allowed_while_an_asset_is_made_if_the_study_says_so(
    built: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def noted(*words: object, **named: object) -> object:
        seen.append(torch.get_float32_matmul_precision())
        return reduce_per_sample_gradients(*words, **named)

    monkeypatch.setattr(confidence, "reduce_per_sample_gradients", noted)
    materialize(built.study, built.home.store, TERMS, force=True)
    built.values["model"]["tf32"] = True
    materialize(built.study, built.home.store, TERMS, force=True)
    assert seen == ["highest", "high"]
    assert torch.get_float32_matmul_precision() == "highest"
