"""Studies that inherit from others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from study_texts import VALUES, study_with, write

from lwf_assets.errors import LwfError
from lwf_assets.study.file import _merged, load_study
from lwf_assets.study.sections import DirectoryModel
from lwf_assets.study.study import Study
from lwf_assets.tasks.settings import FileSource, HubSource


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
