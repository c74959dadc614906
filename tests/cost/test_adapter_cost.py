"""What a study of adapters is expected to cost, against real adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from by_hand import tiny_model
from study_changes import changed
from tiny import save_tiny_model, tiny_llama

from lwf_assets.cost.cell_cost import cost_of
from lwf_assets.cost.disk_space import disk_space_of
from lwf_assets.cost.model_size import read_facts
from lwf_assets.engine.adapter import adapted_weights, adapter_parameters, add_adapter
from lwf_assets.graph.cells import Cell
from lwf_assets.store.partition import Partition
from lwf_assets.study.sections import AdapterSettings
from lwf_assets.study.study import Study

LEARNED, TEETH = Partition(learning_task="sums"), Partition("teeth", "sums")


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "mlp.down_proj"]])
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_is_as_large_as_it_is_read_off_the_file(targets: Any, tied: bool, tmp_path: Path) -> None:
    model = tiny_llama(tied=tied)
    facts = read_facts(
        save_tiny_model(tmp_path / "model", model=model),
        "float32",
        AdapterSettings(kind="lora", rank=4, targets=targets),
    )
    carrying = add_adapter(model, rank=4, alpha=8, dropout=0.0, targets=targets, seed=0)
    assert facts.adapter.parameters == facts.trained == sum(p.numel() for p in adapter_parameters(carrying).values())
    sizes = {name: parameter.numel() for name, parameter in carrying.get_base_model().named_parameters()}
    assert facts.adapter.carried == sum(sizes[name] for name in adapted_weights(carrying.get_base_model()))


def test_weights_stored_the_other_way_round_count_alike(tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    model.save_pretrained(tmp_path)
    facts = read_facts(tmp_path, "float32", AdapterSettings(kind="lora", rank=3))
    carrying = add_adapter(model, rank=3, alpha=6, dropout=0.0, targets="all-linear", seed=0)
    assert facts.adapter.parameters == sum(p.numel() for p in adapter_parameters(carrying).values())


def _study(folder: Path, **changes: Any) -> Study:
    values = {
        "name": "small",
        "model": {"source": {"kind": "directory", "path": str(folder)}},
        "learning_tasks": {"sums": {"preset": "chain_sum", "rows": {"train": 24, "validation": 4, "test": 6}}},
        "forgetting_tasks": {"teeth": {"preset": "leg_counting", "rows": {"train": 8}}},
        "training": {"max_steps": 6, "checkpoint_every": 2},
        "seeds": [0, 1],
        "probe": {},
    }
    return changed(values, changes)


def test_what_is_trained_and_stored_is_the_adapter(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", model=tiny_llama(hidden=64))
    adapter = {"model.adapter": {"kind": "lora", "rank": 2}}
    plain, adapted = _study(folder), _study(folder, **adapter)
    facts = read_facts(folder, "float32", adapted.model.adapter)
    size = 4 * facts.adapter.parameters

    def space(study: Study, asset: str, partition: Partition) -> Any:
        return disk_space_of(study, Cell(asset, partition), lambda cell: None)

    assert space(adapted, "reference_checkpoint", LEARNED).kept == 2 * size
    assert space(adapted, "reference_checkpoint", LEARNED).meanwhile == 2 * size * 3
    assert space(adapted, "lwf_checkpoint", TEETH).meanwhile == 2 * size * 5
    assert space(adapted, "fisher_diagonal", LEARNED).kept == 4 * facts.adapter.carried
    own = _study(folder, **adapter, **{"confidence.space": "adapter"})
    assert space(own, "fisher_diagonal", LEARNED).kept == size
    assert space(plain, "reference_checkpoint", LEARNED).kept == 2 * facts.weight_bytes

    def cost(study: Study, asset: str, partition: Partition) -> Any:
        return cost_of(study, Cell(asset, partition), lambda cell: None)

    for asset, partition in (("reference_checkpoint", LEARNED), ("lwf_checkpoint", TEETH)):
        assert cost(adapted, asset, partition).surely < cost(plain, asset, partition).surely / 2
        assert 0.5 < cost(adapted, asset, partition).work / cost(plain, asset, partition).work < 0.8
    moments = {part.what: part.size for part in cost(adapted, "lwf_checkpoint", TEETH).peak}
    assert moments["AdamW's two moments"] == moments["the ascent's two moments"] == 2 * size
    assert moments["the adapter"] == size
    fisher = {part.what: part.size for part in cost(adapted, "fisher_diagonal", LEARNED).peak}
    assert fisher["the Fisher diagonal in float32"] == 4 * facts.adapter.carried
    # A probe trains the merged weights.
    probe = Partition(learning_task="sums", model="lwf.teeth")
    assert cost(adapted, "forgetting_probe", probe).surely == cost(plain, "forgetting_probe", probe).surely
