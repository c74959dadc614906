"""The whole pipeline on the real 135M model, smaller than the quickstart but with everything in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from once import made_once
from places import QUICKSTART
from transformers import AutoModelForCausalLM
from world import World

from lwf_assets.building.materialize import materialize
from lwf_assets.engine.checkpoint import load_model
from lwf_assets.graph.cells import Cell
from lwf_assets.store.home import Home
from lwf_assets.store.layout import read_summary
from lwf_assets.store.partition import Partition
from lwf_assets.study.file import load_study
from lwf_assets.study.model_source import packaged_gguf
from lwf_assets.study.sections import PackagedGgufModel

SMALLER = {
    "extends": str(QUICKSTART),
    "name": "smaller",
    "learning_tasks": {"chain_sum": {"rows": {"train": 64, "validation": 8, "test": 8}}},
    "forgetting_tasks": {"dentistry": {"rows": {"train": 8}}, "psychology": {"rows": {"train": 2}}},
    "generation": {"max_new_tokens": 16},
    "training": {"max_steps": 8},
    "fisher": {"samples": 4},
    "unlearning": {"interval": 2, "forgetting_rate": 2.0e-5, "timing": "periodic"},
    "evaluation": {"response_examples": 1},
}


class RealWorld(World):
    """A world whose study needs no files of its own."""

    @property
    def file(self) -> Path:
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump(self.values))
        return path


@pytest.fixture(autouse=True)
def _all_cores() -> Iterator[None]:
    """The other tests run on one thread. Of several processes of tests each has its share: threads that wait for a core
    slow down all of them."""
    before = torch.get_num_threads()
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    yield
    torch.set_num_threads(before)


BASE_MODEL = Cell("base_model", Partition())


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home in which there is nothing but the imported model."""

    def make(folder: Path) -> None:
        materialize(load_study(QUICKSTART), Home(folder / "home").store, BASE_MODEL)

    return made_once(tmp_path_factory, "imported", make)


@pytest.mark.slow
def test_a_real_model_learns_and_forgets(imported: Path) -> None:
    world = RealWorld(imported, Home(imported / "home"), SMALLER)
    cell = Cell("eval_report", Partition("dentistry", "chain_sum"))
    world.build(only=[cell])
    artifact = world.home.store.current(cell.asset, cell.partition)
    assert artifact is not None
    models = {entry["model"]: entry["measures"] for entry in read_summary(artifact.path)["models"]}
    # It learns: the targets become much likelier under both fine-tunes.
    assert models["reference"]["target_nll"]["mean"] < models["base"]["target_nll"]["mean"] - 0.3
    assert models["lwf"]["target_nll"]["mean"] < models["base"]["target_nll"]["mean"] - 0.3
    # It forgets: what was unlearned became less likely, and more so than what was only scored.
    rise = {
        name: models["lwf"][name]["mean"] - models["reference"][name]["mean"] for name in ("forgotten_nll", "kept_nll")
    }
    assert rise["forgotten_nll"] > 0.02
    assert rise["forgotten_nll"] > rise["kept_nll"]
    # Dequantized once, it is an ordinary model directory of the known size.
    base = world.home.store.built("base_model", Partition())
    assert base.manifest.summary["parameters"] == 134_515_008
    assert "quantization_config" not in json.loads((base.path / "config.json").read_text())


@pytest.mark.slow
def test_the_imported_model_says_what_the_gguf_file_says(imported: Path) -> None:
    source = load_study(QUICKSTART).model.source
    assert isinstance(source, PackagedGgufModel)
    base = Home(imported / "home").store.built("base_model", Partition())
    path = packaged_gguf(source)
    original = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokens = torch.tensor([[17872, 42, 2888, 260, 3403]])
    with torch.no_grad():
        torch.testing.assert_close(load_model(base.path)(tokens).logits, original(tokens).logits)
