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

from lwf_assets.errors import LwfError
from lwf_assets.study.file import _merged, load_study
from lwf_assets.study.sections import DirectoryModel
from lwf_assets.study.study import Study
from lwf_assets.tasks.settings import FileSource, GeneratorSource, HubSource

STUDIES = ROOT / "studies"

VALUES: dict[str, Any] = {
    "name": "small",
    "model": {"source": {"kind": "directory", "path": "model"}},
    "learning_tasks": {"sums": {"preset": "chain_sum"}},
    "forgetting_tasks": {"teeth": {"source": {"kind": "file", "prompts": "teeth.jsonl"}}},
    "training": {"max_steps": 6},
}
REMOVED = object()


def write(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False))
    return path


def study_with(tmp_path: Path, key: str, value: Any) -> Path:
    """The small study with `value` at the dotted `key`."""
    values = copy.deepcopy(VALUES)
    *sections, last = key.split(".")
    section = values
    for name in sections:
        section = section.setdefault(name, {})
    if value is REMOVED:
        del section[last]
    else:
        section[last] = value
    return write(tmp_path / "study.yaml", values)


def message(path: Path) -> str:
    with pytest.raises(LwfError) as caught:
        load_study(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text.replace(f"{path}: ", "", 1)


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


def inherit(tmp_path: Path, child: dict[str, Any] | str, parent: dict[str, Any] | None = None) -> Study:
    write(tmp_path / "parent.yaml", VALUES if parent is None else parent)
    text = child if isinstance(child, str) else yaml.safe_dump(child)
    return load_study(write(tmp_path / "child.yaml", f"extends: parent.yaml\n{text}"))


def test_mappings_are_merged_and_lists_are_replaced(tmp_path: Path) -> None:
    parent = {**VALUES, "seeds": [1, 2, 3], "training": {"max_steps": 6, "batch_size": 2}}
    study = inherit(tmp_path, {"name": "other", "seeds": [9], "training": {"batch_size": 5}}, parent)
    assert study.name == "other"
    assert study.seeds == (9,)
    assert (study.training.max_steps, study.training.batch_size) == (6, 5)
    assert study.learning_tasks == load_study(tmp_path / "parent.yaml").learning_tasks


def test_a_mapping_tagged_replace_takes_the_place_of_the_inherited_one(tmp_path: Path) -> None:
    child = "training: !replace {epochs: 2}\nlearning_tasks: !replace\n  letters: {preset: letter_counting}\n"
    study = inherit(tmp_path, child)
    assert (study.training.max_steps, study.training.epochs) == (None, 2.0)
    assert list(study.learning_tasks) == ["letters"]


def test_null_takes_one_key_back(tmp_path: Path) -> None:
    training = inherit(tmp_path, {"training": {"max_steps": None, "epochs": 2}}).training
    assert (training.max_steps, training.epochs) == (None, 2.0)


def test_a_source_of_another_kind_replaces_the_inherited_one(tmp_path: Path) -> None:
    study = inherit(
        tmp_path,
        {
            "model": {"source": {"kind": "hub", "id": "a/b", "revision": "c"}, "dtype": "bfloat16"},
            "forgetting_tasks": {"teeth": {"source": {"kind": "hub", "id": "a/b", "revision": "c"}}},
        },
    )
    assert study.model.source.kind == "hub"
    assert isinstance(study.forgetting_tasks["teeth"].source, HubSource)


def test_a_source_of_the_same_kind_is_merged(tmp_path: Path) -> None:
    parent = copy.deepcopy(VALUES)
    parent["forgetting_tasks"]["teeth"]["source"]["seed"] = 4
    source = {"kind": "file", "prompts": "new.jsonl"}
    merged = inherit(tmp_path, {"forgetting_tasks": {"teeth": {"source": source}}}, parent)
    assert merged.forgetting_tasks["teeth"].source == FileSource(prompts=tmp_path / "new.jsonl", seed=4)


def test_grandparents_are_inherited_from_too(tmp_path: Path) -> None:
    write(tmp_path / "child.yaml", "extends: parent.yaml\nname: child\n")
    write(tmp_path / "parent.yaml", "extends: grandparent.yaml\nname: parent\ntraining: !replace {epochs: 3}\n")
    write(tmp_path / "grandparent.yaml", VALUES)
    study = load_study(tmp_path / "child.yaml")
    assert (study.name, study.training.epochs, study.training.max_steps) == ("child", 3.0, None)


def test_paths_are_relative_to_the_file_that_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "base/parent.yaml", VALUES)
    child = {
        "extends": "../../base/parent.yaml",
        "forgetting_tasks": {
            "minds": {"source": {"kind": "file", "prompts": "../minds.jsonl"}},
            "teeth": {"source": {"train": "more.jsonl"}},  # its kind is inherited
            "grades": {"preset": "gsm8k", "source": {"id": "../mirror"}},  # its kind stands in the preset
        },
    }
    path = write(tmp_path / "own/deep/child.yaml", child)
    monkeypatch.chdir(path.parent)
    for named in (path, Path("child.yaml"), Path("../deep/child.yaml")):
        study = load_study(named)
        assert study.model.source == DirectoryModel(kind="directory", path=tmp_path / "base/model")
        assert study.forgetting_tasks["minds"].source == FileSource(prompts=tmp_path / "own/minds.jsonl")
        assert study.forgetting_tasks["teeth"].source == FileSource(
            prompts=tmp_path / "base/teeth.jsonl", train=tmp_path / "own/deep/more.jsonl"
        )
        grades = study.forgetting_tasks["grades"].source
        assert isinstance(grades, HubSource)
        assert grades.id == str(tmp_path / "own/mirror")


def test_the_id_of_a_hub_data_set_is_no_path(tmp_path: Path) -> None:
    source = {"kind": "hub", "id": "openai/gsm8k", "revision": "c", "splits": {"train": "train"}}
    loaded = load_study(study_with(tmp_path, "forgetting_tasks.teeth.source", source)).forgetting_tasks["teeth"].source
    assert isinstance(loaded, HubSource)
    assert (loaded.id, loaded.splits.train) == ("openai/gsm8k", "train")


def test_a_linked_study_is_read_as_the_file_behind_the_link(tmp_path: Path) -> None:
    write(tmp_path / "real/parent.yaml", VALUES)
    write(tmp_path / "real/child.yaml", "extends: parent.yaml\n")
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "real/child.yaml")
    assert load_study(link) == load_study(tmp_path / "real/child.yaml")


def test_extending_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: sub/b.yaml\n")
    write(tmp_path / "sub/b.yaml", "extends: ../a.yaml\n")
    with pytest.raises(LwfError, match=r"is circular: a\.yaml -> b\.yaml -> a\.yaml"):
        load_study(tmp_path / "a.yaml")
    write(tmp_path / "self.yaml", "extends: self.yaml\n")
    with pytest.raises(LwfError, match=r"is circular: self\.yaml -> self\.yaml"):
        load_study(tmp_path / "self.yaml")


def test_a_missing_parent_is_told_with_the_file_that_asks_for_it(tmp_path: Path) -> None:
    write(tmp_path / "child.yaml", "extends: parent.yaml\n")
    write(tmp_path / "parent.yaml", "extends: gone.yaml\n")
    with pytest.raises(LwfError, match=r"parent\.yaml: `extends`: the study file .*gone\.yaml"):
        load_study(tmp_path / "child.yaml")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
MAPPING = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def leaves(values: Any, key: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(values, dict) or not values:
        return {key: values}
    return {at: leaf for name, value in values.items() for at, leaf in leaves(value, (*key, name)).items()}


@given(MAPPING, MAPPING)
def test_what_the_child_says_stands_and_the_rest_is_the_parents(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    merged = _merged(base, over)
    assert (base, over) == before
    said = leaves(over)
    assert {key: value for key, value in leaves(merged).items() if key in said and value != {}} == {
        key: value for key, value in said.items() if value != {} and key
    }
    for key, value in leaves(base).items():
        touched = any(key[: len(other)] == other[: len(key)] for other in said if other)
        if not touched and key:
            assert leaves(merged)[key] == value
    assert _merged(merged, over) == merged


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


KINDS = ("lwf", "random_tokens", "weight_noise", "extra_steps", "bss", "l2_sp", "weight_decay", "other_base")
LWF_ARM = {"kind": "lwf"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("arms.npo", {"kind": "lfw"}, "`arms.npo.kind`: unknown kind 'lfw'; did you mean `lwf`?"),
        ("arms.npo", {}, f"`arms.npo.kind`: missing; give one of {', '.join(KINDS)}"),
        ("arms.npo", None, "`arms.npo`: must be a mapping of keys, but it is empty"),
        ("arms", ["npo"], "`arms`: must be a mapping of keys, got ['npo']"),
        (
            "arms.reference",
            {"kind": "bss"},
            "`arms.reference`: every study has a model of this name; choose another name for",
        ),
        ("arms.base", LWF_ARM, "`arms.base`: every study has a model of this name"),
        ("arms.lwf", LWF_ARM, "`arms.lwf`: every study has a model of this name"),
        ("arms.NPO", LWF_ARM, "`arms.NPO`: the name must begin with a small letter and have only small letters, digi"),
        ("arms.npo", {**LWF_ARM, "forgetting_tasks": ["tooth"]}, "`arms.npo.forgetting_tasks`: unknown name 'tooth';"),
        (
            "arms.l2_sp",
            {**LWF_ARM, "forgetting_tasks": ["mixed"]},
            "`arms.l2_sp.forgetting_tasks`: unknown name 'mixed'",
        ),
        ("arms.l2_sp", {"kind": "l2_sp", "learning_tasks": ["sum"]}, "`arms.l2_sp.learning_tasks`: unknown name 'sum'"),
        ("arms.bss", {"kind": "bss", "forgetting_tasks": ["teeth"]}, "`arms.bss.forgetting_tasks`: unknown key"),
        ("arms.npo", {**LWF_ARM, "intervall": 3}, "`arms.npo.intervall`: unknown key; known here: learning_tasks, "),
        (
            "arms.npo",
            {**LWF_ARM, "unlearning": {"intervall": 3}},
            "`arms.npo.unlearning.intervall`: unknown key; did you mean `interval`?",
        ),
        (
            "arms.npo",
            {**LWF_ARM, "unlearning": {"interval": 0}},
            "`arms.npo.unlearning.interval`: must be greater than 0, got 0",
        ),
        (
            "arms.npo",
            {**LWF_ARM, "unlearning": {"retain": {"kid": "kl"}}},
            "`arms.npo.unlearning.retain.kid`: unknown key; did you mean `kind`?",
        ),
        ("arms.npo", {**LWF_ARM, "unlearning": 3}, "`arms.npo.unlearning`: must be a mapping of keys, got 3"),
        (
            "arms.tokens",
            {"kind": "random_tokens", "confidence": {"end": "lowest"}},
            "`arms.tokens.confidence.end`: must be 'high', 'low' or 'random', got 'lowest'",
        ),
        (
            "arms.low",
            {**LWF_ARM, "confidence": {"selection_count": 2, "selection_ratio": 0.5}},
            "`arms.low.confidence`: give selection_ratio or selection_count, not both",
        ),
        (
            "arms.low",
            {**LWF_ARM, "confidence": {"loss_reduction": "sum"}},
            "`arms.low.confidence.loss_reduction`: all arms share the gradients; set it for the study",
        ),
        (
            "arms.other",
            {"kind": "other_base", "prior": "more"},
            "`arms.other.prior`: unknown name 'more'; the study defines none",
        ),
        ("arms.decay", {"kind": "weight_decay", "weight": 1}, "`arms.decay.weight`: must be less than 1, got 1"),
        ("model.prior", "more", "`model.prior`: unknown name 'more'; the study defines none"),
        ("priors", {"old": {"tasks": {}, "training": {"max_steps": 1}}}, "`priors.old.tasks`: must not be empty"),
        ("priors", {"old": {"tasks": {"sums": None}}}, "`priors.old.training`: missing; it must be given"),
        (
            "priors",
            {"old": {"tasks": {"sums": None}, "training": {"max_steps": 1}}},
            "`priors.old.tasks.sums.preset`: unknown preset 'sums'",
        ),
        ("probe.models", ["npo"], "`probe.models`: unknown name 'npo'; choose from reference, lwf"),
        ("probe.models", ["base"], "`probe.models`: unknown name 'base'"),
        ("probe.models", [], "`probe.models`: must not be empty"),
        ("probe.quantization", [16], "`probe.quantization.0`: must be 8 or 4, got 16"),
        ("probe.prompt_forms", ["Well?"], "`probe.prompt_forms`: 'Well?' does not show the prompt; write {prompt}"),
        (
            "evaluation.known_conflicts",
            ["tooth"],
            "`evaluation.known_conflicts`: unknown name 'tooth'; choose from teeth",
        ),
        ("evaluation.least_seeds", 1, "`evaluation.least_seeds`: must be greater than or equal to 2, got 1"),
        ("evaluation.learning_levels", [0.0], "`evaluation.learning_levels.0`: must be greater than 0, got 0.0"),
    ],
)
def test_mistakes_in_arms_priors_and_measures(key: str, value: Any, expected: str, tmp_path: Path) -> None:
    assert expected in message(study_with(tmp_path, key, value))


def test_every_mistake_in_an_arms_section_is_told(tmp_path: Path) -> None:
    arm = {"kind": "lwf", "unlearning": {"interval": -1, "beta": "hot"}}
    told = message(study_with(tmp_path, "arms.npo", arm))
    assert "`arms.npo.unlearning.interval`: must be greater than 0, got -1" in told
    assert "`arms.npo.unlearning.beta`: must be a number, got 'hot'" in told


def arm_of(tmp_path: Path, study: dict[str, Any], arm: dict[str, Any]) -> tuple[Study, Any]:
    loaded = load_study(write(tmp_path / "study.yaml", {**VALUES, **study, "arms": {"one": {"kind": "lwf", **arm}}}))
    return loaded, loaded.arms["one"]


def test_a_count_takes_the_place_of_a_ratio_and_the_other_way_round(tmp_path: Path) -> None:
    study, arm = arm_of(tmp_path, {}, {"confidence": {"selection_count": 3}})
    chosen = arm.confidence_settings(study.confidence)
    assert (chosen.selection_ratio, chosen.selection_count) == (None, 3)
    study, arm = arm_of(
        tmp_path, {"confidence": {"selection_count": 3, "end": "low"}}, {"confidence": {"selection_ratio": 0.1}}
    )
    chosen = arm.confidence_settings(study.confidence)
    assert (chosen.selection_ratio, chosen.selection_count, chosen.end) == (0.1, None, "low")
    study, arm = arm_of(tmp_path, {"confidence": {"selection_count": 3}}, {"confidence": {"alpha": 0.5}})
    chosen = arm.confidence_settings(study.confidence)
    assert (chosen.selection_count, chosen.alpha) == (3, 0.5)


def test_an_arm_inherits_key_by_key(tmp_path: Path) -> None:
    unlearning = {"interval": 3, "retain": {"kind": "kl", "weight": 0.5}}
    study, arm = arm_of(tmp_path, {"unlearning": unlearning}, {"unlearning": {"retain": {"weight": 2.0}}})
    merged = arm.unlearning_settings(study.unlearning)
    assert merged.interval == 3
    assert merged.retain is not None
    assert (merged.retain.kind, merged.retain.weight) == ("kl", 2.0)
    study, arm = arm_of(tmp_path, {"unlearning": unlearning}, {"unlearning": {"retain": None}})
    assert arm.unlearning_settings(study.unlearning).retain is None
    assert study.unlearning.retain is not None


def test_neutral_text_and_tasks_of_priors_are_found_beside_the_file_that_names_them(tmp_path: Path) -> None:
    task = {"source": {"kind": "file", "train": "old.jsonl"}}
    parent = {
        **VALUES,
        "evaluation": {"neutral_text": "neutral.jsonl", "untouched_tasks": {"leg_counting": None}},
        "priors": {"old": {"tasks": {"facts": task, "chain_sum": None}, "training": {"max_steps": 1}}},
    }
    write(tmp_path / "base/parent.yaml", parent)
    study = load_study(write(tmp_path / "own/child.yaml", "extends: ../base/parent.yaml\n"))
    assert study.evaluation.neutral_text == tmp_path / "base/neutral.jsonl"
    assert study.evaluation.untouched_tasks["leg_counting"].preset == "leg_counting"
    assert study.priors["old"].tasks["facts"].source == FileSource(train=tmp_path / "base/old.jsonl")
    assert study.priors["old"].tasks["chain_sum"].preset == "chain_sum"
