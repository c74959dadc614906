"""The asset graph: its order, what each cell is made from, and which assets each key of the study reaches."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from study_changes import changed

from lwf_assets.building.checks import CHECKS
from lwf_assets.disk.hashes import canonical_hash, hash_file
from lwf_assets.graph.cells import Cell, asset_code_version, cells, checked_with, inputs_of, settings_of
from lwf_assets.graph.table import ASSET, ASSETS
from lwf_assets.store.partition import Partition
from lwf_assets.study.study import Study

FINE_TUNES = {"reference_checkpoint", "lwf_checkpoint", "arm_checkpoint"}
EVALUATIONS = {"evaluation", "forgetting_probe"}
EVERY_CONTEXT = {"self_generated_corpus", "fisher_diagonal", *FINE_TUNES, *EVALUATIONS}
TAUGHT = {"base_model", "control_base"}
FORGETTING = {"lwf_checkpoint", "arm_checkpoint"}
SELECTION = {"scored_forget_set", "arm_checkpoint"}

REACH: dict[str, tuple[Any, set[str]]] = {
    # key: another value, and the assets whose recipe reads it
    "name": ("other", {"eval_report"}),
    "description": ("other", set()),
    "model.dtype": ("bfloat16", TAUGHT),
    "model.max_length": (100, EVERY_CONTEXT | {"control_base"}),  # a base that is taught reads rows too
    "model.truncate_prompts": (True, EVERY_CONTEXT | {"control_base"}),
    "model.adapter": ({"kind": "lora"}, FINE_TUNES | {"fisher_diagonal", "confidence_terms"}),
    "model.token_budget": (300, set()),
    "model.tf32": (True, EVERY_CONTEXT | {"control_base", "confidence_terms"}),
    "model.prior": ("less", {"base_model"}),
    "mixed": (True, set()),
    "generation.engine": ("vllm", {"self_generated_corpus"}),
    "generation.max_new_tokens": (7, {"self_generated_corpus", "evaluation"}),
    "generation.temperature": (0.5, {"self_generated_corpus"}),
    "generation.top_p": (0.5, {"self_generated_corpus"}),
    "generation.samples_per_prompt": (2, {"self_generated_corpus"}),
    "generation.batch_size": (3, set()),
    "generation.seed": (5, {"self_generated_corpus"}),
    "training.max_steps": (9, FINE_TUNES),
    "training.epochs": (3.0, FINE_TUNES),
    "training.batch_size": (3, FINE_TUNES),
    "training.gradient_accumulation": (2, FINE_TUNES),
    # alpha follows it, unless given
    "training.learning_rate": (0.5, FINE_TUNES | {"scored_forget_set", "eval_report"}),
    "training.schedule": ("constant", FINE_TUNES),
    "training.warmup_steps": (1, FINE_TUNES),
    "training.weight_decay": (0.1, FINE_TUNES),
    "training.max_gradient_norm": (2.0, FINE_TUNES),
    "training.autocast": ("off", FINE_TUNES),
    "training.log_every": (2, FINE_TUNES),
    "training.validate_every": (2, FINE_TUNES),
    "training.checkpoint_every": (3, set()),
    "reference.optimum": ("gradient_step", {"reference_checkpoint"}),
    "reference.steps": (2, {"reference_checkpoint"}),
    "fisher.samples": (3, {"fisher_diagonal"}),
    "fisher.loss_reduction": ("sum", {"fisher_diagonal"}),
    "fisher.seed": (5, {"fisher_diagonal"}),
    "confidence.alpha": (0.7, SELECTION | {"eval_report"}),
    "confidence.loss_reduction": ("sum", {"confidence_terms"}),
    "confidence.precision": ("bfloat16", {"confidence_terms"}),
    "confidence.selection_ratio": (0.9, SELECTION),
    "confidence.selection_count": (2, SELECTION),
    "confidence.end": ("low", SELECTION),
    "confidence.seed": (5, set()),  # until the end is random
    "unlearning.objective": ("npo", FORGETTING),
    "unlearning.beta": (0.3, FORGETTING),
    "unlearning.gamma": (0.3, FORGETTING),
    "unlearning.retain": ({"kind": "kl"}, FORGETTING),
    "unlearning.interval": (3, FORGETTING),
    "unlearning.forgetting_rate": (0.5, FORGETTING),
    "unlearning.optimizer": ("sgd", FORGETTING),
    "unlearning.per_sample_cap": (9.0, FORGETTING),
    "unlearning.batch_size": (3, FORGETTING),
    "unlearning.max_gradient_norm": (2.0, FORGETTING),
    "unlearning.timing": ("upfront", FORGETTING),
    "evaluation.batch_size": (3, set()),
    "evaluation.response_examples": (3, {"evaluation"}),
    "evaluation.primary_measure": ("target_nll", {"eval_report"}),
    "evaluation.learning_levels": ([0.2], {"eval_report"}),
    "evaluation.least_seeds": (4, {"eval_report"}),
    "evaluation.known_conflicts": (["minds"], {"eval_report"}),
    "probe.models": (["lwf"], set()),  # which are probed, and not what is found
    "probe.relearning_steps": (3, {"forgetting_probe"}),
    "probe.relearning_rate": (0.1, {"forgetting_probe"}),
    "probe.relearning_batch_size": (3, {"forgetting_probe"}),
    "probe.quantization": ([8], {"forgetting_probe"}),
    "probe.prompt_forms": (["{prompt}!"], {"forgetting_probe"}),
    "seeds": ([4], FINE_TUNES),
    "promotion": ({"margin": 0.1, "bounds": {"accuracy": 0.1}}, set()),
    "compute.processes": (2, set()),
    "compute.strategy": ("fsdp", set()),
    "automation.cron": ("0 3 * * 1", set()),
    "automation.timezone": ("Europe/Berlin", set()),
    "automation.watch_data": (True, set()),
}
OWN_TO_PARTITIONS = {
    key
    for key, (_, reached) in REACH.items()
    if key.startswith(("model.", "unlearning.")) or (key.startswith("confidence.") and reached)
}
EXCLUSIVE: dict[str, dict[str, Any]] = {  # keys that only go together with another one
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
        "priors": {name: prior(seed) for seed, name in enumerate(("more", "less"))},
        "arms": {"low": {"kind": "lwf"}, "taught": {"kind": "other_base", "prior": "more"}},
        "probe": {},
    }


def prior(seed: int) -> dict[str, Any]:
    """Some sums that a base is taught."""
    return {"tasks": {"old": {"preset": "chain_sum", "source": {"seed": seed}}}, "training": {"max_steps": 2}}


def recipes(study: Study) -> dict[Cell, str]:
    return {cell: canonical_hash(settings_of(study, cell, hash_file)) for cell in cells(study)}


def assets_reached(before: Study, after: Study) -> set[str]:
    old, new = recipes(before), recipes(after)
    return {cell.asset for cell in old if cell in new and old[cell] != new[cell]}


def leaf_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        if name == "probe":  # the one section that a study may be without
            kind, _ = typing.get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaf_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_table_has_every_key_of_the_study() -> None:
    # See the tests of their own, here, in test_arms_graph.py and in tests/whole/test_chat_study.py.
    data = {"learning_tasks", "forgetting_tasks", "evaluation.untouched_tasks", "evaluation.neutral_text"}
    elsewhere = {"model.source", "model.chat_template", "priors", "arms", "confidence.space", *data}
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
    own = {spec.name for spec in ASSETS if spec.name in expected - moved}
    assert moved <= expected
    # What the partitions of an asset do not share is theirs: what a base is taught, what an arm inherits.
    assert own <= ({*TAUGHT, "arm_checkpoint"} if key in OWN_TO_PARTITIONS else set())


def test_the_space_of_confidence_counts_where_there_are_adapters(values: dict[str, Any]) -> None:
    base = changed(values, {"model.adapter": {"kind": "lora"}})
    same = changed(values, {"model.adapter": {"kind": "lora"}, "confidence.space": "weights"})
    other = changed(values, {"model.adapter": {"kind": "lora"}, "confidence.space": "adapter"})
    assert assets_reached(base, same) == set()
    assert assets_reached(base, other) == {"fisher_diagonal", "confidence_terms"}


def test_a_checkpoint_of_adapters_is_read_with_the_base_that_it_was_trained_on(values: dict[str, Any]) -> None:
    adapted = {"model.adapter": {"kind": "lora"}, "probe.models": ["lwf", "taught"]}
    plain, study = changed(values, {"probe.models": ["lwf", "taught"]}), changed(values, adapted)

    def added(asset: str, **partition: str) -> set[str]:
        cell = Cell(asset, Partition(learning_task="sums", **partition))
        return {str(new) for new in set(inputs_of(study, cell)) - set(inputs_of(plain, cell))}

    assert added("fisher_diagonal") == {"base_model"}
    assert added("evaluation", model="lwf.teeth") == set()  # reads it anyway, to measure distances from
    assert added("evaluation", model="taught") == {"control_base[more]"}
    assert added("forgetting_probe", model="lwf.teeth") == {"base_model"}
    assert added("forgetting_probe", model="taught") == {"control_base[more]"}


def test_alpha_that_is_given_does_not_follow_the_learning_rate(values: dict[str, Any]) -> None:
    base = changed(values, {"confidence.alpha": 0.1})
    after = changed(values, {"confidence.alpha": 0.1, "training.learning_rate": 0.5})
    assert assets_reached(base, after) == FINE_TUNES
    # What counts is the value and not where it stands.
    same = changed(values, {"confidence.alpha": base.training.learning_rate})
    assert assets_reached(changed(values, {}), same) == set()


def test_the_seed_of_the_selection_counts_once_the_selection_is_random(values: dict[str, Any]) -> None:
    base = changed(values, {"confidence.end": "random"})
    after = changed(values, {"confidence.end": "random", "confidence.seed": 5})
    assert assets_reached(base, after) == SELECTION


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
    assert assets_reached(base, study("c", {**files, "model.safetensors": b"weightS"})) == TAUGHT
    assert assets_reached(base, study("d", {**files, "tokenizer.json": b"{}"})) == TAUGHT


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_tasks.sums.rows", {"train": 9}, {"learning_data[sums]"}),
        ("learning_tasks.sums.rows", {"test": 9}, {"test_data[sums]"}),
        ("learning_tasks.sums.max_new_tokens", 3, {"evaluation[sums|*]"}),
        ("learning_tasks.sums.stop", ["."], {"test_data[sums]", "evaluation[sums|*]"}),
        ("forgetting_tasks.teeth.prompt", "{prompt}!", {"forgetting_prompts[teeth]", "forgetting_prompts[mixed]"}),
        ("forgetting_tasks.teeth.max_new_tokens", 3, set()),
        ("forgetting_tasks.teeth.rows", {"test": 3}, set()),
        # What is forgotten is a test of its own too, where its source has one.
        ("forgetting_tasks.legs.rows", {"test": 3}, {"utility_data"}),
        ("forgetting_tasks.legs.max_new_tokens", 3, {"evaluation[sums|*]", "evaluation[legs|*]"}),
    ],
)
def test_a_key_of_a_task_reaches_the_partitions_of_that_task(
    key: str, value: Any, expected: set[str], values: dict[str, Any]
) -> None:
    base = recipes(changed(values, {"mixed": True}))
    after = recipes(changed(values, {"mixed": True, key: value}))
    moved = {re.sub(r"\|[\w.]+]", "|*]", str(cell)) for cell in base if base[cell] != after[cell]}
    assert moved == expected


def test_a_new_task_leaves_every_other_cell_and_code_version_as_it_is(values: dict[str, Any]) -> None:
    base = changed(values, {})
    prompts = values["forgetting_tasks"]["teeth"]
    after = changed(
        values, {"learning_tasks.letters": {"preset": "letter_counting"}, "forgetting_tasks.family": prompts}
    )
    old, new = recipes(base), recipes(after)
    assert {cell: new[cell] for cell in old} == old
    assert [asset_code_version(base, spec) for spec in ASSETS] == [asset_code_version(after, spec) for spec in ASSETS]


def test_a_new_forgetting_task_with_a_test_of_its_own_is_what_every_model_is_measured_on(
    values: dict[str, Any],
) -> None:
    base, after = changed(values, {}), changed(values, {"forgetting_tasks.family": {"preset": "syllogism"}})
    assert assets_reached(base, after) == {"utility_data", "evaluation"}


def test_a_raised_code_constant_changes_the_code_version(values: dict[str, Any]) -> None:
    study, spec = changed(values, {}), ASSET["lwf_checkpoint"]
    raised = dataclasses.replace(spec, code_version=f"{spec.code_version}+1")
    assert asset_code_version(study, raised) != asset_code_version(study, spec)


NAMES = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=4, unique=True)


@st.composite
def studies(draw: st.DrawFn) -> Study | None:
    """Any study with any arms; None where there is nothing to forget but the learning task, which a study refuses."""
    learning, forgetting, mixed = draw(NAMES), draw(NAMES), draw(st.booleans())
    if not mixed and {*learning} == {*forgetting} and len(learning) == 1:
        return None
    body = {"preset": "chain_sum"}
    learned = st.none() | st.lists(st.sampled_from(learning), max_size=2, unique=True)
    forgotten = st.none() | st.lists(st.sampled_from([*forgetting, *["mixed"] * mixed]), max_size=2, unique=True)
    forgets = {"forgetting_tasks": forgotten, "learning_tasks": learned}
    arm = st.one_of(
        st.fixed_dictionaries({"kind": st.sampled_from(["lwf", "random_tokens", "weight_noise"]), **forgets}),
        st.fixed_dictionaries(
            {"kind": st.sampled_from(["bss", "l2_sp", "extra_steps", "weight_decay"]), "learning_tasks": learned}
        ),
        st.fixed_dictionaries(
            {"kind": st.just("other_base"), "prior": st.sampled_from(["x", "y"]), "learning_tasks": learned}
        ),
    )
    arms = draw(st.dictionaries(st.sampled_from(["p", "q", "r"]), arm))
    probed = st.lists(st.sampled_from(["reference", "lwf", *arms]), min_size=1, unique=True)
    return Study.model_validate(
        {
            "name": "any",
            "model": {"source": {"kind": "hub", "id": "a/b", "revision": "c"}},
            "priors": {name: {"tasks": {"old": body}, "training": {"max_steps": 1}} for name in ("x", "y")},
            "learning_tasks": dict.fromkeys(learning, body),
            "forgetting_tasks": dict.fromkeys(forgetting, body),
            "mixed": mixed,
            "training": {"max_steps": 1},
            "arms": arms,
            "probe": draw(st.none() | st.fixed_dictionaries({"models": probed})),
        }
    )


@settings(max_examples=40)
@given(studies())
def test_cells_come_after_all_that_they_are_made_from(study: Study | None) -> None:
    if study is None:
        return
    order = cells(study)
    assert len(set(order)) == len(order)
    place = {cell: index for index, cell in enumerate(order)}
    for cell in order:
        needed = inputs_of(study, cell)
        assert len(set(needed)) == len(needed)
        for other in (*needed, *checked_with(study, cell)):
            assert place[other] < place[cell]
        names = [name for name, value in dataclasses.asdict(cell.partition).items() if value is not None]
        assert names == sorted(cell.spec.dimensions, key=list(dataclasses.asdict(cell.partition)).index)
        both = cell.partition.learning_task, cell.partition.forgetting_task
        assert both[0] is None or both[0] != both[1]
    pairs = {(f, learned) for f in study.forgetting_names for learned in study.learning_names if f != learned}
    reports = {c.partition for c in order if c.asset == "eval_report"}
    assert {(p.forgetting_task, p.learning_task) for p in reports} == pairs
    assert {c.partition for c in inputs_of(study, Cell("leaderboard", Partition()))} == reports


@settings(max_examples=40)
@given(studies())
def test_every_model_is_trained_evaluated_and_reported_where_its_arm_says(study: Study | None) -> None:
    if study is None:
        return
    for learned in study.learning_names:
        forgotten = [name for name in study.forgetting_names if name != learned]
        expected = {"base", "reference", *(f"lwf.{name}" for name in forgotten)}
        for name, arm in study.arms.items():
            if arm.learning_tasks is not None and learned not in arm.learning_tasks:
                continue
            wanted = getattr(arm, "forgetting_tasks", None)
            if arm.kind in ("lwf", "random_tokens", "weight_noise"):
                expected |= {f"{name}.{task}" for task in forgotten if wanted is None or task in wanted}
            else:
                expected.add(name)
        evaluated = {c.partition.model for c in cells(study) if is_of(c, "evaluation", learned)}
        assert evaluated == expected
        trained = {c.partition.arm for c in cells(study) if is_of(c, "arm_checkpoint", learned)}
        assert trained == {key for key in expected if key.split(".")[0] in study.arms}
        probed = {c.partition.model for c in cells(study) if is_of(c, "forgetting_probe", learned)}
        wanted_probes = study.probe.models if study.probe else ()
        assert probed == {key for key in expected if key.split(".")[0] in wanted_probes}
        for task in forgotten:
            shown = {
                (c.asset, c.partition.model)
                for c in inputs_of(study, Cell("eval_report", Partition(task, learned)))
                if c.partition.model is not None
            }
            here = {key for key in expected if "." not in key or key.endswith(f".{task}")}
            assert shown == {("evaluation", key) for key in here} | {("forgetting_probe", key) for key in here & probed}


def is_of(cell: Cell, asset: str, learned: str) -> bool:
    return cell.asset == asset and cell.partition.learning_task == learned


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
