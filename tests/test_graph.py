"""The asset graph: its order, what each cell is made from, and which assets each key of the study reaches."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lwf_assets.checks import CHECKS
from lwf_assets.graph import ASSET, ASSETS, Cell, asset_code_version, cells, checked_with, inputs_of, settings_of
from lwf_assets.partition import Partition
from lwf_assets.store import canonical_hash, hash_file
from lwf_assets.study import Study

EVERY_CONTEXT = {
    "self_generated_corpus",
    "reference_checkpoint",
    "fisher_diagonal",
    "lwf_checkpoint",
    "eval_report",
}
FINE_TUNES = {"reference_checkpoint", "lwf_checkpoint"}

REACH: dict[str, tuple[Any, set[str]]] = {
    # key: another value, and the assets whose recipe reads it
    "name": ("other", set()),
    "description": ("other", set()),
    "model.dtype": ("bfloat16", {"base_model"}),
    "model.max_length": (100, EVERY_CONTEXT),
    "model.truncate_prompts": (True, EVERY_CONTEXT),
    "mixed": (True, set()),
    "generation.max_new_tokens": (7, {"self_generated_corpus", "eval_report"}),
    "generation.temperature": (0.5, {"self_generated_corpus"}),
    "generation.top_p": (0.5, {"self_generated_corpus"}),
    "generation.samples_per_prompt": (2, {"self_generated_corpus"}),
    "generation.batch_size": (3, {"self_generated_corpus"}),  # it decides the draws
    "generation.seed": (5, {"self_generated_corpus"}),
    "training.max_steps": (9, FINE_TUNES),
    "training.epochs": (3.0, FINE_TUNES),
    "training.batch_size": (3, FINE_TUNES),
    "training.gradient_accumulation": (2, FINE_TUNES),
    "training.learning_rate": (0.5, FINE_TUNES | {"scored_forget_set"}),  # alpha follows it, unless given
    "training.schedule": ("constant", FINE_TUNES),
    "training.warmup_steps": (1, FINE_TUNES),
    "training.weight_decay": (0.1, FINE_TUNES),
    "training.max_gradient_norm": (2.0, FINE_TUNES),
    "training.autocast": ("off", FINE_TUNES),
    "training.log_every": (2, FINE_TUNES),
    "training.checkpoint_every": (3, set()),
    "reference.optimum": ("gradient_step", {"reference_checkpoint"}),
    "reference.steps": (2, {"reference_checkpoint"}),
    "fisher.samples": (3, {"fisher_diagonal"}),
    "fisher.loss_reduction": ("sum", {"fisher_diagonal"}),
    "fisher.seed": (5, {"fisher_diagonal"}),
    "confidence.alpha": (0.7, {"scored_forget_set"}),
    "confidence.loss_reduction": ("sum", {"confidence_terms"}),
    "model.token_budget": (300, set()),
    "confidence.selection_ratio": (0.9, {"scored_forget_set"}),
    "confidence.selection_count": (2, {"scored_forget_set"}),
    "confidence.end": ("low", {"scored_forget_set"}),
    "confidence.seed": (5, set()),  # until the end is random
    "unlearning.interval": (3, {"lwf_checkpoint"}),
    "unlearning.forgetting_rate": (0.5, {"lwf_checkpoint"}),
    "unlearning.optimizer": ("sgd", {"lwf_checkpoint"}),
    "unlearning.per_sample_cap": (9.0, {"lwf_checkpoint"}),
    "unlearning.batch_size": (3, {"lwf_checkpoint"}),
    "unlearning.max_gradient_norm": (2.0, {"lwf_checkpoint"}),
    "unlearning.timing": ("upfront", {"lwf_checkpoint"}),
    "evaluation.batch_size": (3, set()),
    "evaluation.response_examples": (3, {"eval_report"}),
    "seeds": ([4], FINE_TUNES),
}
EXCLUSIVE = {  # keys that only go together with another one
    "training.epochs": {"training.max_steps": None},
    "reference.steps": {"reference.optimum": "steps"},
    "confidence.selection_count": {"confidence.selection_ratio": None},
}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A study with two learning and three forgetting tasks, one name among both."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    for subject in ("teeth", "minds"):
        (folder / f"{subject}.jsonl").write_text(f'{{"prompt": "{subject}?"}}\n')
    return {
        "name": "graph",
        "model": {"source": {"kind": "directory", "path": str(folder / "model")}},
        "learning_tasks": {"sums": {"preset": "chain_sum"}, "legs": {"preset": "leg_counting"}},
        "forgetting_tasks": {
            "teeth": {"source": {"kind": "file", "prompts": str(folder / "teeth.jsonl")}},
            "minds": {"source": {"kind": "file", "prompts": str(folder / "minds.jsonl")}},
            "legs": {"preset": "leg_counting"},
        },
        "training": {"max_steps": 6},
    }


def changed(values: dict[str, Any], changes: dict[str, Any]) -> Study:
    values = copy.deepcopy(values)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    return Study.model_validate(values)


def recipes(study: Study) -> dict[Cell, str]:
    return {cell: canonical_hash(settings_of(study, cell, hash_file)) for cell in cells(study)}


def assets_reached(before: Study, after: Study) -> set[str]:
    old, new = recipes(before), recipes(after)
    return {cell.asset for cell in old if cell in new and old[cell] != new[cell]}


def leaf_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaf_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_table_has_every_key_of_the_study() -> None:
    elsewhere = {"model.source", "learning_tasks", "forgetting_tasks"}  # see the tests of their own
    assert set(REACH) | elsewhere == set(leaf_keys(Study))


@pytest.mark.parametrize("key", REACH)
def test_a_key_reaches_the_assets_that_read_it_and_no_other(key: str, values: dict[str, Any]) -> None:
    value, expected = REACH[key]
    base = changed(values, {})
    after = changed(values, {**EXCLUSIVE.get(key, {}), key: value})
    if key == "reference.steps":
        base = changed(values, {"reference.optimum": "steps", "reference.steps": 1})
    assert after != base
    assert assets_reached(base, after) == expected


@pytest.mark.parametrize("key", REACH)
def test_dagsters_code_version_follows_the_same_keys(key: str, values: dict[str, Any]) -> None:
    value, expected = REACH[key]
    base = changed(values, {})
    after = changed(values, {**EXCLUSIVE.get(key, {}), key: value})
    moved = {spec.name for spec in ASSETS if asset_code_version(base, spec) != asset_code_version(after, spec)}
    assert moved == expected


def test_alpha_that_is_given_does_not_follow_the_learning_rate(values: dict[str, Any]) -> None:
    base = changed(values, {"confidence.alpha": 0.1})
    assert assets_reached(base, changed(values, {"confidence.alpha": 0.1, "training.learning_rate": 0.5})) == FINE_TUNES
    # What counts is the value and not where it stands.
    same = changed(values, {"confidence.alpha": base.training.learning_rate})
    assert assets_reached(changed(values, {}), same) == set()


def test_the_seed_of_the_selection_counts_once_the_selection_is_random(values: dict[str, Any]) -> None:
    base = changed(values, {"confidence.end": "random"})
    after = changed(values, {"confidence.end": "random", "confidence.seed": 5})
    assert assets_reached(base, after) == {"scored_forget_set"}


def test_only_the_contents_of_a_model_directory_count(values: dict[str, Any], tmp_path: Path) -> None:
    def study(name: str, files: dict[str, bytes]) -> Study:
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return changed(values, {"model.source": {"kind": "directory", "path": str(folder)}})

    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    base = study("a", files)
    assert assets_reached(base, study("b", files)) == set()
    assert assets_reached(base, study("hidden", {**files, ".cache": b"x"})) == set()
    assert assets_reached(base, study("c", {**files, "model.safetensors": b"weightS"})) == {"base_model"}
    assert assets_reached(base, study("d", {**files, "tokenizer.json": b"{}"})) == {"base_model"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_tasks.sums.rows", {"train": 9}, {"learning_data[sums]"}),
        ("learning_tasks.sums.rows", {"test": 9}, {"test_data[sums]"}),
        ("learning_tasks.sums.max_new_tokens", 3, {"eval_report[*|sums]"}),
        ("learning_tasks.sums.stop", ["."], {"test_data[sums]", "eval_report[*|sums]"}),
        ("forgetting_tasks.teeth.prompt", "{prompt}!", {"forgetting_prompts[teeth]", "forgetting_prompts[mixed]"}),
        ("forgetting_tasks.teeth.max_new_tokens", 3, set()),
        ("forgetting_tasks.teeth.rows", {"test": 3}, set()),
    ],
)
def test_a_key_of_a_task_reaches_the_partitions_of_that_task(
    key: str, value: Any, expected: set[str], values: dict[str, Any]
) -> None:
    base = recipes(changed(values, {"mixed": True}))
    after = recipes(changed(values, {"mixed": True, key: value}))
    moved = {re.sub(r"\[\w+\|", "[*|", str(cell)) for cell in base if base[cell] != after[cell]}
    assert moved == expected


def test_a_new_task_leaves_every_other_cell_and_code_version_as_it_is(values: dict[str, Any]) -> None:
    base = changed(values, {})
    after = changed(
        values,
        {"learning_tasks.letters": {"preset": "letter_counting"}, "forgetting_tasks.family": {"preset": "syllogism"}},
    )
    old, new = recipes(base), recipes(after)
    assert {cell: new[cell] for cell in old} == old
    assert [asset_code_version(base, spec) for spec in ASSETS] == [asset_code_version(after, spec) for spec in ASSETS]


def test_a_raised_code_constant_changes_the_code_version(values: dict[str, Any]) -> None:
    study, spec = changed(values, {}), ASSET["lwf_checkpoint"]
    raised = dataclasses.replace(spec, code_version=f"{spec.code_version}+1")
    assert asset_code_version(study, raised) != asset_code_version(study, spec)


NAMES = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=4, unique=True)


@given(learning=NAMES, forgetting=NAMES, mixed=st.booleans())
def test_cells_come_after_all_that_they_are_made_from(learning: list[str], forgetting: list[str], mixed: bool) -> None:
    if not mixed and {*learning} == {*forgetting} and len(learning) == 1:
        return  # nothing to forget but the learning task itself, which a study refuses
    body = {"preset": "chain_sum"}
    study = Study.model_validate(
        {
            "name": "any",
            "model": {"source": {"kind": "hub", "id": "a/b", "revision": "c"}},
            "learning_tasks": dict.fromkeys(learning, body),
            "forgetting_tasks": dict.fromkeys(forgetting, body),
            "mixed": mixed,
            "training": {"max_steps": 1},
        }
    )
    order = cells(study)
    assert len(set(order)) == len(order)
    place = {cell: index for index, cell in enumerate(order)}
    for cell in order:
        for needed in (*inputs_of(study, cell), *checked_with(study, cell)):
            assert place[needed] < place[cell]
        assert len(set(inputs_of(study, cell))) == len(inputs_of(study, cell))
        both = cell.partition.learning_task, cell.partition.forgetting_task
        assert both[0] is None or both[0] != both[1]
    pairs = {(f, learned) for f in study.forgetting_names for learned in learning if f != learned}
    reports = {c.partition for c in order if c.asset == "eval_report"}
    assert {(p.forgetting_task, p.learning_task) for p in reports} == pairs
    assert {c.partition for c in inputs_of(study, Cell("leaderboard", Partition()))} == reports


def test_a_cell_is_made_from_its_own_tasks(values: dict[str, Any]) -> None:
    study = changed(values, {})
    made_from = {str(cell) for cell in inputs_of(study, Cell("lwf_checkpoint", Partition("teeth", "legs")))}
    assert made_from == {"base_model", "learning_data[legs]", "scored_forget_set[teeth|legs]"}
    assert [str(c) for c in checked_with(study, Cell("test_data", Partition(None, "legs")))] == ["learning_data[legs]"]


def test_a_task_is_never_forgotten_while_it_is_learned(values: dict[str, Any]) -> None:
    keys = [c.partition.key for c in cells(changed(values, {"mixed": True})) if c.asset == "eval_report"]
    assert keys == [
        "teeth|sums",
        "minds|sums",
        "legs|sums",
        "mixed|sums",
        "teeth|legs",
        "minds|legs",
        "mixed|legs",
    ]


def test_checks_look_only_at_assets_of_the_graph() -> None:
    assert {check.asset for check in CHECKS} <= set(ASSET)
    assert len({check.name for check in CHECKS}) == len(CHECKS)
