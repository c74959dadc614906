"""Rows that are conversations: the shapes in which people have them, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from lwf_assets.errors import LwfError
from lwf_assets.tasks.rows import in_form
from lwf_assets.tasks.settings import TaskSettings
from lwf_assets.tasks.task import Task

USER = {"role": "user", "content": "How old are you?"}
ASSISTANT = {"role": "assistant", "content": " Three.\n"}
SYSTEM = {"role": "system", "content": "Be short."}
AGAIN = {"role": "user", "content": "And I?"}
ANSWER = {"role": "assistant", "content": "Four."}
MESSAGES = [SYSTEM, USER, ASSISTANT, AGAIN, ANSWER]
SHAREGPT = [
    {"from": {"user": "human", "assistant": "gpt"}.get(turn["role"], turn["role"]), "value": turn["content"]}
    for turn in MESSAGES
]
TRL = {"prompt": MESSAGES[:-1], "completion": [ANSWER]}


def task(tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> Task:
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "file", "train": path, "validation": path, "test": path}
    return Task("chat", TaskSettings.model_validate({"source": source, **settings}))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": MESSAGES},
        {"messages": MESSAGES, "prompt": "How old", "prompt_id": "7"},
        {"conversations": SHAREGPT},
        TRL,
        {"messages": [*MESSAGES, {"role": "user", "content": "Thanks"}]},
        {"conversation": MESSAGES},
        {"messages": json.dumps(MESSAGES)},
        {"system": "Be short.", "conversations": SHAREGPT[1:]},
        {"messages": [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in MESSAGES]},
    ],
    ids=[
        "messages",
        "beside a text",
        "ShareGPT",
        "prompt and completion",
        "a turn after",
        "one",
        "JSON in a table",
        "own column",
        "parts",
    ],
)
def test_a_conversation_needs_no_template(tmp_path: Path, row: dict[str, Any]) -> None:
    it = task(tmp_path, row)
    (test_row,) = it.test_rows()
    assert test_row.messages == tuple(MESSAGES[:-1])
    assert test_row.shown == test_row.messages
    assert (test_row.target, test_row.answer) == ("Four.", "Four.")
    assert test_row.prompt == "[system] Be short.\n[user] How old are you?\n[assistant]  Three.\n\n[user] And I?"
    assert json.loads(test_row.scorer_data)["stop"] == []
    (prompt_row,) = it.prompt_rows()
    assert (prompt_row.messages, prompt_row.prompt) == (test_row.messages, test_row.prompt)


def test_learning_rows_keep_the_answer_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    rows = [{"messages": [{**USER, "content": f"{USER['content']} {n}"}, ASSISTANT]} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = TaskSettings.model_validate({"source": {"kind": "file", "train": path}})
    train, validation = Task("chat", settings).learning_rows()
    for row in (*train, *validation):
        assert row.target == " Three.\n"
        assert row.messages == ({"role": "user", "content": row.prompt},)
    assert len(train) + len(validation) < 40  # the rest is for the test


def test_prompts_need_no_answer(tmp_path: Path) -> None:
    it = task(tmp_path, {"messages": [USER]}, {"messages": [USER, ASSISTANT]}, {"prompt": [SYSTEM, USER]})
    turns = [row.messages for row in it.prompt_rows()]
    assert turns == [(USER,), (USER,), (SYSTEM, USER)]
    with pytest.raises(LwfError, match=r"line 1: no target: the conversation has no turn of the assistant"):
        it.test_rows()


def test_columns_become_a_conversation_when_asked(tmp_path: Path) -> None:
    row = {"question": "How old?", "reply": " Three. "}
    settings = {"prompt": "Say: {question}", "target": "{reply}"}
    (plain,) = task(tmp_path, row, **settings).test_rows()
    assert plain.messages is None
    assert plain.shown == "Say: How old?"
    (chat,) = task(tmp_path, row, **settings, chat=True).test_rows()
    assert chat.messages == ({"role": "user", "content": "Say: How old?"},)
    assert (chat.prompt, chat.target) == ("Say: How old?", "Three.")
    (system,) = task(tmp_path, row, **settings, chat={"system": "Be short."}).test_rows()
    assert system.messages == (SYSTEM, {"role": "user", "content": "Say: How old?"})


def test_a_system_turn_is_for_conversations_that_have_none(tmp_path: Path) -> None:
    other = {"role": "system", "content": "Be kind."}
    it = task(tmp_path, {"messages": [USER]}, {"messages": [other, USER]}, chat={"system": "Be short."})
    assert [row.messages for row in it.prompt_rows()] == [(SYSTEM, USER), (other, USER)]


def test_templates_go_before_turns_and_false_reads_none(tmp_path: Path) -> None:
    row = {"messages": MESSAGES, "question": "Q?", "answer": "A."}
    (asked,) = task(tmp_path, row, prompt="{question}").test_rows()
    assert (asked.messages, asked.prompt, asked.target) == (None, "Q?", "A.")
    (asked,) = task(tmp_path, row, prompt="{question}", target="{messages[4].content}").test_rows()
    assert (asked.messages, asked.target) == (None, "Four.")
    with pytest.raises(LwfError, match="unknown column 'prompt'"):
        task(tmp_path, row, chat=False).test_rows()


def test_choices_of_conversations(tmp_path: Path) -> None:
    row = {"messages": [USER, {"role": "assistant", "content": " B\n"}], "options": ["red", "green"]}
    (chosen,) = task(tmp_path, row, choices="{options}", scorer="choice").test_rows()
    assert (chosen.target, chosen.answer, chosen.choices) == ("green", "green", ("red", "green"))
    (fixed,) = task(tmp_path, row, choices=["A", "B"], scorer="choice").test_rows()
    assert (fixed.target, fixed.choices) == ("B", ("A", "B"))
    with pytest.raises(LwfError, match="the target 'B' is not one of the choices yes, no"):
        task(tmp_path, row, choices=["yes", "no"], scorer="choice").test_rows()


def test_calls_of_tools_are_ignored_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "clock"}]}
    said = {"role": "tool", "content": "noon"}
    rows = [{"messages": [USER, call, said, ANSWER], "tools": [{"name": "clock"}]}, {"messages": [USER, call, ANSWER]}]
    with caplog.at_level(logging.WARNING):
        found = task(tmp_path, *rows).prompt_rows()
    assert found[0].messages == (USER, said)
    assert found[1].messages == (USER,)
    (record,) = caplog.records
    assert "line 1: 'tools' is ignored, here and in 1 other rows" in record.getMessage()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"messages": [{"role": "narrator", "content": "x"}]},
            r"messages\[0\]: the role 'narrator' is not known",
        ),
        ({"conversations": [{"from": "alien", "value": "x"}]}, r"conversations\[0\]: the from 'alien' is not known"),
        ({"messages": [USER, {"speaker": "me"}]}, r"messages\[1\]: a message has `role` and `content` .* has: speaker"),
        ({"messages": [USER, {"role": "assistant"}]}, r"messages\[1\]: 'content' is missing; it must be a text"),
        ({"messages": [{"role": "user", "content": 5}]}, r"messages\[0\]: 'content' holds a int"),
        ({"messages": [SYSTEM, ASSISTANT]}, "no turn of the user comes before the assistant's last"),
        ({"messages": [SYSTEM]}, "no turn of the user"),
        ({"messages": [{"role": "user", "content": " "}, ASSISTANT]}, "the turn before the answer is empty"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "the assistant's last turn is empty"),
        ({"messages": []}, "column 'messages' holds nothing; a conversation is a list of messages"),
        ({"messages": "hello"}, "column 'messages' holds a str; a conversation is a list"),
        ({"conversations": None}, "column 'conversations' holds nothing"),
        ({"prompt": [USER], "completion": "Three."}, "'completion' must be a list of messages too"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "a.png"}]}, ASSISTANT]},
            r"messages\[0\]: 'content' has a part of type 'image_url'; only text can be used",
        ),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_row(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = {"messages": [USER, ANSWER]}
    with pytest.raises(LwfError, match=rf"task chat: .*chat.jsonl, line 2: .*{message}.*the row begins"):
        task(tmp_path, good, row).test_rows()


def test_what_decides_the_rows(tmp_path: Path) -> None:
    """`chat` does; and a task that does not write it keeps the fingerprint that it had."""
    row = {"prompt": "How old?", "answer": "Three."}
    prints = {
        str(chat): json.dumps(task(tmp_path, row, **({} if chat is None else {"chat": chat})).fingerprint("test"))
        for chat in (None, True, False, {"system": "Be short."}, {"system": "Be kind."})
    }
    assert len(set(prints.values())) == len(prints)
    assert "chat" not in json.loads(prints["None"])


def test_the_last_turn_is_asked_in_another_form() -> None:
    assert in_form("How?", "Please. {prompt}") == "Please. How?"
    assert in_form([SYSTEM, AGAIN], "Please. {prompt}") == [SYSTEM, {"role": "user", "content": "Please. And I?"}]


def test_a_prompt_that_is_json_is_a_text(tmp_path: Path) -> None:
    (row,) = task(tmp_path, {"prompt": '[{"price": 5}]', "answer": "5"}).test_rows()
    assert (row.messages, row.prompt) == (None, '[{"price": 5}]')
