"""Files as people have them: formats, compression, several files at once, numbers, and endings that are wrong."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hub_mirrors import write_jsonl, write_parquet

from lwf_assets.errors import LwfError
from lwf_assets.study.file import load_study
from lwf_assets.tasks import Task, TaskSettings
from lwf_assets.tasks.columns import plain_numbers
from lwf_assets.tasks.fingerprints import fingerprint
from lwf_assets.tasks.rows import SourceRow

PAIRS = [{"prompt": f"What is {i}; or, {i} + 1?", "answer": f"n{i + 1}"} for i in range(12)]


def learned(source: dict[str, Any], **keys: Any) -> list[tuple[str, str, str]]:
    settings = TaskSettings.model_validate({"source": {"kind": "file", **source}, **keys})
    train, _ = Task("mine", settings).learning_rows()
    return [(row.id, row.prompt, row.target) for row in train]


def scored(path: Path, **keys: Any) -> list[tuple[str, str]]:
    settings = TaskSettings.model_validate({"source": {"kind": "file", "test": path}, **keys})
    return [(row.prompt, row.answer) for row in Task("mine", settings).test_rows()]


def delimited(delimiter: str) -> bytes:
    lines = [f"prompt{delimiter}answer", *(f'"{row["prompt"]}"{delimiter}{row["answer"]}' for row in PAIRS)]
    return "\r\n".join(lines).encode()


WRITTEN = {
    "a.jsonl": "\n".join(map(json.dumps, PAIRS)).encode(),
    "a.ndjson": "\n".join(map(json.dumps, PAIRS)).encode(),
    "a.json": json.dumps(PAIRS, indent=1).encode(),
    "b.json": json.dumps({"version": 2, "data": PAIRS}).encode(),
    "a.csv": delimited(","),
    "b.csv": delimited(";"),
    "c.csv": delimited("\t"),
    "a.tsv": delimited("\t"),
}


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", [*WRITTEN, "a.parquet"])
def test_every_format_gives_the_same_rows(name: str, compression: str, tmp_path: Path) -> None:
    content = WRITTEN.get(name) or write_parquet(tmp_path / name, PAIRS).read_bytes()
    if compression == ".gz":
        content = gzip.compress(content)
    elif compression == ".zst":
        content = pyarrow.compress(content, codec="zstd", asbytes=True)
    path = tmp_path / f"{name}{compression}"
    path.write_bytes(content)
    assert scored(path) == [(row["prompt"], row["answer"]) for row in PAIRS]


def test_text_is_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("Why is the sky blue?\n\n  Indented\u2028here \n", encoding="utf-8")
    settings = TaskSettings.model_validate({"source": {"kind": "file", "prompts": path}})
    rows = Task("mine", settings).prompt_rows()
    assert [(row.id, row.prompt) for row in rows] == [
        ("prompts-0", "Why is the sky blue?"),
        ("prompts-1", "  Indented\u2028here"),
    ]
    with pytest.raises(LwfError, match=r"prompts.txt, line 1: no target: unknown column 'answer'"):
        scored(path)


def test_several_files_a_pattern_and_a_directory_give_the_same_rows(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    parts = [write_jsonl(folder / f"part-{n}.jsonl", PAIRS[6 * n : 6 * n + 6]) for n in range(2)]
    (folder / "README.md").write_text("not data")
    other = write_jsonl(tmp_path / "v.jsonl", [{"prompt": "v", "answer": "v"}])
    rest = {"validation": other, "test": other}
    ways = [parts, [parts[0], folder / "*1.jsonl"], folder / "part-*.jsonl", folder, tmp_path / "*" / "part-?.jsonl"]
    found = [learned({"train": way, **rest}) for way in ways]
    assert all(rows == found[0] for rows in found)
    assert [row[0] for row in found[0]][5:7] == ["train-part-0.jsonl-5", "train-part-1.jsonl-0"]
    described = [
        fingerprint(
            "m", TaskSettings.model_validate({"source": {"kind": "file", "train": w, **rest}}), "learning", hash
        )
        for w in ways
    ]
    assert all(values == described[0] for values in described)

    write_jsonl(folder / "part-05.jsonl", [{"prompt": "new", "answer": "new"}])  # between the two
    assert set(found[0]) < set(learned({"train": folder, **rest}))
    with pytest.raises(LwfError, match=r"data/\*.csv: no file fits this pattern"):
        learned({"train": folder / "*.csv", **rest})
    (tmp_path / "empty").mkdir()
    with pytest.raises(LwfError, match=r"empty: the directory has no file that ends in .jsonl, "):
        learned({"train": tmp_path / "empty", **rest})
    with pytest.raises(ValueError, match="an empty list names no file"):
        learned({"train": [], **rest})


def test_a_compressed_file_is_the_same_only_if_read_the_same_way(tmp_path: Path) -> None:
    content = gzip.compress(WRITTEN["a.csv"])
    described = []
    for name in ("a.csv.gz", "a.tsv.gz", "a.json.gz"):
        path = tmp_path / name
        path.write_bytes(content)
        settings = TaskSettings.model_validate({"source": {"kind": "file", "test": path}})
        described.append(json.dumps(fingerprint("m", settings, "test", lambda file: str(len(file.read_bytes())))))
    assert len(set(described)) == 3


def test_lists_and_patterns_are_relative_to_the_file_that_writes_them(tmp_path: Path) -> None:
    (tmp_path / "base" / "data").mkdir(parents=True)
    write_jsonl(tmp_path / "base" / "data" / "a.jsonl", PAIRS)
    (tmp_path / "base" / "base.yaml").write_text(
        "name: s\nmodel: {source: {kind: directory, path: m}}\ntraining: {max_steps: 1}\nlearning_tasks:\n"
        "  mine: {source: {kind: file, train: [data/*.jsonl, data/a.jsonl]}}\n"
        "forgetting_tasks:\n  teeth: {source: {kind: file, prompts: data}}\n"
    )
    (tmp_path / "study.yaml").write_text("extends: base/base.yaml\n")
    study = load_study(tmp_path / "study.yaml")
    assert len(Task("mine", study.learning_tasks["mine"]).prompt_rows()) > 5
    assert len(Task("teeth", study.forgetting_tasks["teeth"]).prompt_rows()) == 12


MISNAMED = {
    "array": ("a.jsonl", json.dumps(PAIRS).encode(), r"line 1: .*; this is a JSON array: name it .json$"),
    "spread array": ("a.ndjson", json.dumps(PAIRS, indent=1).encode(), r"this is a JSON array: name it .json$"),
    "spread object": (
        "a.jsonl",
        json.dumps({"data": PAIRS}, indent=1).encode(),
        r"this is a JSON object over several lines: name it .json$",
    ),
    "lines": ("a.json", WRITTEN["a.jsonl"], r"this is JSON Lines, one object a line: name it .jsonl$"),
    "lines as csv": ("a.csv", WRITTEN["a.jsonl"], r"this is JSON Lines, one object a line: name it .jsonl$"),
    "lines without a known ending": ("a.data", WRITTEN["a.jsonl"], r"'.data' cannot be read.*name it .jsonl$"),
    "lines as text": ("a.txt", WRITTEN["a.jsonl"], r"a.txt: not text; this is JSON Lines, .*: name it .jsonl$"),
    "gzip": ("a.jsonl", gzip.compress(WRITTEN["a.jsonl"]), r"compressed with gzip: let its name end in .jsonl.gz$"),
    "not gzip": ("a.jsonl.gz", WRITTEN["a.jsonl"], r"cannot be unpacked as gzip"),
    "cut gzip": ("a.jsonl.gz", gzip.compress(WRITTEN["a.jsonl"])[:-12], r"a.jsonl.gz: cannot be unpacked as gzip"),
    "zstd": ("a.csv", pyarrow.compress(b"a,b\n", codec="zstd", asbytes=True), r"let its name end in .csv.zst$"),
}


@pytest.mark.parametrize("case", MISNAMED)
def test_a_wrong_ending_is_told(case: str, tmp_path: Path) -> None:
    name, content, message = MISNAMED[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LwfError, match=message) as caught:
        scored(path)
    assert str(caught.value).startswith(f"task mine: {path}")


def test_parquet_under_another_name(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", PAIRS).rename(tmp_path / "a.csv")
    with pytest.raises(LwfError, match=r"a.csv.*; this is Parquet: name it .parquet$"):
        scored(path)


BAD_JSON = {
    "two lists": ('{"train": [], "test": []}', r"bad.json: rows must be in one list; .* 'train', 'test'"),
    "no list": ('{"prompt": "a"}', r"bad.json: rows must be in one list; .* none"),
    "a text": ('"prompt"', r"bad.json: must hold one list of objects"),
    "a row that is none": ('[{"prompt": "a", "answer": "b"}, "c"]', r"bad.json, row 2: .* one object .*; it is c"),
    "no JSON": ('[\n{"prompt": "a",\n}]', r"bad.json, line 3: not JSON: .* at character 1"),
    "empty": ("[]", r"bad.json: the file has no rows"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json(case: str, tmp_path: Path) -> None:
    content, message = BAD_JSON[case]
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(LwfError, match=message):
        scored(path)


def test_a_refused_row_is_named_with_its_beginning(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Wha" + "t" * 90, "answer": ""}])
    with pytest.raises(LwfError) as caught:
        scored(path)
    assert str(caught.value).endswith(f"; the row begins {json.dumps({'prompt': 'Wha' + 't' * 90})[:60]}...")
    short = tmp_path / "a.csv"
    short.write_text("prompt,answer\nonly this\n")
    with pytest.raises(LwfError, match=r"line 2: 1 cells .*; the row begins only this$"):
        scored(short)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_a_missing_value(number: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"prompt": "a", "answer": 3}}\n{{"prompt": "b", "answer": {number}}}\n')
    with pytest.raises(LwfError, match=r"line 2: no target: column 'answer' is empty"):
        scored(path)
    path.write_text(f'{{"prompt": {number}, "answer": 3}}\n')
    with pytest.raises(LwfError, match=r"line 1: no prompt: column 'prompt' is empty"):
        scored(path)
    path.write_text(f'{{"context": {number}, "prompt": "b", "answer": 3}}\n')
    assert scored(path, prompt="{context}{prompt}") == [("b", "3")]
    path.write_text(f'{{"id": {number}, "prompt": "b", "answer": 3}}\n')
    with pytest.raises(LwfError, match=r"line 1: column 'id' is empty"):
        scored(path)


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ([0.0, 1.0, 2.0], ["0", "1", "2"]),
        ([0.0, 1.5, 2.0], ["0.0", "1.5", "2.0"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([-0.0, 1e15, 7.0], ["0", "1000000000000000", "7"]),
        ([1e300, 1.0, 2.0], ["1e+300", "1.0", "2.0"]),
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_column_of_whole_floats_is_written_in_whole_numbers(
    column: list[float], texts: list[str], ending: str, tmp_path: Path
) -> None:
    write = write_parquet if ending == "parquet" else write_jsonl
    rows = [{"id": value, "prompt": f"p{n}", "answer": value} for n, value in enumerate(column)]
    path = write(tmp_path / f"a.{ending}", rows)
    assert [answer for _, answer in scored(path)] == texts
    settings = TaskSettings.model_validate({"source": {"kind": "file", "test": path}})
    assert [row.id for row in Task("mine", settings).test_rows()] == texts


def test_a_missing_value_does_not_make_whole_numbers_floats(tmp_path: Path) -> None:
    # As pandas writes whole numbers with a hole.
    table = pyarrow.table({"year": [2001.0, math.nan, 2003.0], "prompt": ["a", "b", "c"], "answer": ["x", "y", "z"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [p for p, _ in scored(tmp_path / "a.parquet", prompt="{year} {prompt}")] == ["2001 a", " b", "2003 c"]


def test_nested_numbers_are_told_apart_by_their_place() -> None:
    rows = [
        SourceRow("here", str(n), {"a": {"b": 1.0 + n, "c": 0.5}, "list": [2.0, math.inf], "mixed": [1, 2.5], "t": "x"})
        for n in range(2)
    ]
    first, second = plain_numbers(rows)
    assert first.columns == {"a": {"b": 1, "c": 0.5}, "list": [2, None], "mixed": [1, 2.5], "t": "x"}
    assert repr(second.columns["a"]["b"]) == "2"
    assert rows[0].columns["a"]["b"] == 1.0
    assert plain_numbers(rows[:0]) == []
