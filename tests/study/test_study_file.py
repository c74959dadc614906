"""The study file: what it may say, what it inherits, and one message that names the key for every mistake."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from study_texts import KINDS, REMOVED, VALUES, message, study_with, write

from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study
from lwf_assets.tasks.settings import FileSource, GeneratorSource

STUDIES = ROOT / "studies"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lerning_tasks", {}, "`lerning_tasks`: unknown key; did you mean `learning_tasks`?"),
        ("training.learning_rat", 0.1, "`training.learning_rat`: unknown key; did you mean `learning_rate`?"),
        (
            "learning_tasks.sums.promt",
            "{question}",
            "`learning_tasks.sums.promt`: unknown key; did you mean `prompt`?",
        ),
        ("learning_tasks.sums.rows", {"tran": 3}, "`learning_tasks.sums.rows.tran`: unknown key; did you mean `train`"),
        ("model.source.pth", "m", "`model.source.pth`: unknown key; did you mean `path`?"),
        (
            "forgetting_tasks.teeth.source",
            {"kind": "file", "file": "x", "promts": "y", "train": "z"},
            "`forgetting_tasks.teeth.source.promts`: unknown key; did you mean `prompts`?",
        ),
        (
            "learning_tasks.sums.source",  # its kind comes from the preset
            {"parametres": {}},
            "`learning_tasks.sums.source.parametres`: unknown key; did you mean `parameters`?",
        ),
        (
            "forgetting_tasks.teeth.source",
            {"kind": "hub", "id": "a/b", "revision": "c", "splits": {"trian": "x"}},
            "`forgetting_tasks.teeth.source.splits.trian`: unknown key; did you mean `train`?",
        ),
        ("evaluation.xyzzy", 1, "`evaluation.xyzzy`: unknown key; known here: batch_size, response_examples"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    key: str, value: Any, expected: str, tmp_path: Path
) -> None:
    assert expected in message(study_with(tmp_path, key, value))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.learning_rate", 0, "`training.learning_rate`: must be greater than 0, got 0"),
        ("training.learning_rate", 1, "`training.learning_rate`: must be less than 1, got 1"),
        ("training.learning_rate", float("nan"), "`training.learning_rate`: must be a finite number, got nan"),
        ("training.max_steps", 0, "`training.max_steps`: must be greater than 0"),
        ("training.weight_decay", -0.1, "`training.weight_decay`: must be greater than or equal to 0"),
        ("generation.top_p", 1.01, "`generation.top_p`: must be less than or equal to 1, got 1.01"),
        ("confidence.selection_ratio", 0.0, "`confidence.selection_ratio`: must be greater than 0, got 0.0"),
        ("confidence.alpha", float("inf"), "`confidence.alpha`: must be a finite number, got inf"),
        ("unlearning.interval", 0, "`unlearning.interval`: must be greater than 0, got 0"),
        ("fisher.seed", -1, "`fisher.seed`: must be greater than or equal to 0, got -1"),
        ("seeds", [], "`seeds`: must not be empty"),
        ("seeds", [0, -1], "`seeds.1`: must be greater than or equal to 0, got -1"),
        ("seeds", [3, 3], "`seeds`: must be unique"),
        ("learning_tasks.sums.rows", {"train": 0}, "`learning_tasks.sums.rows.train`: must be greater than or equal"),
        ("forgetting_tasks.teeth.source.seed", -2, "`forgetting_tasks.teeth.source.seed`: must be greater than or"),
        ("learning_tasks", {}, "`learning_tasks`: must not be empty"),
        (
            "learning_tasks",
            {"two words": {"preset": "chain_sum"}},
            "`learning_tasks.two words`: the name must begin with a letter or digit",
        ),
        ("name", "../up", "`name`: must begin with a letter or digit"),
    ],
)
def test_a_value_out_of_range(key: str, value: Any, expected: str, tmp_path: Path) -> None:
    assert expected in message(study_with(tmp_path, key, value))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.max_steps", 1.5, "`training.max_steps`: must be a whole number, got 1.5"),
        ("training.max_steps", "six", "`training.max_steps`: must be a whole number, got 'six'"),
        ("training.learning_rate", "low", "`training.learning_rate`: must be a number, got 'low'"),
        ("training", [1], "`training`: must be a mapping of keys, got [1]"),
        ("training", None, "`training`: must be a mapping of keys, but it is empty"),
        ("model", "gpt2", "`model`: must be a mapping of keys, got 'gpt2'"),
        ("model.source", "gpt2", "`model.source`: must be a mapping of keys, got 'gpt2'"),
        ("model.source.path", 3, "`model.source.path`: must be a path, got 3"),
        ("model.dtype", "float16", "`model.dtype`: must be 'float32' or 'bfloat16', got 'float16'"),
        ("model.adapter", {"rank": 4}, "`model.adapter.kind`: missing; it must be given"),
        ("model.adapter", {"kind": "dora"}, "`model.adapter.kind`: must be 'lora', got 'dora'"),
        ("model.adapter", {"kind": "lora", "rank": 0}, "`model.adapter.rank`: must be greater than 0, got 0"),
        ("model.adapter", {"kind": "lora", "targets": []}, "`model.adapter.targets`: must"),
        (
            "model.adapter",
            {"kind": "lora", "targets": "q_proj"},
            "`model.adapter.targets`: must be 'all-linear' or must",
        ),
        ("model.adapter", {"kind": "lora", "dropout": 1}, "`model.adapter.dropout`: must be less than 1, got 1"),
        ("confidence.space", "weights", "`confidence.space`: goes with model.adapter, and only with it"),
        ("confidence.space", "full", "`confidence.space`: must be 'weights' or 'adapter', got 'full'"),
        ("mixed", "perhaps", "`mixed`: must be true or false, got 'perhaps'"),
        ("seeds", 3, "`seeds`: must be a list, got 3"),
        ("name", 3, "`name`: must be text, got 3"),
        ("learning_tasks", ["sums"], "`learning_tasks`: must be a mapping of keys, got ['sums']"),
        ("learning_tasks.sums", 3, "`learning_tasks.sums`: must be a mapping of keys, got 3"),
        ("learning_tasks.sums.stop", ["a", 3], "`learning_tasks.sums.stop.1`: must be text, got 3"),
        (
            "forgetting_tasks.teeth.source",
            {"kind": "hub", "id": "a/b", "revision": "c", "config": 3},
            "`forgetting_tasks.teeth.source.config`: must be text or must be a list, got 3",
        ),
    ],
)
def test_a_value_of_the_wrong_type(key: str, value: Any, expected: str, tmp_path: Path) -> None:
    assert expected in message(study_with(tmp_path, key, value))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training", {"max_steps": 3, "epochs": 1}, "`training`: give exactly one of max_steps and epochs"),
        ("training", {"learning_rate": 0.1}, "`training`: give exactly one of max_steps and epochs"),
        ("training", REMOVED, "`training`: missing; it must be given"),
        ("learning_tasks", REMOVED, "`learning_tasks`: missing; it must be given"),
        (
            "confidence",
            {"selection_ratio": 0.5, "selection_count": 3},
            "`confidence`: give selection_ratio or selection_count, not both",
        ),
        ("reference", {"optimum": "steps"}, "`reference`: steps goes with `optimum: steps`"),
        ("reference", {"steps": 3}, "`reference`: steps goes with `optimum: steps`"),
        ("model.source", {}, "`model.source.kind`: missing; give one of hub, directory, gguf_package"),
        ("model.source", {"kind": "directry"}, "`model.source.kind`: unknown kind 'directry'; did you mean `dir"),
        ("model.source", {"kind": "hub", "id": "a/b"}, "`model.source.revision`: missing; it must be given"),
        (
            "forgetting_tasks.teeth.source",
            {"kind": "hub", "id": "a/b"},
            "`forgetting_tasks.teeth.source.revision`: missing; give the commit of 'a/b'",
        ),
        ("learning_tasks.sums.preset", "chain_sm", "`learning_tasks.sums.preset`: unknown preset 'chain_sm'; did"),
        ("learning_tasks.sums.prompt", "fixed", "`learning_tasks.sums.prompt`: the template shows no column"),
        ("forgetting_tasks", {"sums": None}, "`forgetting_tasks`: name a task that is not the learning task itself"),
        ("forgetting_tasks.mixed", {"preset": "chain_sum"}, "`forgetting_tasks.mixed`: no task may have this name"),
        ("forgetting_tasks.mixed", None, "write `mixed: true` to forget all tasks together"),
        ("learning_tasks.mixed", {"preset": "chain_sum"}, "`learning_tasks.mixed`: no task may have this name"),
    ],
)
def test_keys_that_do_not_go_together(key: str, value: Any, expected: str, tmp_path: Path) -> None:
    assert expected in message(study_with(tmp_path, key, value))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    values = {**VALUES, "colour": "red", "training": {"max_steps": -1}}
    told = message(write(tmp_path / "study.yaml", values))
    assert "`colour`: unknown key" in told
    assert "`training.max_steps`: must be greater than 0" in told


def test_the_words_of_pydantic_stay_inside(tmp_path: Path) -> None:
    for value in ({}, {"kind": "x"}, {"kind": "directory"}, {"kind": "directory", "path": 3}, [], None, 3):
        told = message(study_with(tmp_path, "model.source", value))
        for word in ("discriminator", "tag", "pathlib", "dictionary", "instance of", "[key]", "source.directory"):
            assert word not in told, told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nname: b\n", "the key 'name' appears twice"),
        ("training: {max_steps: 1, max_steps: 2}\n", "the key 'max_steps' appears twice"),
        ("training: !replace {epochs: 1, epochs: 2}\n", "the key 'epochs' appears twice"),
        ("name: [1\n", "not valid YAML"),
        ("name: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("[a, b]: 1\n", "unhashable key"),
        ("model: &m {source: *m}\n", "recursive"),
        ("name: a\n---\nname: b\n", "not valid YAML"),
        ("- name\n", "a study file is a mapping of keys"),
        ("", "a study file is a mapping of keys"),
        ("just text\n", "a study file is a mapping of keys"),
        ("extends: [a.yaml]\n", "`extends`: give the path of one study file, got ['a.yaml']"),
        ("extends: there-is-none.yaml\n", "`extends`: the study file"),
    ],
)
def test_a_file_that_is_no_study(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in message(write(tmp_path / "study.yaml", text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "the study file does not exist" in message(tmp_path / "none.yaml")
    assert "cannot be read" in message(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: café\n".encode("latin-1"))
    assert "not valid UTF-8 at byte 9" in message(path)


def test_a_merge_key_may_be_overridden(tmp_path: Path) -> None:
    text = yaml.safe_dump(VALUES).replace("max_steps: 6", "<<: &base {max_steps: 6, batch_size: 2}\n  batch_size: 3")
    training = load_study(write(tmp_path / "study.yaml", text)).training
    assert (training.max_steps, training.batch_size) == (6, 3)


def test_numbers_that_yaml_takes_for_text(tmp_path: Path) -> None:
    path = write(tmp_path / "study.yaml", yaml.safe_dump(VALUES).replace("max_steps: 6", "epochs: 1e-1"))
    assert load_study(path).training.epochs == 0.1


def test_half_of_the_corpus_is_forgotten_unless_the_study_says_otherwise(tmp_path: Path) -> None:
    assert load_study(study_with(tmp_path, "confidence", {})).confidence.selection_ratio == 0.5
    assert load_study(study_with(tmp_path, "confidence", {"alpha": 0.1})).confidence.selection_ratio == 0.5
    confidence = load_study(study_with(tmp_path, "confidence", {"selection_count": 3})).confidence
    assert (confidence.selection_ratio, confidence.selection_count) == (None, 3)


def test_alpha_is_the_learning_rate_unless_given(tmp_path: Path) -> None:
    study = load_study(study_with(tmp_path, "training.learning_rate", 0.25))
    assert study.alpha == 0.25
    assert load_study(study_with(tmp_path, "confidence.alpha", 2.0)).alpha == 2.0


def test_a_task_without_a_body_is_the_preset_or_the_learning_task_of_that_name(tmp_path: Path) -> None:
    values = copy.deepcopy(VALUES)
    values["learning_tasks"] = {"chain_sum": {"preset": "chain_sum", "max_new_tokens": 3}, "leg_counting": None}
    values["forgetting_tasks"] |= {"chain_sum": None, "leg_counting": None, "letter_counting": None}
    study = load_study(write(tmp_path / "study.yaml", values))
    assert study.learning_tasks["leg_counting"].preset == "leg_counting"
    assert study.forgetting_tasks["chain_sum"] == study.learning_tasks["chain_sum"]
    assert study.forgetting_tasks["chain_sum"].max_new_tokens == 3
    assert study.forgetting_tasks["leg_counting"] == study.learning_tasks["leg_counting"]
    source = study.forgetting_tasks["letter_counting"].source
    assert isinstance(source, GeneratorSource)
    assert source.generator == "letter_counting"


@given(st.sampled_from(sorted(Study.model_fields)), st.text(st.characters(categories=["Ll"]), min_size=1, max_size=8))
def test_an_unknown_key_is_never_taken(section: str, key: str) -> None:
    from pydantic import ValidationError

    from lwf_assets.study.mistakes import explain

    values = {**VALUES, section: {key: 3}}
    field = Study.model_fields[section].annotation
    known = getattr(field, "model_fields", None)
    if known is None or key in known:
        return
    with pytest.raises(ValidationError) as caught:
        Study.model_validate(values)
    assert f"`{section}.{key}`: unknown key" in explain(caught.value)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_studies_that_come_with_the_project_load(path: Path) -> None:
    study = load_study(path)
    for task in (*study.learning_tasks.values(), *study.forgetting_tasks.values()):
        if isinstance(task.source, FileSource):
            files = (task.source.train, task.source.validation, task.source.test, task.source.prompts)
            assert all(file.is_file() for file in files if file is not None)


def test_a_model_directory_is_no_hub_id(tmp_path: Path) -> None:
    told = message(study_with(tmp_path, "model.source", {"kind": "hub", "id": "./model", "revision": "main"}))
    assert told.startswith("`model.source.id`: a directory on this machine is given as {kind: directory, path: ..}")


def test_the_reference_page_is_what_the_settings_say() -> None:
    from lwf_assets.study.reference_page import reference

    page = STUDIES.parent / "docs" / "study-file.md"
    assert page.read_text() == reference(), "run `python -m lwf_assets.study.reference_page > docs/study-file.md`"


def test_the_reference_page_tells_of_every_kind_of_arm_and_of_choices_that_are_no_kinds() -> None:
    from lwf_assets.study.reference_page import reference

    page = reference()
    for kind in KINDS:
        assert page.count(f"## `arms.<name> (kind: {kind})`\n") == 1
    assert "\n## `unlearning.retain`\n" in page
    assert "\n## `probe`\n" in page
    assert "ClassVar" not in page
    assert "`inputs`" not in page
    section = page.split("## `arms.<name> (kind: other_base)`")[1].split("\n## ")[0]
    keys = re.findall(r"^\| `(\w+)` ", section, flags=re.MULTILINE)
    assert keys == ["kind", "learning_tasks", "prior"]
