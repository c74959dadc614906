"""The whole pipeline on the tiny study: what each edit makes stale, what a build then runs, and what comes out."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
from tiny import write_prompts
from world import World

from lwf_assets.graph.cells import Cell
from lwf_assets.store.layout import read_summary
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.partition import Partition
from lwf_assets.store.tables import read_rows

pytestmark = pytest.mark.slow

CELLS = ("teeth|sums", "minds|sums")


def each(asset: str, *keys: str) -> set[str]:
    return {f"{asset}[{key}]" for key in keys}


def downstream_of_the_score(*keys: str) -> set[str]:
    return {
        *each("scored_forget_set", *keys),
        *each("lwf_checkpoint", *keys),
        *each("evaluation", *(f"sums|lwf.{key.split('|')[0]}" for key in keys)),
        *each("eval_report", *keys),
        "leaderboard",
    }


PLAIN = each("evaluation", "sums|base", "sums|reference")
"""The evaluations of the models without a forgetting task, which look at the samples of all of them."""


def assert_stale_then_built(world: World, expected: set[str]) -> None:
    """The plan lists exactly `expected`, the build runs exactly that, and then nothing is left."""
    assert world.stale() == expected
    assert {str(cell) for cell in world.build()} == expected
    assert world.stale() == set()


def test_after_a_build_there_is_nothing_to_do(built: World) -> None:
    plan = built.plan()
    assert plan.to_dict() == {"stale": [], "blocked": [], "fresh": 22}
    assert built.build() == []


def test_alpha(built: World) -> None:
    built.values["confidence"] = {"alpha": 0.5}
    reasons = [reason for step in built.plan().stale for reason in step.reasons]
    assert "alpha: 0.01 -> 0.5" in reasons
    assert built.stale() == downstream_of_the_score(*CELLS)


def test_one_prompt_of_one_forgetting_file(built: World) -> None:
    path = built.folder / "teeth.jsonl"
    path.write_text(path.read_text().replace("teeth 3?", "teeth 33?"))
    assert_stale_then_built(
        built,
        {
            *each("forgetting_prompts", "teeth"),
            *each("self_generated_corpus", "teeth"),
            *each("confidence_terms", "teeth|sums"),
            *downstream_of_the_score("teeth|sums"),
            *PLAIN,
            *each("eval_report", *CELLS),
        },
    )


def test_a_touched_or_moved_file_changes_nothing(built: World) -> None:
    os.utime(built.folder / "teeth.jsonl")
    shutil.copytree(built.folder, built.folder.parent / "elsewhere")
    built.folder = built.folder.parent / "elsewhere"
    assert built.stale() == set()


def test_a_new_forgetting_task(built: World) -> None:
    write_prompts(built.folder / "stars.jsonl", "stars")
    built.values["forgetting_tasks"]["stars"] = {"source": {"kind": "file", "prompts": "stars.jsonl"}}
    assert_stale_then_built(
        built,
        {
            *each("forgetting_prompts", "stars"),
            *each("self_generated_corpus", "stars"),
            *each("confidence_terms", "stars|sums"),
            *downstream_of_the_score("stars|sums"),
            *PLAIN,
            *each("eval_report", *CELLS),
        },
    )


def test_the_size_of_the_test_set_retrains_nothing(built: World) -> None:
    built.values["learning_tasks"]["sums"]["rows"]["test"] = 8
    evaluations = {*PLAIN, *each("evaluation", "sums|lwf.teeth", "sums|lwf.minds")}
    expected = {*each("test_data", "sums"), *evaluations, *each("eval_report", *CELLS), "leaderboard"}
    assert_stale_then_built(built, expected)


def test_back_to_the_first_settings_everything_comes_from_the_store(built: World) -> None:
    built.values["confidence"] = {"end": "low"}
    assert_stale_then_built(built, downstream_of_the_score(*CELLS))
    del built.values["confidence"]
    assert {step.action.value for step in built.plan().stale} == {"reuse from store"}
    made_before = set(built.home.root.glob("store/*/*/*/manifest.json"))
    assert_stale_then_built(built, downstream_of_the_score(*CELLS))
    assert set(built.home.root.glob("store/*/*/*/manifest.json")) == made_before


def test_an_input_that_turns_out_the_same_ends_the_work_early(built: World) -> None:
    # Another recipe, the same rows: white space around a prompt is taken off.
    path = built.folder / "teeth.jsonl"
    path.write_text(path.read_text().replace("teeth 3?", "teeth 3? "))
    assert "lwf_checkpoint[teeth|sums]" in built.stale()
    ran = {str(cell) for cell in built.build()}
    assert "forgetting_prompts[teeth]" in ran
    assert "confidence_terms[teeth|sums]" not in ran
    assert built.stale() == set()


def test_force_makes_one_asset_anew_and_nothing_else(built: World) -> None:
    cells = {str(step.cell): step.cell for step in built.plan().steps}
    forced, follower = cells["scored_forget_set[teeth|sums]"], cells["lwf_checkpoint[teeth|sums]"]

    def manifest(cell: Cell) -> Manifest:
        artifact = built.home.store.current(cell.asset, cell.partition)
        assert artifact is not None
        return artifact.manifest

    before = manifest(forced), manifest(follower)
    built.build(force=[forced])
    assert manifest(forced).version == before[0].version
    assert manifest(forced).provenance["dagster_run"] != before[0].provenance["dagster_run"]
    assert manifest(follower) == before[1]  # the same bytes came out, so nothing follows from them


def test_mixed_is_the_union_of_all_forgetting_tasks(built: World) -> None:
    built.values["mixed"] = True
    built.build()
    folder = built.home.root / "store/scored_forget_set/mixed+sums"
    (version,) = [path for path in folder.iterdir() if (path / "manifest.json").exists()]
    rows = read_rows(version / "scored_forget_set.parquet")
    assert {row["source_task"] for row in rows} == {"teeth", "minds"}


def test_a_learning_task_is_left_out_of_its_own_mixed_cell(built: World) -> None:
    built.values["mixed"] = True
    built.values["forgetting_tasks"]["sums"] = {
        "preset": "chain_sum",
        "rows": {"train": 4, "validation": 1, "test": 1},
    }
    built.build()
    assert not (built.home.root / "store/confidence_terms/sums+sums").exists()
    folder = built.home.root / "store/confidence_terms/mixed+sums"
    (version,) = [path for path in folder.iterdir() if (path / "manifest.json").exists()]
    assert {row["source_task"] for row in read_rows(version / "confidence_terms.parquet")} == {"teeth", "minds"}


def test_the_report_holds_every_figure(built: World) -> None:
    folder = built.artifact("eval_report")
    summary = read_summary(folder)
    assert [entry["model"] for entry in summary["models"]] == ["base", "reference", "lwf"]
    for entry in summary["models"]:
        key = f"lwf.{summary['forgetting_task']}" if entry["model"] == "lwf" else entry["model"]
        items = read_rows(evaluation_of(built, key) / "items.parquet")
        assert len(items) == 6
        expected = sum(item["target_nll"] for item in items) / 6
        assert math.isclose(entry["measures"]["target_nll"]["mean"], expected, rel_tol=1e-9)
    page = (folder / "report.html").read_text()
    scored = read_rows(built.artifact("scored_forget_set") / "scored_forget_set.parquet")
    assert all(row["id"] in page for row in scored if row["selected"])


def evaluation_of(world: World, model: str) -> Path:
    artifact = world.home.store.current("evaluation", Partition(learning_task="sums", model=model))
    assert artifact is not None
    return artifact.path


def test_the_ledger_names_selected_samples_and_the_steps_of_the_study(built: World) -> None:
    scored = read_rows(built.artifact("scored_forget_set") / "scored_forget_set.parquet")
    ledger = read_rows(built.artifact("lwf_checkpoint") / "seed-0" / "unlearning_ledger.parquet")
    assert {entry["sample_id"] for entry in ledger} <= {row["id"] for row in scored if row["selected"]}
    assert sorted({entry["step"] for entry in ledger}) == [2, 4, 6]


def test_two_seeds_train_two_models(built: World) -> None:
    built.values["seeds"] = [0, 7]
    built.build()
    folder = built.artifact("lwf_checkpoint")
    assert {path.name for path in folder.glob("seed-*")} == {"seed-0", "seed-7"}
    weights = [(folder / f"seed-{seed}" / "model.safetensors").read_bytes() for seed in (0, 7)]
    assert weights[0] != weights[1]
    (lwf,) = [e for e in read_summary(built.artifact("eval_report"))["models"] if e["model"] == "lwf"]
    assert lwf["seeds"] == [0, 7]


@pytest.mark.parametrize("optimum", [{"optimum": "steps", "steps": 3}, {"optimum": "gradient_step"}])
def test_other_optima_change_the_fisher_and_not_the_baseline(built: World, optimum: dict[str, object]) -> None:
    before = built.artifact("reference_checkpoint") / "seed-0" / "model.safetensors"
    built.values["reference"] = optimum
    built.build()
    folder = built.artifact("reference_checkpoint")
    assert (folder / "seed-0" / "model.safetensors").read_bytes() == before.read_bytes()
    assert (folder / "optimum" / "model.safetensors").read_bytes() != before.read_bytes()


def test_manifests_chain_up_to_the_sources(built: World) -> None:
    """From the checkpoint alone, every version upstream can be found and is what the store holds."""
    open_folders = [built.artifact("lwf_checkpoint")]
    seen: set[str] = set()
    while open_folders:
        manifest = json.loads((open_folders.pop() / "manifest.json").read_text())
        seen.add(manifest["asset"])
        for entry in manifest["inputs"]:
            partition = (entry["partition"] or "unpartitioned").replace("|", "+")
            open_folders.append(built.home.root / "store" / entry["asset"] / partition / entry["version"])
    assert seen == {
        "lwf_checkpoint",
        "scored_forget_set",
        "confidence_terms",
        "fisher_diagonal",
        "reference_checkpoint",
        "self_generated_corpus",
        "forgetting_prompts",
        "learning_data",
        "base_model",
    }
