"""What can be said of a hub data set: parts of splits, folders, files, streams; and two presets of further kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hub_mirrors import write_jsonl, write_parquet
from pydantic import ValidationError

from lwf_assets.errors import LwfError
from lwf_assets.tasks.hash_split import split_of
from lwf_assets.tasks.settings import TaskSettings
from lwf_assets.tasks.task import Task


def rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"How much is {n}?", "answer": f"It is {n}."} for n in range(start, start + count)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A data set in the hub's layout: shards in Parquet, and the old file of infos beside them."""
    root = tmp_path / "owner" / "numbers"
    for shard in range(3):
        write_parquet(root / f"data/train-{shard:05d}-of-00003.parquet", rows(20, start=20 * shard))
    write_parquet(root / "data/test-00000-of-00001.parquet", rows(10, start=100))
    write_jsonl(root / "extra/more.jsonl", rows(5, start=200))
    sizes = {"train": 60, "test": 10}
    splits = {name: {"name": name, "num_bytes": 1000, "num_examples": count} for name, count in sizes.items()}
    (root / "dataset_infos.json").write_text(json.dumps({"default": {"config_name": "default", "splits": splits}}))
    (root / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: "
        "data/train-*\n  - split: test\n    path: data/test-*\n---\n"
    )
    return root


def task(root: Path, source: dict[str, Any] | None = None, **values: Any) -> Task:
    given = {"kind": "hub", "id": str(root), **(source or {})}
    return Task("numbers", TaskSettings.model_validate({"source": given, **values}))


def numbers(found: list[Any]) -> list[int]:
    return sorted(int("".join(filter(str.isdigit, row.prompt))) for row in found)


def test_part_of_a_split(shards: Path) -> None:
    source = {"splits": {"train": "train[:10]", "validation": "train[10:15]", "test": "test[50%:]"}}
    it = task(shards, source)
    train, validation = it.learning_rows()
    assert numbers(train) == list(range(10))
    assert numbers(validation) == list(range(10, 15))
    assert numbers(it.test_rows()) == list(range(105, 110))


def test_one_split_for_all_roles(shards: Path) -> None:
    it = task(shards, {"split": "train[:50]+test"})
    train, validation = it.learning_rows()
    everything = numbers([*train, *validation, *it.test_rows()])
    assert everything == [*range(50), *range(100, 110)]
    with pytest.raises(ValidationError, match="give either `split`, one for all roles, or `splits`"):
        task(shards, {"split": "train", "splits": {"train": "train"}})


def test_a_part_of_a_split_that_is_not_there_names_those_there_are(shards: Path) -> None:
    with pytest.raises(LwfError, match=r"unknown split 'dev'.*train, test"):
        task(shards, {"split": "dev[:5]"}).fingerprint("learning")
    with pytest.raises(LwfError, match="cannot be read"):
        task(shards, {"split": "dev[:5]"}).learning_rows()


def test_files_and_folders_of_a_data_set(shards: Path) -> None:
    assert numbers(task(shards, {"data_files": "extra/*.jsonl", "split": "train"}).prompt_rows()) == numbers(
        task(shards, {"data_dir": "extra", "split": "train"}).prompt_rows()
    )
    by_split = {"data_files": {"test": "extra/more.jsonl"}, "splits": {"test": "test"}}
    assert numbers(task(shards, by_split).test_rows()) == list(range(200, 205))


def test_what_decides_the_rows(shards: Path) -> None:
    plain = task(shards, {"split": "train"})
    prints = {
        json.dumps(it.fingerprint("prompts"))
        for it in (
            plain,
            task(shards, {"split": "train[:10]"}),
            task(shards, {"split": "train", "data_files": {"train": "extra/more.jsonl"}}),
            task(shards, {"split": "train", "streaming": True}, rows={"train": 60}),
            task(shards, {"split": "train"}, rows={"train": 60}),
        )
    }
    assert len(prints) == 5
    before = plain.fingerprint("prompts")
    write_parquet(shards / "data/train-00001-of-00003.parquet", rows(20, start=500))
    assert plain.fingerprint("prompts") != before


def test_a_stream_is_read_until_it_is_full(shards: Path) -> None:
    limits = {"train": 8, "validation": 2, "test": 3}
    it = task(shards, {"split": "train", "streaming": True}, rows=limits)
    train, validation = it.learning_rows()
    test = it.test_rows()
    assert [len(train), len(validation), len(test)] == [8, 2, 3]
    assert {split_of(row.prompt) for row in train} == {"train"}
    assert {split_of(row.prompt) for row in test} == {"test"}
    again, _ = task(shards, {"split": "train", "streaming": True}, rows=limits).learning_rows()
    assert again == train
    other, _ = task(shards, {"split": "train", "streaming": True, "seed": 1}, rows=limits).learning_rows()
    assert other != train
    whole = {row.id: row.prompt for row in task(shards, {"split": "train"}).prompt_rows()}
    assert all(whole.get(row.id, row.prompt) == row.prompt for row in train)


def test_a_stream_needs_to_know_when_it_is_full(shards: Path) -> None:
    with pytest.raises(ValidationError, match=r"rows.train: a stream is read until it is full"):
        task(shards, {"streaming": True})
    with pytest.raises(LwfError, match=r"rows.test: a stream is read until it is full"):
        task(shards, {"streaming": True}, rows={"train": 5}).test_rows()


def test_a_stream_with_a_column_that_must_be_something(shards: Path) -> None:
    source = {"streaming": True, "where": {"answer": "It is 7."}}
    assert numbers(task(shards, source, rows={"train": 5}).prompt_rows()) == [7]
    with pytest.raises(LwfError, match=r"source.where: unknown column 'team'; the columns are: question, answer"):
        task(shards, {"streaming": True, "where": {"team": "a"}}, rows={"train": 5}).prompt_rows()


def test_a_token_has_no_place_in_a_study(shards: Path) -> None:
    with pytest.raises(ValidationError, match="token: a secret has no place in a study; set the environment variable"):
        task(shards, {"token": "hf_secret"})


def test_translations(tmp_path: Path) -> None:
    root = tmp_path / "opus"
    pairs = [{"translation": {"de": f"Das ist {n}.", "en": f"This is {n}."}} for n in range(30)]
    for split, start in (("train", 0), ("validation", 20), ("test", 25)):
        write_parquet(root / f"de-en/{split}-00000-of-00001.parquet", pairs[start : start + 5])
    lines = ["configs:", "- config_name: de-en", "  data_files:"]
    lines += [f"  - split: {split}\n    path: de-en/{split}-*" for split in ("train", "validation", "test")]
    (root / "README.md").write_text("\n".join(["---", *lines, "---", ""]))
    it = Task("mt", TaskSettings.model_validate({"preset": "opus100_de_en", "source": {"id": str(root)}}))
    first = it.test_rows()[0]
    assert (first.prompt, first.target) == ("German: Das ist 25.\nEnglish:", "This is 25.")
    assert it.settings.scorer == "bleu"
    assert len(it.learning_rows()[0]) == 5


def test_questions_in_many_languages(tmp_path: Path) -> None:
    root = tmp_path / "tydiqa"
    asked = [
        {
            "id": f"{language}-{n}",
            "title": "t",
            "context": f"{word} {n}.",
            "question": f"{word}?",
            "answers": {"text": [f"{n}", "other"], "answer_start": [0, 1]},
        }
        for language, word in (("finnish", "Vuosi"), ("russian", "Год"))
        for n in range(20)
    ]
    for split in ("train", "validation"):
        write_parquet(root / f"secondary_task/{split}-00000-of-00001.parquet", asked)
    lines = ["configs:", "- config_name: secondary_task", "  data_files:"]
    lines += [f"  - split: {split}\n    path: secondary_task/{split}-*" for split in ("train", "validation")]
    (root / "README.md").write_text("\n".join(["---", *lines, "---", ""]))
    it = Task("qa", TaskSettings.model_validate({"preset": "tydiqa", "source": {"id": str(root)}}))
    rows_of_test = it.test_rows()
    assert len(rows_of_test) == 40
    last = rows_of_test[-1]
    assert (last.id, last.prompt, last.target) == ("russian-19", "Год 19.\nQuestion: Год?\nAnswer:", "19")
    assert it.settings.scorer == "token_f1"
    assert it.learning_rows()[1]
