"""Writes a commented study, and prompts to forget with, for somebody's own data."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lwf_assets.errors import LwfError
from lwf_assets.starting.guess import Guess, guess_task
from lwf_assets.study.file import load_study
from lwf_assets.study.model_source import model_files
from lwf_assets.tasks.conversations import read_conversation
from lwf_assets.tasks.rows import SourceRow
from lwf_assets.tasks.settings import TaskSettings
from lwf_assets.tasks.task import Task

STUDY, PROMPTS = "study.yaml", "forgetting_prompts.jsonl"
_MOST_PROMPTS, _BATCH, _LEAST_STEPS, _MOST_STEPS = 32, 8, 30, 300
_PLAIN = re.compile(r"[^a-z0-9_]+")


@dataclass(frozen=True)
class FirstStudy:
    """What was written, and what was guessed for it."""

    study: Path
    prompts: Path
    guess: Guess


def write_first_study(folder: Path, data: Path, *, model: str | None = None, revision: str | None = None) -> FirstStudy:
    """Write `study.yaml` and `forgetting_prompts.jsonl` into `folder`, which is made if need be.

    Args:
        folder: where to.
        data: the rows to learn from.
        model: a directory with a model, or the id of one on the hub; None for the model that pip brings.
        revision: the commit of a model on the hub.

    Raises:
        LwfError: a file is there already, the data cannot be read or used, or the model is none. Nothing is written.
    """
    study, prompts = folder / STUDY, folder / PROMPTS
    for path in (study, prompts):
        if path.exists():
            raise LwfError(f"{path}: is there already; remove it, or give another directory")
    source, chat = _model(model, revision, folder)
    guess, rows = guess_task(data)
    asked = _prompts(guess, data, rows)
    count = max(1, round(0.8 * _count(data, guess)))
    steps = max(_LEAST_STEPS, min(_MOST_STEPS, 3 * count // _BATCH))
    text = (
        _environment()
        .get_template("study.yaml.j2")
        .render(
            name=_name(data),
            task=_name(data),
            data_name=data.name,
            data=json.dumps(_relative(data, folder)),
            model_source=source,
            chat=chat,
            guess=guess,
            prompts=len(asked),
            steps=steps,
            passes=f"{steps * _BATCH / count:.2g} passes",
            fisher=min(256, count),
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    prompts.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked), encoding="utf-8")
    study.write_text(text, encoding="utf-8")
    try:
        load_study(study)
    except LwfError:
        study.unlink()
        prompts.unlink()
        raise
    return FirstStudy(study, prompts, guess)


def _model(model: str | None, revision: str | None, folder: Path) -> tuple[str | None, bool]:
    """The source of the model as YAML, and whether a plain question is best put as a conversation."""
    if model is None:
        return None, True
    path = Path(model).expanduser()
    if path.is_dir():
        model_files(path)
        return f"{{kind: directory, path: {json.dumps(_relative(path, folder))}}}", has_chat_template(path)
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise LwfError(f"--model: {model}: no such directory, and not the id of a model on the hub (owner/name)")
    if revision is None:
        raise LwfError(
            f"--revision: missing; give the commit of {model} to use (its page on the hub lists them under 'Files and "
            "versions'), so that a rerun uses the same model"
        )
    return f"{{kind: hub, id: {model}, revision: {json.dumps(revision)}}}", False


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer of a model directory has a chat template."""
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_text()).get("chat_template"))
    except (OSError, ValueError):
        return False


def _prompts(guess: Guess, data: Path, rows: Sequence[SourceRow]) -> list[dict[str, Any]]:
    """Some of the rows' own questions, evenly spread, each once."""
    if guess.is_conversation:
        turns = [read_conversation(row.columns, place=row.place).turns for row in rows]
        asked: list[dict[str, Any]] = [{"messages": list(of_row)} for of_row in turns]
    else:
        values = {"source": {"kind": "file", "train": data}, "prompt": guess.prompt, "target": guess.target}
        choices = {"choices": guess.choices, "scorer": "choice"} if guess.choices else {}
        task = Task(_name(data), TaskSettings.model_validate({**values, **choices}))
        asked = [{"prompt": row.prompt} for row in task.prompt_rows()[: len(rows)]]
    unique = [json.loads(text) for text in dict.fromkeys(json.dumps(row) for row in asked)]
    count = min(_MOST_PROMPTS, len(unique))
    return [unique[index * len(unique) // count] for index in range(count)]


def _count(data: Path, guess: Guess) -> int:
    """How many rows there are; of a large file only that there are many."""
    from itertools import islice

    from lwf_assets.tasks.files.read import read_files

    return sum(1 for _ in islice(read_files([data], origin="train"), 100_000))


def _relative(path: Path, folder: Path) -> str:
    """As the study file writes it: relative where it lies below or beside the folder."""
    absolute, base = path.expanduser().resolve(), folder.resolve()
    relative = os.path.relpath(absolute, base)
    return str(absolute) if relative.count("..") > 2 else relative


def _name(data: Path) -> str:
    stem = data.name.split(".")[0] if data.is_file() else data.name
    plain = _PLAIN.sub("_", stem.lower()).strip("_")
    return plain if plain and not plain[0].isdigit() and plain != "mixed" else f"task_{plain}".rstrip("_")


def _environment() -> Environment:
    # Not HTML: a file for people.
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
