"""The five tasks of the paper, read from local mirrors through the real `datasets.load_dataset`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hub_mirrors import medmcqa_row, write_jsonl, write_parquet

from lwf_assets.errors import LwfError
from lwf_assets.tasks import Task, TaskSettings

if TYPE_CHECKING:
    from pathlib import Path

Mirror = Callable[[str], str]
TASKS = ["gsm8k", "qasc", "sst5", "dental", "psychol"]


def build(preset: str, path: str, **keys: Any) -> Task:
    return Task(preset, TaskSettings.model_validate({"preset": preset, "source": {"id": path}, **keys}))


# task: (prompt of the first test row, its target, its answer)
GOLDEN = {
    "gsm8k": (
        "Question: Ann has 100 eggs and buys 1000. How many has she?\nAnswer:",
        "She has 100+1000=<<100+1000=1100>>1100 eggs.\n#### 1,100",
        "1100",
    ),
    "qasc": (
        "What can trigger response 100?\nA. thing 100-A\nB. thing 100-B\nC. thing 100-C\nD. thing 100-D\n"
        "E. thing 100-E\nF. thing 100-F\nG. thing 100-G\nH. thing 100-H\nAnswer:",
        "E",
        "E",
    ),
    "sst5": (
        "a stirring , funny film number 200 .\nQuestion: What is the sentiment of this sentence: "
        "very negative, negative, neutral, positive or very positive?\nAnswer:",
        "very negative",
        "very negative",
    ),
    "dental": (
        "Question: Tooth 201 erupts at what age?\nChoices:\nA. 201 years a\nB. 201 years b\nC. 201 years c\n"
        "D. 201 years d\nAnswer:",
        "B",
        "B",
    ),
    "psychol": (
        "Who founded school 30?\nA. option 30a\nB. option 30b\nC. option 30c\nD. option 30d\nAnswer:",
        "C",
        "C",
    ),
}
CHOICES = {
    "gsm8k": (),
    "qasc": tuple("ABCDEFGH"),
    "sst5": ("very negative", "negative", "neutral", "positive", "very positive"),
    "dental": tuple("ABCD"),
    "psychol": tuple("ABCD"),
}
# task: test rows, train and validation rows together
SIZES = {"gsm8k": (10, 60), "qasc": (12, 60), "sst5": (20, 40), "dental": (10, 60), "psychol": (24, 28)}


@pytest.mark.parametrize("name", TASKS)
def test_rows_of_each_task(name: str, mirror: Mirror) -> None:
    task = build(name, mirror(name))
    test = task.test_rows()
    train, validation = task.learning_rows()

    assert (test[0].prompt, test[0].target, test[0].answer) == GOLDEN[name]
    assert all(row.choices == CHOICES[name] for row in test)
    assert (len(test), len(train) + len(validation)) == SIZES[name]
    assert validation
    learned = {row.prompt for row in train}
    assert learned.isdisjoint(row.prompt for row in validation)
    assert learned.isdisjoint(row.prompt for row in test)
    ids = [row.id for row in [*train, *validation]]
    assert len(set(ids)) == len(ids)
    texts = [(row.prompt, row.target) for row in [*train, *validation]] + [(row.prompt, row.target) for row in test]
    assert all(prompt == prompt.rstrip() and target == target.strip() for prompt, target in texts)


@pytest.mark.parametrize("name", TASKS)
def test_prompts_are_the_train_prompts(name: str, mirror: Mirror) -> None:
    task = build(name, mirror(name))
    prompts = task.prompt_rows()
    assert [row.prompt for row in prompts] == [row.prompt for row in task.learning_rows()[0]]
    assert {row.source_task for row in prompts} == {name}


def test_qasc_never_shows_a_fact(mirror: Mirror) -> None:
    path = mirror("qasc")
    task = build("qasc", path)
    train, validation = task.learning_rows()
    shown = [*train, *validation, *task.test_rows(), *task.prompt_rows()]
    assert not any("SECRET FACT" in repr(row) for row in shown)
    with pytest.raises(LwfError, match=r"no prompt: unknown column 'fact1'"):
        build("qasc", path, prompt="{fact1} {question}").prompt_rows()


def test_the_unlabelled_test_split_gives_prompts_but_no_scores(mirror: Mirror) -> None:
    path = mirror("qasc")
    source = {"id": path, "splits": {"train": "test", "test": "test", "validation": "validation"}}
    task = Task("qasc", TaskSettings.model_validate({"preset": "qasc", "source": source}))
    assert len(task.prompt_rows()) == 5
    with pytest.raises(LwfError, match=r"split 'test', row 1: no target: column 'answerKey' is ''"):
        task.test_rows()


def test_psychol_learns_from_validation_and_watches_dev(mirror: Mirror) -> None:
    train, validation = build("psychol", mirror("psychol")).learning_rows()
    assert (len(train), len(validation)) == (18, 10)
    assert train[0].id == "professional_psychology-validation-0"
    assert train[-1].id == "high_school_psychology-validation-8"


def test_dental_filter_that_leaves_nothing(mirror: Mirror) -> None:
    source = {"id": mirror("dental"), "where": {"subject_name": "Dentistry"}}
    task = Task("dental", TaskSettings.model_validate({"preset": "dental", "source": source}))
    with pytest.raises(LwfError, match=r"no row has 'Dentistry' in column 'subject_name'.*contains: Anatomy, Dental$"):
        task.learning_rows()
    source = {"id": source["id"], "where": {"subject": "Dental"}}
    task = Task("dental", TaskSettings.model_validate({"preset": "dental", "source": source}))
    with pytest.raises(LwfError, match=r"unknown column 'subject'; the columns are: id, question, opa"):
        task.learning_rows()


@pytest.mark.parametrize("cop", [4, -1, None])
def test_a_label_out_of_range_is_no_answer(cop: int | None, tmp_path: Path) -> None:
    rows = [{**medmcqa_row(0), "cop": 1}, {**medmcqa_row(1), "cop": cop}]
    write_parquet(tmp_path / "validation.parquet", rows)
    with pytest.raises(LwfError, match=rf"split 'validation', row 2: no target: column 'cop' is {cop}; .* 0 to 3"):
        build("dental", str(tmp_path)).test_rows()


def test_gsm8k_answer_without_a_number(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", [{"question": "How many?", "answer": "Three."}])
    with pytest.raises(LwfError, match=r"row 1: no answer: column 'answer' does not end in '#### ' and a number"):
        build("gsm8k", str(tmp_path), source={"id": str(tmp_path), "config": None}).test_rows()


def test_a_row_of_another_shape(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": ["a", "b", "c"], "answer": 0}]
    write_jsonl(tmp_path / "test.jsonl", rows)
    with pytest.raises(LwfError, match=r"split 'test', row 1: column 'choices' must hold 4 texts"):
        build("psychol", str(tmp_path), source={"id": str(tmp_path), "config": None}).test_rows()
    with pytest.raises(LwfError, match=r"column 'opa' is missing or empty; form 'medmcqa' needs question, opa"):
        build("psychol", "", form="medmcqa", source={"id": str(tmp_path), "config": None}).test_rows()


def test_missing_split_config_directory_and_hub(mirror: Mirror, tmp_path: Path) -> None:
    path = mirror("gsm8k")
    with pytest.raises(LwfError, match=r"split 'dev': cannot be read: Unknown split \"dev\".*train.*test"):
        build("gsm8k", path, source={"id": path, "splits": {"test": "dev"}}).test_rows()
    with pytest.raises(LwfError, match=r"'socratic' not found. Available: \['main'\]"):
        build("gsm8k", path, source={"id": path, "config": "socratic"}).test_rows()
    with pytest.raises(LwfError, match=r"nowhere: the directory does not exist"):
        build("gsm8k", str(tmp_path / "nowhere")).test_rows()
    with pytest.raises(LwfError, match=r"task gsm8k: openai/gsm8k at e53f048856ff, main, split 'test': cannot be read"):
        Task("gsm8k", TaskSettings.model_validate({"preset": "gsm8k"})).test_rows()


def test_a_directory_named_like_the_hub_id_is_not_read_by_accident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "openai/gsm8k/test.jsonl", [{"question": "q", "answer": "#### 1"}])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LwfError, match=r"a directory of this name lies in .*; write ./openai/gsm8k if that is meant"):
        Task("gsm8k", TaskSettings.model_validate({"preset": "gsm8k"})).test_rows()


def test_limits_keep_a_part_that_only_grows(mirror: Mirror) -> None:
    path = mirror("sst5")

    def ids(count: int | None, seed: int = 0) -> list[str]:
        source = {"id": path, "seed": seed}
        return [row.id for row in build("sst5", path, source=source, rows={"test": count}).test_rows()]

    assert len(ids(5)) == 5
    assert ids(12)[:5] == ids(5)
    assert set(ids(5, seed=1)) != set(ids(5))
    assert ids(None) == [f"test-{i}" for i in range(20)]
    assert sorted(ids(1000)) == sorted(ids(None))


def test_scorer_data_holds_the_stop_texts(mirror: Mirror) -> None:
    assert json.loads(build("gsm8k", mirror("gsm8k")).test_rows()[0].scorer_data) == {"stop": ["Question:"]}
    assert json.loads(build("sst5", mirror("sst5")).test_rows()[0].scorer_data) == {}
