"""`lwf init` and `lwf check`: a study for one's own data, and what the model will be shown of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from chat_templates import CHATML
from tiny import save_tiny_model
from transformers import AutoTokenizer

from lwf_assets.errors import LwfError
from lwf_assets.starting.first_study import write_first_study
from lwf_assets.starting.look import look_at
from lwf_assets.study.file import load_study
from lwf_assets.study.sections import DirectoryModel, HubModel


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = save_tiny_model(tmp_path / "models" / "mine")
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "tickets.csv"
    path.parent.mkdir()
    path.write_text("id;body;team\n" + "".join(f"t{n};My bill {n};{'AB'[n % 2]}\n" for n in range(60)))
    return path


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    path = tmp_path / "chat.jsonl"
    talks = [
        [{"role": "user", "content": f"{n} more?"}, {"role": "assistant", "content": f"It is {n} and a half."}]
        for n in range(40)
    ]
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    return path


def test_a_study_of_columns(tmp_path: Path, tickets: Path, model: Path) -> None:
    made = write_first_study(tmp_path / "mine", tickets, model=str(model))
    study = load_study(made.study)
    (task,) = study.learning_tasks.values()
    assert (task.prompt, task.target, task.scorer, task.chat) == ("{body}", "{team}", "label", True)
    assert isinstance(study.model.source, DirectoryModel)
    assert study.model.source.path == model
    assert "../data/tickets.csv" in made.study.read_text()  # both can be moved together
    asked = [json.loads(line) for line in made.prompts.read_text().splitlines()]
    assert 0 < len(asked) <= 32
    assert {*asked[0]} == {"prompt"}
    assert "team" not in made.prompts.read_text()


def test_a_model_without_a_chat_template_is_asked_in_plain_text(tmp_path: Path, tickets: Path, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    made = write_first_study(tmp_path / "mine", tickets, model=str(model))
    (task,) = load_study(made.study).learning_tasks.values()
    assert task.chat is None
    assert "\n    chat:" not in made.study.read_text()


def test_a_study_of_conversations(tmp_path: Path, chat: Path, model: Path) -> None:
    made = write_first_study(tmp_path / "mine", chat, model=str(model))
    (task,) = load_study(made.study).learning_tasks.values()
    assert task.reads_conversations
    asked = [json.loads(line) for line in made.prompts.read_text().splitlines()]
    assert all(turn["role"] == "user" for row in asked for turn in row["messages"])


def test_a_model_of_the_hub_needs_its_commit(tmp_path: Path, tickets: Path) -> None:
    with pytest.raises(LwfError, match="--revision: missing; give the commit of owner/name"):
        write_first_study(tmp_path / "mine", tickets, model="owner/name")
    made = write_first_study(tmp_path / "mine", tickets, model="owner/name", revision="0" * 40)
    assert load_study(made.study).model.source == HubModel(kind="hub", id="owner/name", revision="0" * 40)


def test_nothing_is_overwritten_or_half_written(tmp_path: Path, tickets: Path, model: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "study.yaml").write_text("mine\n")
    with pytest.raises(LwfError, match=r"study.yaml: is there already"):
        write_first_study(folder, tickets, model=str(model))
    (folder / "study.yaml").unlink()
    tickets.write_text("text\na\n")
    for problem in (tickets, tmp_path / "nowhere.csv"):
        with pytest.raises(LwfError):
            write_first_study(folder, problem, model=str(model))
    with pytest.raises(LwfError, match=r"--model: ./nowhere: no such directory"):
        write_first_study(folder, tickets, model="./nowhere")
    assert list(folder.iterdir()) == []


def test_what_is_shown_is_what_the_template_writes(tmp_path: Path, chat: Path, model: Path) -> None:
    made = write_first_study(tmp_path / "mine", chat, model=str(model))
    learning, forgetting = look_at(load_study(made.study))
    tokenizer = AutoTokenizer.from_pretrained(model)
    turns = [{"role": "user", "content": "0 more?"}]
    by_id = {sample.id: sample for sample in learning.samples}
    first = by_id.get("train-0") or learning.samples[0]
    number = first.prompt.split("user\n")[1].split(" ")[0]
    turns[0]["content"] = f"{number} more?"
    assert first.prompt == tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert first.target == f"It is {number} and a half.<|im_end|>\n"
    assert first.prompt_tokens == len(first.prompt)  # a token a byte
    assert sum(learning.rows.values()) == 40
    assert (learning.context, learning.longest.cut, learning.too_long, learning.shared) == (256, 0, [], [])
    assert forgetting.role == "forgetting"
    assert forgetting.samples[0].target == ""


def test_what_is_odd_is_said(tmp_path: Path, model: Path) -> None:
    rows = [{"prompt": f"p{n % 30}", "answer": "a"} for n in range(40)] + [{"prompt": "x" * 300, "answer": "a"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text('{"prompt": "p3", "answer": "a"}\n{"prompt": "new", "answer": "a"}\n')
    made = write_first_study(tmp_path / "mine", tmp_path / "rows.jsonl", model=str(model))
    text = made.study.read_text().replace("train: ", "test: ../test.jsonl, train: ")
    made.study.write_text(text.replace("    chat: true", "    chat: false"))
    environment = {**os.environ, "COLUMNS": "80", "LWF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "dagster_project.cli", "check", "--study", str(made.study)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "prompts that are refused by a build, for they do not fit (model.max_length): train-40" in ran.stdout
    assert re.search(r"prompts in two splits: (train|validation)-3 and test-0", ran.stdout)
    assert "longest: train-40, 303 of 256 tokens" in ran.stdout
    assert "rows that repeat another one of the same split:" in ran.stdout
    as_json = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    shown = json.loads(as_json.stdout)["tasks"]
    assert [task["role"] for task in shown] == ["learning", "forgetting"]
    assert shown[0]["samples"][0]["target"] == " a<end>"
