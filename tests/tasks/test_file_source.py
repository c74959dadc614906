"""A user's own files: the formats, splits taken out of train, and messages that say which row to mend."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hub_mirrors import write_jsonl, write_parquet

from lwf_assets.errors import LwfError
from lwf_assets.tasks import Task, TaskSettings
from lwf_assets.tasks.hash_split import split_of

if TYPE_CHECKING:
    from pathlib import Path


def build(*, train: Path | None = None, **keys: Any) -> Task:
    source = {"kind": "file", "train": train, **keys.pop("source", {})}
    return Task("mine", TaskSettings.model_validate({"source": source, **keys}))


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(count)]


def test_the_three_formats_give_the_same_rows(tmp_path: Path) -> None:
    rows = [*pairs(200), {"prompt": 'A comma, a "quote"\nand a second line: é', "answer": "yes"}]
    jsonl = write_jsonl(tmp_path / "a.jsonl", rows)
    parquet = write_parquet(tmp_path / "b.parquet", rows)
    lines = "".join('"{}",{}\n'.format(row["prompt"].replace('"', '""'), row["answer"]) for row in rows)
    csv = tmp_path / "c.CSV"
    csv.write_bytes(("\ufeffprompt,answer\n" + lines).encode())
    results = [(task.learning_rows(), task.test_rows()) for task in map(_of_train, (jsonl, parquet, csv))]
    assert results[0] == results[1] == results[2]
    assert "train-1" in {row.id for row in results[0][0][0]}


def _of_train(path: Path) -> Task:
    return build(train=path)


def test_the_split_of_a_prompt_is_fixed_for_good() -> None:
    # Another hash would move rows between the splits of every study that was ever run.
    splits = [split_of(f"What is {i} + 1?") for i in range(100)]
    assert [i for i in range(100) if splits[i] == "test"] == [52, 61, 68, 72, 98, 99]
    assert [i for i in range(40) if splits[i] == "validation"] == [0, 24, 27, 30, 36]


def test_splits_are_taken_out_of_train_in_tenths(tmp_path: Path) -> None:
    task = build(train=write_jsonl(tmp_path / "train.jsonl", pairs(1000)))
    train, validation = task.learning_rows()
    test = task.test_rows()
    assert len(train) + len(validation) + len(test) == 1000
    assert 750 < len(train) < 850
    assert 70 < len(validation) < 130
    assert 70 < len(test) < 130

    more = build(train=write_jsonl(tmp_path / "more.jsonl", pairs(1200)))
    assert more.test_rows()[: len(test)] == test
    assert more.learning_rows()[1][: len(validation)] == validation


def test_the_same_prompt_twice_stays_on_one_side(tmp_path: Path) -> None:
    task = build(train=write_jsonl(tmp_path / "train.jsonl", pairs(60) * 2))
    train, validation = task.learning_rows()
    sides = [{row.prompt for row in side} for side in (train, validation, task.test_rows())]
    assert sum(map(len, sides)) == 60


def test_given_splits_are_used_whole(tmp_path: Path) -> None:
    rows = pairs(60)
    train = write_jsonl(tmp_path / "train.jsonl", rows[:40])
    test = write_jsonl(tmp_path / "test.jsonl", rows[40:])
    task = build(train=train, source={"test": test})
    assert len(task.test_rows()) == 20
    learned, watched = task.learning_rows()
    assert len(learned) + len(watched) == 40


def test_prompts_alone_need_no_answer(tmp_path: Path) -> None:
    prompts = write_jsonl(tmp_path / "p.jsonl", [{"id": i, "prompt": f"Why {i}?"} for i in range(6)])
    task = build(source={"prompts": prompts}, rows={"train": 4})
    assert len(task.prompt_rows()) == 4
    assert {row.id for row in task.prompt_rows()} <= set("012345")
    with pytest.raises(LwfError, match=r"task mine: source.train: missing, and train rows are asked for"):
        task.learning_rows()
    train_only = build(train=write_jsonl(tmp_path / "t.jsonl", [{"prompt": f"Why {i}?"} for i in range(30)]))
    assert 0 < len(train_only.prompt_rows()) < 30


def test_templates_and_choices(tmp_path: Path) -> None:
    rows = [{"text": f"t{i} ", "label": ["good", "bad"][i % 2], "year": 2000 + i} for i in range(30)]
    keys = {"prompt": "{year}: {{x}} {text}", "target": "{label}", "scorer": "choice", "choices": ["good", "bad"]}
    task = build(train=write_jsonl(tmp_path / "t.jsonl", rows), **keys)
    row = task.test_rows()[0]
    assert re.fullmatch(r"20\d\d: \{x\} t\d+", row.prompt)
    assert row.answer == row.target in row.choices
    bad = write_jsonl(tmp_path / "u.jsonl", [*rows, {"text": "t", "label": "fine", "year": 1}])
    with pytest.raises(LwfError, match=r"u.jsonl, line 31: .*'fine'.* good, bad"):
        build(train=bad, source={"test": bad, "validation": bad}, **keys).learning_rows()
    with pytest.raises(LwfError, match=r"u.jsonl, line 31: .*'fine'.* good, bad"):
        build(train=bad, source={"test": bad}, **keys).test_rows()


BAD_JSONL = {
    "missing column": (b'{"prompt": "a", "answer": "1"}\n{"prompt": "b"}\n', r"line 2: no target: .*column 'answer'"),
    "null answer": (b'{"prompt": "a", "answer": null}\n', r"line 1: no target: column 'answer' is empty"),
    "blank answer": (b'{"prompt": "a", "answer": "  "}\n', r"line 1: no target: column 'answer' is empty"),
    "blank prompt": (b'\n{"prompt": "\\t", "answer": "1"}\n', r"line 2: no prompt: column 'prompt' is empty"),
    "list": (b'{"prompt": ["a"], "answer": "1"}\n', r"line 1: no prompt: column 'prompt' holds a list"),
    "not JSON": (b'{"prompt": "a", "answer": "1"}\n{"prompt": \n', r"line 2: not JSON: Expecting value at character"),
    "not an object": (b'{"prompt": "a", "answer": "1"}\n["a"]\n', r"line 2: each line must be one object"),
    "not UTF-8": (b'{"prompt": "a", "answer": "1"}\n{"prompt": "\xe9"}', r"line 2: byte 43 of the file \(0xe9\)"),
    "half a pair": (b'{"prompt": "a \\ud83d", "answer": "1"}\n', r"line 1: '.ud83d' is half of a surrogate pair"),
    "same id": (
        b'{"id": 7, "prompt": "a", "answer": "1"}\n{"id": "7", "prompt": "b", "answer": "1"}\n',
        r"line 2: id '7' was used before, at .*bad.jsonl, line 1",
    ),
    "empty id": (b'{"id": "", "prompt": "a", "answer": "1"}\n', r"line 1: column 'id' is empty"),
    "empty file": (b"", r"bad.jsonl: the file has no rows"),
    "only blank lines": (b"\n\n", r"bad.jsonl: the file has no rows"),
}


@pytest.mark.parametrize("case", BAD_JSONL)
def test_bad_jsonl(case: str, tmp_path: Path) -> None:
    content, message = BAD_JSONL[case]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    task = build(train=path, source={"test": path, "validation": path})
    with pytest.raises(LwfError, match=message) as caught:
        task.test_rows()
    assert str(caught.value).startswith(f"task mine: {path}")


BAD_CSV = {
    "short row": (b"prompt,answer\na,1\nb\n", r"bad.csv, line 3: 1 cells where the first line names 2 columns"),
    "long row": (b"prompt,answer\na,1,2\n", r"bad.csv, line 2: 3 cells where the first line names 2 columns"),
    "blank answer": (b'prompt,answer\n"a\nb",1\nc,\n', r"bad.csv, line 4: no target: column 'answer' is empty"),
    "no such column": (b"question,answer\na,1\n", r"bad.csv, line 2: no prompt: .*'prompt'.* answer, question"),
    "header only": (b"prompt,answer\n", r"bad.csv: the file has no rows"),
    "column twice": (b"prompt,prompt\na,1\n", r"bad.csv, line 1: column 'prompt' appears twice"),
    "open quote": (b'prompt,answer\n"a,1\n', r"bad.csv, line 2: not CSV: unexpected end of data"),
    "not UTF-8": (b"prompt,answer\na,1\n\xff,2\n", r"bad.csv, line 3: byte 18 of the file \(0xff\) is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(case: str, tmp_path: Path) -> None:
    content, message = BAD_CSV[case]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(LwfError, match=message):
        build(train=path, source={"test": path}).test_rows()


def test_bad_parquet_suffix_and_path(tmp_path: Path) -> None:
    broken = tmp_path / "bad.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(LwfError, match=r"bad.parquet: not Parquet: "):
        build(source={"test": broken}).test_rows()
    empty = write_parquet(tmp_path / "null.parquet", [{"prompt": "a", "answer": "1"}, {"prompt": "b", "answer": None}])
    with pytest.raises(LwfError, match=r"null.parquet, row 2: no target: column 'answer' is empty"):
        build(source={"test": empty}).test_rows()
    book = tmp_path / "t.xlsx"
    book.write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(
        LwfError, match=r"t.xlsx: .*ending '.xlsx' .* .jsonl, .*zip archive, as spreadsheets are: save it"
    ):
        build(source={"test": book}).test_rows()
    with pytest.raises(LwfError, match=r"gone.jsonl: the file does not exist"):
        build(source={"test": tmp_path / "gone.jsonl"}).test_rows()


def test_the_same_id_in_train_and_validation(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "t.jsonl", [{"id": "x", "prompt": "a", "answer": "1"}])
    other = write_jsonl(tmp_path / "v.jsonl", [{"id": "x", "prompt": "b", "answer": "1"}])
    task = build(train=train, source={"validation": other, "test": other})
    with pytest.raises(LwfError, match=r"v.jsonl, line 1: id 'x' was used before, at .*t.jsonl, line 1"):
        task.learning_rows()


def test_too_few_rows_to_part(tmp_path: Path) -> None:
    task = build(train=write_jsonl(tmp_path / "t.jsonl", pairs(1)))
    with pytest.raises(LwfError, match=r"test: no row is left .* 1 rows of train .* give source.test"):
        task.test_rows()


def test_an_answer_that_its_scorer_cannot_read(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"prompt": "a", "answer": "7"}, {"prompt": "b", "answer": "seven"}])
    with pytest.raises(LwfError, match=r"t.jsonl, line 2: .*'numeric' does not accept .*'seven'; it must hold a numb"):
        build(source={"test": path}, scorer="numeric").test_rows()
