"""A fingerprint changes when rows change, and only then."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub_mirrors import write_jsonl

from lwf_assets.errors import LwfError
from lwf_assets.tasks import Task, TaskSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from lwf_assets.tasks.fingerprints import Part

PARTS: tuple[Part, ...] = ("learning", "test", "prompts")
GENERATED: dict[str, Any] = {"preset": "chain_sum"}
HUB: dict[str, Any] = {"preset": "dental", "rows": {"train": 50}}


def prints(keys: dict[str, Any], name: str = "task") -> dict[str, str]:
    task = Task(name, TaskSettings.model_validate(keys))
    return {part: json.dumps(task.fingerprint(part), sort_keys=True) for part in PARTS}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    first, second = prints(before), prints(after)
    return {part for part in PARTS if first[part] != second[part]}


def over(keys: dict[str, Any], **more: Any) -> dict[str, Any]:
    nested = {key: {**keys.get(key, {}), **value} for key, value in more.items() if isinstance(value, dict)}
    return {**keys, **more, **nested}


@pytest.mark.parametrize("keys", [GENERATED, HUB])
@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"rows": {"test": 7}}, {"test"}),
        ({"rows": {"validation": 7}}, {"learning"}),
        ({"rows": {"train": 7}}, {"learning", "prompts"}),
        ({"prompt": "Q: {question} A:"}, {"learning", "test", "prompts"}),
        ({"target": "It is {answer}", "answer": "{answer}", "form": "template"}, None),
        ({"max_new_tokens": 3}, set()),
    ],
)
def test_settings_touch_only_their_parts(keys: dict[str, Any], more: dict[str, Any], parts: set[str] | None) -> None:
    if parts is None:
        keys = {**keys, "form": "template", "answer": "{answer}", "target": "{answer}"}
        parts = {"learning", "test"}
    assert changed(keys, over(keys, **more)) == parts


def test_scorer_and_stop_go_with_the_test() -> None:
    assert changed(GENERATED, over(GENERATED, scorer="numeric")) == {"test"}
    assert changed(GENERATED, over(GENERATED, stop=["\n"])) == {"test"}
    assert changed(HUB, over(HUB, stop=["\n"])) == set()  # A choice is not cut.


def test_what_makes_a_source_another() -> None:
    everything = set(PARTS)
    assert changed(GENERATED, over(GENERATED, source={"seed": 1})) == everything
    assert changed(GENERATED, over(GENERATED, source={"parameters": {"max_terms": 4}})) == everything
    assert changed(HUB, over(HUB, source={"revision": "0" * 40})) == everything
    assert changed(HUB, over(HUB, source={"where": {"subject_name": "Surgery"}})) == everything
    assert changed(HUB, over(HUB, source={"splits": {"test": "other"}})) == {"test"}
    assert changed(HUB, over(HUB, source={"splits": {"validation": "validation"}})) == {"learning", "prompts"}
    # Without a limit nothing is shuffled, so the seed decides nothing.
    assert changed(HUB, over(HUB, source={"seed": 1})) == {"learning", "prompts"}
    assert prints(HUB, "a")["learning"] == prints(HUB, "b")["learning"]
    assert prints(HUB, "a")["prompts"] != prints(HUB, "b")["prompts"]  # Prompt rows carry the task's name.


def rows(start: int, count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i}?", "answer": f"{i}"} for i in range(start, start + count)]


def files(folder: Path) -> dict[str, Any]:
    source = {"kind": "file"}
    for start, name in enumerate(("train", "validation", "test", "prompts")):
        source[name] = str(write_jsonl(folder / f"{name}.jsonl", rows(100 * start, 40)))
    return {"source": source}


def test_files_count_by_content_only(tmp_path: Path) -> None:
    keys = files(tmp_path / "a")
    before = prints(keys)
    for path in (tmp_path / "a").iterdir():
        os.utime(path, (0, 0))
    assert prints(keys) == before
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = {"source": {key: value.replace("/a/", "/b/") for key, value in keys["source"].items()}}
    assert prints(moved) == before
    with pytest.raises(LwfError, match=r"task task: .*a/train.jsonl: the file does not exist"):
        prints(keys)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("train", {"learning"}), ("validation", {"learning"}), ("test", {"test"}), ("prompts", {"prompts"})],
)
def test_one_byte_of_a_file_touches_only_what_is_made_of_it(name: str, parts: set[str], tmp_path: Path) -> None:
    keys = files(tmp_path)
    before = prints(keys)
    path = Path(keys["source"][name])
    path.write_bytes(path.read_bytes().replace(b"What", b"what", 1))
    after = prints(keys)
    assert {part for part in PARTS if before[part] != after[part]} == parts


def test_splits_taken_out_of_train_follow_train(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", rows(0, 40))
    keys: dict[str, Any] = {"source": {"kind": "file", "train": str(train)}}
    test = str(write_jsonl(tmp_path / "test.jsonl", rows(100, 40)))
    # With a test file of its own, train keeps the tenth that went to test.
    assert changed(keys, over(keys, source={"test": test})) == set(PARTS)
    before = prints(keys)
    write_jsonl(train, rows(0, 41))
    after = prints(keys)
    assert all(before[part] != after[part] for part in PARTS)


def test_the_suffix_decides_how_a_file_is_read(tmp_path: Path) -> None:
    jsonl = write_jsonl(tmp_path / "t.jsonl", rows(0, 1))
    csv = tmp_path / "t.csv"
    csv.write_bytes(jsonl.read_bytes())
    source = {"kind": "file", "test": str(jsonl)}
    assert "test" in changed({"source": source}, {"source": {**source, "test": str(csv)}})


def test_hash_file_may_be_given(tmp_path: Path) -> None:
    asked: list[Path] = []

    def hash_file(path: Path) -> str:
        asked.append(path)
        return "constant"

    task = Task("t", TaskSettings.model_validate(files(tmp_path)))
    assert "constant" in json.dumps(task.fingerprint("test", hash_file))
    assert asked == [tmp_path / "test.jsonl"]


def test_a_mirrored_hub_directory_counts_by_content(mirror: Callable[[str], str], tmp_path: Path) -> None:
    path = Path(mirror("psychol"))
    before = prints({"preset": "psychol", "source": {"id": str(path)}})
    moved = tmp_path / "elsewhere"
    shutil.copytree(path, moved)
    keys = {"preset": "psychol", "source": {"id": str(moved)}}
    assert prints(keys) == before
    file = moved / "high_school_psychology/test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes() + b"!")
    after = prints(keys)
    assert {part for part in PARTS if before[part] != after[part]} == {"test"}
