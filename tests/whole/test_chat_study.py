"""A study of conversations, built whole on the tiny model: what is shown to the model is what its template writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from chat_templates import CHATML, LLAMA3
from once import made_once
from tiny import tiny_tokenizer
from transformers import AutoTokenizer
from world import World, new_world

from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import cells
from lwf_assets.store.home import Home
from lwf_assets.store.layout import PROBES
from lwf_assets.store.tables import read_rows

pytestmark = pytest.mark.slow


def chat_world(folder: Path) -> World:
    """Chat to learn and to forget, and a forgetting task of plain prompts beside it."""
    world = new_world(folder)
    (world.folder / "chatml.jinja").write_text(CHATML)
    rows = [
        {"messages": [{"role": "user", "content": f"{n} more?"}, {"role": "assistant", "content": str(n + 1)}]}
        for n in range(40)
    ]
    (world.folder / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"messages": [{"role": "user", "content": f"teeth {n}?"}]} for n in range(6)]
    (world.folder / "asked.json").write_text(json.dumps(asked))
    world.values["model"]["chat_template"] = "chatml.jinja"
    world.values["learning_tasks"] = {"chat": {"source": {"kind": "file", "train": "chat.jsonl"}, "max_new_tokens": 4}}
    world.values["forgetting_tasks"]["teeth"] = {"source": {"kind": "file", "prompts": "asked.json"}}
    world.values["mixed"] = True
    world.values["probe"] = {"relearning_steps": 1, "quantization": [8], "prompt_forms": ["Please.\n{prompt}"]}
    return world


def make(folder: Path) -> None:
    """The study, as far as the tests look at it."""
    world = chat_world(folder)
    wanted = ("eval_report[teeth|chat]", "forgetting_probe[chat|lwf.teeth]", "self_generated_corpus[mixed]")
    world.build(only=[cell for cell in cells(world.study) if str(cell) in wanted])


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A copy of the built study; its template is changed."""
    folder = tmp_path_factory.mktemp("chat") / "copy"
    shutil.copytree(made_once(tmp_path_factory, "chat", make), folder)
    return chat_world(folder)


def folder_of(world: World, cell: str) -> Path:
    found = next(step.cell for step in world.plan().steps if str(step.cell) == cell)
    return world.home.store.built(found.asset, found.partition).path


def rows_of(world: World, cell: str, name: str) -> list[dict[str, Any]]:
    return read_rows(folder_of(world, cell) / name)


def test_the_template_goes_with_the_model(chat: World) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat.artifact("base_model"))
    assert tokenizer.chat_template == CHATML


def test_the_models_own_samples_follow_its_template(chat: World) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat.artifact("base_model"))
    for row in rows_of(chat, "self_generated_corpus[mixed]", "corpus.parquet"):
        if row["source_task"] == "teeth":
            expected = tokenizer.apply_chat_template(
                row["messages"], add_generation_prompt=True, tokenize=True, return_dict=False
            )
            assert tokenizer.decode(row["prompt_ids"]).endswith("?<|im_end|>\n<|im_start|>assistant\n")
            assert row["prompt"].startswith("teeth")
        else:
            assert row["messages"] is None
            expected = tokenizer(row["prompt"])["input_ids"]
        assert row["prompt_ids"] == expected
    assert "messages" not in rows_of(chat, "self_generated_corpus[minds]", "corpus.parquet")[0]
    assert "messages" in rows_of(chat, "scored_forget_set[teeth|chat]", "scored_forget_set.parquet")[0]


def test_what_is_learned_and_tested_are_conversations(chat: World) -> None:
    (first, *_) = rows_of(chat, "learning_data[chat]", "train.parquet")
    assert first["messages"] == [{"role": "user", "content": first["prompt"]}]
    (first, *_) = rows_of(chat, "test_data[chat]", "test.parquet")
    assert first["messages"] == [{"role": "user", "content": first["prompt"]}]
    assert first["answer"] == str(int(first["prompt"].split()[0]) + 1)


def test_the_probe_asks_the_last_turn_in_another_form(chat: World) -> None:
    rows = rows_of(chat, "forgetting_probe[chat|lwf.teeth]", PROBES)
    assert [row["variant"] for row in rows if row["probe"] == "format"] == ["Please.\n{prompt}"]


def test_another_template_makes_the_base_stale_and_a_missing_one_is_an_error(chat: World) -> None:
    template = chat.folder / "chatml.jinja"
    before = chat.stale()
    assert "base_model" not in before
    template.write_text(LLAMA3)
    try:
        assert "base_model" in chat.stale()
        template.unlink()
        with pytest.raises(LwfError, match=r"model.chat_template: .*chatml.jinja: the file does not exist"):
            chat.stale()
    finally:
        template.write_text(CHATML)
    assert chat.stale() == before


def test_a_template_that_cannot_be_used_names_the_file(chat: World, tmp_path: Path) -> None:
    world = World(chat.folder, Home(tmp_path), chat.values)
    template = chat.folder / "chatml.jinja"
    template.write_text("{% for message in messages %}")
    try:
        with pytest.raises(LwfError, match=r"model.chat_template: .*chatml.jinja is no chat template that can be used"):
            world.build()
    finally:
        template.write_text(CHATML)


def test_a_model_without_a_template_says_which_key_is_missing(tmp_path: Path) -> None:
    world = chat_world(tmp_path)
    del world.values["model"]["chat_template"]
    assert tiny_tokenizer().chat_template is None
    with pytest.raises(LwfError, match=r"is a conversation, but the model's tokenizer has no chat template"):
        world.build()
