"""What one has to touch to add a thing, as CONTRIBUTING.md promises: shown by adding it."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from places import ROOT
from world import World

import lwf_assets.graph.cells
import lwf_assets.graph.table
from dagster_project.cli.views import query_store
from dagster_project.definitions import build_definitions
from dagster_project.ui.metadata import metadata_of
from lwf_assets.cost.cell_cost import cost_of
from lwf_assets.graph.cells import Cell
from lwf_assets.graph.table import SELF_KNOWLEDGE, AssetSpec
from lwf_assets.store.layout import CORPUS
from lwf_assets.store.partition import FORGETTING_TASK, Partition
from lwf_assets.store.tables import read_rows, write_rows
from lwf_assets.study.arms import Arm, ArmSettings
from lwf_assets.study.file import load_study
from lwf_assets.tasks import presets

KINDS: dict[str, type[ArmSettings]] = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in get_args(get_args(Arm)[0])
}
SOURCES = [path for package in ("lwf_assets", "dagster_project") for path in sorted((ROOT / package).rglob("*.py"))]


def count_words(work: Any) -> dict[str, Any]:
    """The whole module of the asset that is added below."""
    rows = read_rows(work.input("self_generated_corpus") / CORPUS)
    counted = [{"id": row["id"], "words": len(row["response"].split())} for row in rows]
    write_rows(work.out / "words.parquet", counted)
    return {"words": sum(row["words"] for row in counted)}


ROW = AssetSpec(
    "word_counts",
    dimensions=(FORGETTING_TASK,),
    inputs=("self_generated_corpus",),
    code_version="1",
    group=SELF_KNOWLEDGE,
    kinds=("parquet",),
    description="How long the responses are.",
    table="words.parquet",
    columns=("id", "words"),
    is_dataset=True,
)


def test_an_asset_is_one_module_and_one_row(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("lwf_assets.assets.word_counts")
    module.materialize = count_words  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(lwf_assets.graph.table.ASSET, ROW.name, ROW)
    table = (*lwf_assets.graph.table.ASSETS, ROW)
    for place in (lwf_assets.graph.table, lwf_assets.graph.cells):
        monkeypatch.setattr(place, "ASSETS", table)
    cell = Cell("word_counts", Partition(forgetting_task="teeth"))
    assert built.stale() == {"word_counts[teeth]", "word_counts[minds]"}
    assert cost_of(built.study, cell, lambda other: None).work is None
    definitions = build_definitions(built.study, built.home)
    spec = next(s for s in definitions.resolve_all_asset_specs() if s.key.path == ["word_counts"])
    assert (spec.group_name, spec.description) == (SELF_KNOWLEDGE, "How long the responses are.")
    assert sorted(map(str, built.build())) == ["word_counts[minds]", "word_counts[teeth]"]
    assert built.stale() == set()
    names, rows = query_store(built.study, built.home.store, "SELECT count(*) AS n FROM word_counts")
    assert (names, rows) == (["n"], [(12,)])
    shown = metadata_of(built.home.store.built(cell.asset, cell.partition), reused=False)
    assert "| id | words |" in shown["sample"].md_str


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_arm_is_one_class_and_one_module(kind: str) -> None:
    """Nothing else in the two packages names a kind of arm, so nothing else needs to learn of a new one."""
    assert importlib.import_module(f"lwf_assets.fine_tuning.arms.{kind}").fine_tune
    name = KINDS[kind].__name__
    naming = {path.relative_to(ROOT).as_posix() for path in SOURCES if re.search(rf"\b{name}\b", path.read_text())}
    assert naming == {"lwf_assets/study/arms.py", f"lwf_assets/fine_tuning/arms/{kind}.py"}
    assert f"(kind: {kind})" in (ROOT / "docs" / "study-file.md").read_text()


def test_every_module_of_an_arm_is_a_kind() -> None:
    modules = {path.stem for path in (ROOT / "lwf_assets" / "fine_tuning" / "arms").glob("[!_]*.py")}
    assert modules == set(KINDS)


def test_a_preset_is_one_entry(built: World, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {
        "source": {"kind": "reasoning_gym", "generator": "chain_sum", "parameters": {"max_terms": 2}},
        "rows": {"train": 8, "validation": 2, "test": 2},
    }
    monkeypatch.setitem(presets.PRESETS, "short_sums", entry)
    built.values["learning_tasks"]["short_sums"] = None
    study = load_study(built.file)
    assert study.learning_tasks["short_sums"].rows.train == 8
    assert "learning_data[short_sums]" in built.stale()


def test_a_measure_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evaluated import Cell as Evaluated
    from evaluated import usual_models

    from lwf_assets.assets import eval_report
    from lwf_assets.comparison.measures import MEASURES, Measure
    from lwf_assets.store.layout import EVALUATED_ITEMS, REPORT_PAGE, read_summary

    work: Any = Evaluated(tmp_path, models=usual_models(lwf_gain=0.3)).work()
    for cell, artifact in work.inputs.items():
        if cell.asset == "evaluation":
            path = artifact.path / EVALUATED_ITEMS
            write_rows(path, [{**row, "brevity": 1.0 - row["target_nll"] / 10} for row in read_rows(path)])
    monkeypatch.setitem(MEASURES, "brevity", Measure("Brevity", "how short the answers are", True))
    eval_report.materialize(work)
    effects = {e["measure"]: e["verdict"] for e in read_summary(work.out)["effects"] if e["model"] == "lwf"}
    assert effects["brevity"] in ("helps", "hurts", "no detectable effect")
    assert "Brevity" in (work.out / REPORT_PAGE).read_text()
    assert json.dumps(effects)
