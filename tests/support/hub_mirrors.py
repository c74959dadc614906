"""Local mirrors of the paper's data sets: the hub's layouts, columns and types, a few rows each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def gsm8k_row(i: int) -> dict[str, Any]:
    answer = f"She has {i}+1000=<<{i}+1000={i + 1000}>>{i + 1000} eggs.\n#### {i + 1000:,}"
    return {"question": f"Ann has {i} eggs and buys 1000. How many has she?", "answer": answer}


def qasc_row(i: int, *, labelled: bool = True) -> dict[str, Any]:
    return {
        "id": f"Q{i}",
        "question": f"What can trigger response {i}?",
        "choices": {"text": [f"thing {i}-{letter}" for letter in "ABCDEFGH"], "label": list("ABCDEFGH")},
        "answerKey": "ABCDEFGH"[i % 8] if labelled else "",
        "fact1": f"SECRET FACT one {i}" if labelled else "",
        "fact2": f"SECRET FACT two {i}" if labelled else "",
        "combinedfact": f"SECRET FACT three {i}" if labelled else "",
        "formatted_question": f"What can trigger response {i}? (A) thing",
    }


def sst5_row(i: int) -> dict[str, Any]:
    words = ["very negative", "negative", "neutral", "positive", "very positive"]
    return {"text": f"a stirring , funny film number {i} .", "label": i % 5, "label_text": words[i % 5]}


def medmcqa_row(i: int, *, subject: str = "Dental", labelled: bool = True) -> dict[str, Any]:
    return {
        "id": f"uuid-{subject}-{i}",
        "question": f"Tooth {i} erupts at what age?",
        **{f"op{letter}": f"{i} years {letter}" for letter in "abcd"},
        "cop": i % 4 if labelled else -1,
        "choice_type": "single",
        "exp": "Because." if i % 2 else None,
        "subject_name": subject,
        "topic_name": None,
    }


def mmlu_row(i: int, subject: str) -> dict[str, Any]:
    choices = [f"option {i}{letter}" for letter in "abcd"]
    return {"question": f"Who founded school {i}? ", "subject": subject, "choices": choices, "answer": i % 4}


def _gsm8k(root: Path) -> None:
    write_parquet(root / "main/train-00000-of-00001.parquet", [gsm8k_row(i) for i in range(60)])
    write_parquet(root / "main/test-00000-of-00001.parquet", [gsm8k_row(i) for i in range(100, 110)])
    _configs(root, {"main": ["train", "test"]})


def _qasc(root: Path) -> None:
    write_parquet(root / "data/train-00000-of-00001.parquet", [qasc_row(i) for i in range(60)])
    write_parquet(root / "data/validation-00000-of-00001.parquet", [qasc_row(i) for i in range(100, 112)])
    write_parquet(root / "data/test-00000-of-00001.parquet", [qasc_row(i, labelled=False) for i in range(200, 205)])


def _sst5(root: Path) -> None:
    for name, start in (("train", 0), ("dev", 100), ("test", 200)):
        write_jsonl(root / f"{name}.jsonl", [sst5_row(i) for i in range(start, start + 20)])


def _dental(root: Path) -> None:
    train = [medmcqa_row(i, subject="Dental" if i % 2 else "Anatomy") for i in range(120)]
    validation = [medmcqa_row(i, subject="Dental" if i % 2 else "Anatomy") for i in range(200, 220)]
    write_parquet(root / "data/train-00000-of-00001.parquet", train)
    write_parquet(root / "data/validation-00000-of-00001.parquet", validation)
    test = [medmcqa_row(i, labelled=False) for i in range(300, 310)]
    write_parquet(root / "data/test-00000-of-00001.parquet", test)


def _psychol(root: Path) -> None:
    schema = pa.schema(
        [
            ("question", pa.string()),
            ("subject", pa.string()),
            ("choices", pa.list_(pa.string())),
            ("answer", pa.int64()),
        ]
    )
    subjects = ["professional_psychology", "high_school_psychology"]
    for offset, subject in enumerate(subjects):
        for split, start, count in (("dev", 0, 5), ("validation", 10, 9), ("test", 30, 12)):
            rows = [mmlu_row(1000 * offset + i, subject) for i in range(start, start + count)]
            write_parquet(root / f"{subject}/{split}-00000-of-00001.parquet", rows, schema)
    _configs(root, {subject: ["dev", "validation", "test"] for subject in subjects}, class_label=True)


def _configs(root: Path, configs: dict[str, list[str]], *, class_label: bool = False) -> None:
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    if class_label:  # As on the hub, where `answer` is a ClassLabel over A to D.
        lines += ["dataset_info:"]
        for config in configs:
            lines += [f"- config_name: {config}", "  features:"]
            for name, kind in (("question", "string"), ("subject", "string")):
                lines += [f"  - name: {name}", f"    dtype: {kind}"]
            lines += ["  - name: choices", "    sequence: string", "  - name: answer", "    dtype:"]
            lines += ["      class_label:", "        names:"]
            lines += [f"          '{index}': {letter}" for index, letter in enumerate("ABCD")]
    (root / "README.md").write_text("\n".join([*lines, "---", ""]))


WRITERS = {"gsm8k": _gsm8k, "qasc": _qasc, "sst5": _sst5, "dental": _dental, "psychol": _psychol}
