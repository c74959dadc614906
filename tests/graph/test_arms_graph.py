"""What an edit of a study with arms makes stale: which models are trained anew, which only measured or reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from study_changes import changed

from lwf_assets.disk.hashes import hash_file
from lwf_assets.graph.cells import Cell, cells, inputs_of, settings_of, specs_of, upstream_of
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study

TASKS = ("teeth", "minds")
PLAIN = ("base", "reference")


def taught(seed: int) -> dict[str, Any]:
    """A prior of some sums."""
    return {"tasks": {"old": {"preset": "chain_sum", "source": {"seed": seed}}}, "training": {"max_steps": 2}}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A study with two learning tasks, two forgetting tasks and an arm of most kinds."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    (folder / "neutral.jsonl").write_text(json.dumps({"id": "a", "text": "Birds."}))
    for subject in TASKS:
        (folder / f"{subject}.jsonl").write_text(f'{{"prompt": "{subject}?"}}\n')
    return {
        "name": "arms",
        "model": {"source": {"kind": "directory", "path": str(folder / "model")}, "prior": "old"},
        "priors": {"old": taught(0), "other": taught(1)},
        "learning_tasks": {"sums": {"preset": "chain_sum"}, "legs": {"preset": "leg_counting"}},
        "forgetting_tasks": {
            name: {"source": {"kind": "file", "prompts": str(folder / f"{name}.jsonl")}} for name in TASKS
        },
        "training": {"max_steps": 6},
        "evaluation": {"neutral_text": str(folder / "neutral.jsonl")},
        "probe": {"models": ["lwf", "low"]},
        "arms": {
            "low": {"kind": "lwf", "confidence": {"end": "low"}},
            "steep": {"kind": "lwf", "confidence": {"alpha": 0.5, "selection_count": 3}, "learning_tasks": ["sums"]},
            "npo": {"kind": "lwf", "unlearning": {"objective": "npo", "interval": 2}, "forgetting_tasks": ["teeth"]},
            "noise": {"kind": "weight_noise", "learning_tasks": ["sums"]},
            "longer": {"kind": "extra_steps"},
            "bss": {"kind": "bss", "learning_tasks": ["legs"]},
            "taught": {"kind": "other_base", "prior": "other", "learning_tasks": ["sums"]},
        },
    }


def stale(before: Study, after: Study) -> set[str]:
    """Cells of both studies whose settings or inputs differ, or that are made from such a cell."""
    there = set(cells(before))
    moved: set[Cell] = set()
    for cell in cells(after):
        if cell not in there:
            moved.add(cell)
            continue
        own = settings_of(before, cell, hash_file) != settings_of(after, cell, hash_file)
        inputs = set(inputs_of(after, cell))
        if own or inputs != set(inputs_of(before, cell)) or inputs & moved:
            moved.add(cell)
    return {str(cell) for cell in moved if cell in there}


def edited(values: dict[str, Any], changes: dict[str, Any]) -> set[str]:
    return stale(changed(values, {}), changed(values, changes))


def trained(names: set[str]) -> set[str]:
    """Those of the cells that are a fine-tune."""
    return {name for name in names if name.split("[")[0].endswith("_checkpoint")}


def everywhere(*keys: str, learned: tuple[str, ...] = ("sums", "legs")) -> set[str]:
    return {f"{key}|{name}" for name in learned for key in keys}


def arms(keys: set[str]) -> set[str]:
    return {f"arm_checkpoint[{key}]" for key in keys}


def lwf(*forgotten: str) -> set[str]:
    return {f"lwf_checkpoint[{key}]" for key in everywhere(*forgotten)}


NOISE = arms(everywhere("noise.teeth", "noise.minds", learned=("sums",)))
NPO = arms(everywhere("npo.teeth"))
LOW = arms(everywhere("low.teeth", "low.minds"))
STEEP = arms(everywhere("steep.teeth", "steep.minds", learned=("sums",)))
LONGER = arms(everywhere("longer"))
TAUGHT = arms({"taught|sums"})
BSS = arms({"bss|legs"})
PLAIN_ARMS = LONGER | TAUGHT | BSS


def test_the_models_of_the_study(values: dict[str, Any]) -> None:
    every = {str(cell) for cell in cells(changed(values, {}))}
    assert {name for name in every if name.startswith("arm_")} == NOISE | NPO | LOW | STEEP | PLAIN_ARMS
    assert "control_base[other]" in every
    assert "control_base[old]" not in every  # no arm starts from it


def test_an_arms_override_moves_that_arm_alone(values: dict[str, Any]) -> None:
    assert edited(values, {"arms.npo.unlearning": {"objective": "npo", "interval": 3}}) == {
        *NPO,
        "evaluation[sums|npo.teeth]",
        "evaluation[legs|npo.teeth]",
        "eval_report[teeth|sums]",
        "eval_report[teeth|legs]",
        "leaderboard",
    }


def test_an_arm_that_is_probed_is_probed_again(values: dict[str, Any]) -> None:
    moved = edited(values, {"arms.low.confidence": {"end": "random"}})
    assert trained(moved) == LOW
    assert {name for name in moved if name.startswith("forgetting_probe")} == {
        f"forgetting_probe[{learned}|low.{name}]" for learned in ("sums", "legs") for name in TASKS
    }


def test_the_penalty_of_a_baseline(values: dict[str, Any]) -> None:
    reports = {"eval_report[teeth|legs]", "eval_report[minds|legs]", "leaderboard"}
    assert edited(values, {"arms.bss.weight": 0.5}) == {*BSS, "evaluation[legs|bss]", *reports}


def test_a_new_arm_trains_no_other_model(values: dict[str, Any]) -> None:
    new = {"kind": "lwf", "learning_tasks": ["legs"], "forgetting_tasks": ["minds"]}
    assert edited(values, {"arms.new": new}) == {"eval_report[minds|legs]", "leaderboard"}
    assert trained(edited(values, {"arms.new": {"kind": "other_base", "prior": "old"}})) == set()


def test_where_an_arm_is_trained_is_no_setting_of_its_models(values: dict[str, Any]) -> None:
    moved = edited(values, {"arms.npo.forgetting_tasks": None, "arms.bss.learning_tasks": None})
    assert moved == {
        *(f"eval_report[{key}]" for key in everywhere("minds")),  # npo forgets minds now
        "eval_report[teeth|sums]",  # bss learns sums now
        "leaderboard",
    }


def test_a_removed_arm_moves_the_reports_that_showed_it(values: dict[str, Any]) -> None:
    fewer = {name: arm for name, arm in values["arms"].items() if name != "npo"}
    reports = {"eval_report[teeth|sums]", "eval_report[teeth|legs]", "leaderboard"}
    assert edited(values, {"arms": fewer}) == reports


def test_alpha_moves_the_arms_that_inherit_it(values: dict[str, Any]) -> None:
    moved = edited(values, {"confidence.alpha": 0.25})
    assert trained(moved) == lwf(*TASKS) | NPO | LOW | NOISE  # noise is as large as LWF's update
    assert not any(name.startswith(("confidence_terms", "evaluation[sums|base", "reference")) for name in moved)


def test_the_selection_moves_the_arms_that_inherit_it(values: dict[str, Any]) -> None:
    assert trained(edited(values, {"confidence.selection_ratio": 0.25})) == lwf(*TASKS) | NPO | LOW | NOISE
    assert trained(edited(values, {"confidence.end": "random"})) == lwf(*TASKS) | NPO | STEEP | NOISE


def test_the_interval_moves_the_arms_that_inherit_it(values: dict[str, Any]) -> None:
    moved = trained(edited(values, {"unlearning.interval": 3}))
    assert moved == lwf(*TASKS) | LOW | STEEP | NOISE | LONGER  # one more step for each unlearning step
    assert trained(edited(values, {"unlearning.batch_size": 3})) == lwf(*TASKS) | LOW | STEEP | NOISE | NPO


def test_the_loss_reduction_moves_all_that_choose(values: dict[str, Any]) -> None:
    moved = trained(edited(values, {"confidence.loss_reduction": "sum"}))
    assert moved == lwf(*TASKS) | NPO | LOW | STEEP | NOISE


@pytest.mark.parametrize(
    ("key", "value", "kinds"),
    [
        ("evaluation.response_examples", 3, {"evaluation", "eval_report", "leaderboard"}),
        ("evaluation.neutral_text", "new.jsonl", {"utility_data", "evaluation", "eval_report", "leaderboard"}),
        (
            "evaluation.untouched_tasks",
            {"letters": {"preset": "letter_counting"}},
            {"utility_data", "evaluation", "eval_report", "leaderboard"},
        ),
        ("evaluation.primary_measure", "learning_auc", {"eval_report", "leaderboard"}),
        ("evaluation.learning_levels", [0.3], {"eval_report", "leaderboard"}),
        ("evaluation.least_seeds", 5, {"eval_report", "leaderboard"}),
        ("evaluation.known_conflicts", ["teeth"], {"eval_report", "leaderboard"}),
        ("evaluation.batch_size", 3, set()),
        ("probe.relearning_steps", 3, {"forgetting_probe", "eval_report", "leaderboard"}),
        ("probe.models", ["lwf"], {"eval_report", "leaderboard"}),
    ],
)
def test_how_models_are_measured_trains_none(
    key: str, value: Any, kinds: set[str], values: dict[str, Any], tmp_path: Path
) -> None:
    if key == "evaluation.neutral_text":
        value = tmp_path / value
        value.write_text(json.dumps({"id": "a", "text": "Trees."}))
    assert {name.split("[")[0] for name in edited(values, {key: value})} == kinds


def test_the_text_of_neutral_passages_counts_and_not_where_the_file_is(values: dict[str, Any], tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere.jsonl"
    copied.write_text(Path(values["evaluation"]["neutral_text"]).read_text())
    assert edited(values, {"evaluation.neutral_text": str(copied)}) == set()


def test_a_seed_more_moves_what_is_trained_and_what_follows(values: dict[str, Any]) -> None:
    moved = {name.split("[")[0] for name in edited(values, {"seeds": [0, 1]})}
    every = {spec.name for spec in specs_of(changed(values, {}))}
    data = {"learning_data", "test_data", "forgetting_prompts", "utility_data"}
    assert moved == every - data - {"base_model", "control_base", "self_generated_corpus"}
    base = {name for name in edited(values, {"seeds": [0, 1]}) if name.endswith("|base]")}
    assert base == set()


def test_the_knowledge_of_the_base_moves_all_but_the_control(values: dict[str, Any]) -> None:
    moved = edited(values, {"priors.old": taught(5)})
    study = changed(values, {})
    data = {"learning_data", "test_data", "forgetting_prompts", "utility_data", "control_base"}
    expected = {str(cell) for cell in cells(study) if cell.asset not in data}
    assert moved == expected - TAUGHT
    assert "evaluation[sums|taught]" in moved  # its distance from the base is another


def test_the_knowledge_of_the_control_moves_its_arm_alone(values: dict[str, Any]) -> None:
    assert edited(values, {"priors.other": taught(5)}) == {
        "control_base[other]",
        *TAUGHT,
        "evaluation[sums|taught]",
        "eval_report[teeth|sums]",
        "eval_report[minds|sums]",
        "leaderboard",
    }


def test_a_prior_of_which_nobody_asks_moves_nothing(values: dict[str, Any]) -> None:
    assert edited(values, {"priors.third": taught(7)}) == set()
    slow = {**taught(0), "training": {"max_steps": 2, "checkpoint_every": 1}}
    assert edited(values, {"priors.old": slow}) == set()


def test_what_a_taught_base_reads_of_the_model_section(values: dict[str, Any]) -> None:
    moved = edited(values, {"model.max_length": 100})
    assert {"base_model", "control_base[other]"} <= moved


def test_keys_of_partitions_are_written_in_the_order_of_their_dimensions() -> None:
    assert Partition("teeth", "sums").key == "teeth|sums"
    assert Partition(learning_task="sums", arm="npo.teeth").key == "npo.teeth|sums"
    assert Partition(learning_task="sums", model="lwf.teeth").key == "sums|lwf.teeth"
    assert Partition(prior="other").key == "other"
    assert Partition(learning_task="sums", model="lwf.teeth").folder == "sums+lwf.teeth"
    assert (Partition().key, Partition().folder) == (None, "unpartitioned")


def test_a_probe_looks_at_what_its_forgetting_task_chose(values: dict[str, Any]) -> None:
    study = changed(values, {"probe.models": ["reference", "low"]})

    def chosen(model: str) -> set[str]:
        cell = Cell("forgetting_probe", Partition(learning_task="sums", model=model))
        return {str(needed) for needed in inputs_of(study, cell)}

    assert chosen("low.teeth") == {"arm_checkpoint[low.teeth|sums]", "scored_forget_set[teeth|sums]"}
    assert chosen("reference") == {
        "reference_checkpoint[sums]",
        "scored_forget_set[teeth|sums]",
        "scored_forget_set[minds|sums]",
    }


def test_an_evaluation_looks_at_its_own_forgetting_task_or_at_all(values: dict[str, Any]) -> None:
    study = changed(values, {})

    def made_from(model: str) -> set[str]:
        cell = Cell("evaluation", Partition(learning_task="sums", model=model))
        return {str(needed) for needed in inputs_of(study, cell)}

    always = {"base_model", "test_data[sums]", "utility_data"}

    def samples(*names: str) -> set[str]:
        return {f"{asset}[{name}]" for asset in ("self_generated_corpus", "forgetting_prompts") for name in names}

    assert made_from("lwf.teeth") == {"lwf_checkpoint[teeth|sums]", *always, *samples("teeth")}
    assert made_from("npo.teeth") == {"arm_checkpoint[npo.teeth|sums]", *always, *samples("teeth")}
    assert made_from("taught") == {"arm_checkpoint[taught|sums]", *always, *samples(*TASKS)}
    assert made_from("reference") == {"reference_checkpoint[sums]", *always, *samples(*TASKS)}
    assert made_from("base") == {*always, *samples(*TASKS)}


def test_another_prompt_trains_nothing_outside_its_own_cells(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "teeth.jsonl"
    path.write_text('{"prompt": "gums?"}\n')
    moved = edited(values, {"forgetting_tasks.teeth.source.prompts": str(path)})
    own = {f"arm_checkpoint[{key}]" for name in ("low", "npo") for key in everywhere(f"{name}.teeth")}
    own |= {"arm_checkpoint[steep.teeth|sums]", "arm_checkpoint[noise.teeth|sums]"}
    assert trained(moved) == lwf("teeth") | own
    assert "evaluation[sums|lwf.minds]" not in moved
    assert "evaluation[sums|base]" in moved


def test_an_asset_of_which_there_is_no_cell_is_not_there(values: dict[str, Any]) -> None:
    bare = changed(values, {"arms": {}, "probe": None, "evaluation": {}})
    absent = {"arm_checkpoint", "control_base", "forgetting_probe", "utility_data"}
    assert not absent & {spec.name for spec in specs_of(bare)}
    assert absent <= {spec.name for spec in specs_of(changed(values, {}))}


def test_an_asset_stands_above_another_only_if_a_cell_is_made_from_it(values: dict[str, Any]) -> None:
    def above(study: Study) -> set[str]:
        (spec,) = [spec for spec in specs_of(study) if spec.name == "arm_checkpoint"]
        return set(upstream_of(study, spec))

    only = {"bss": {"kind": "bss"}}
    assert above(changed(values, {"arms": only, "probe": None})) == {"base_model", "learning_data"}
    assert above(changed(values, {})) == {
        "base_model",
        "control_base",
        "learning_data",
        "confidence_terms",
        "lwf_checkpoint",
    }
