"""A task: what can be learned, scored on, or forgotten with."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lwf_assets.disk.hashes import hash_file
from lwf_assets.errors import LwfError
from lwf_assets.tasks.choices import Choice, chosen, lettered, row_choices
from lwf_assets.tasks.conversations import (
    Conversation,
    check_messages,
    holds_turns,
    read_conversation,
    warn_of_tools,
    with_system,
)
from lwf_assets.tasks.fingerprints import HashFile, Part, fingerprint
from lwf_assets.tasks.forms import apply_form
from lwf_assets.tasks.rows import LearningRow, PromptRow, SourceRow, Split, TestRow, Turns, beginning
from lwf_assets.tasks.scorers import check_answer, scorer_data
from lwf_assets.tasks.settings import FileSource, GeneratorSource, TaskSettings
from lwf_assets.tasks.sources import check_ids, prompt_file_rows, split_rows
from lwf_assets.tasks.templates import lookup, render, template_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Task:
    """The rows of one task, made from its settings.

    Every method reads the source again and gives the same rows each time. A prompt has no white space at its end and a
    target none around it: one space joins them, in fine-tuning and in evaluation alike.
    """

    def __init__(self, name: str, settings: TaskSettings) -> None:
        """`name` is the task's name in the study; relative paths in `settings` are taken from the working directory."""
        self.name = name
        self.settings = settings

    def learning_rows(self) -> tuple[list[LearningRow], list[LearningRow]]:
        """Rows to fine-tune on and rows to watch the fine-tune on; no id is in both.

        Raises LwfError, naming the place, for a source that cannot be read and for a row without prompt or answer.
        """
        with self._named():
            train, validation = self._split("train"), self._split("validation")
            check_ids([*train, *validation])
            return [self._learning_row(row) for row in train], [self._learning_row(row) for row in validation]

    def test_rows(self) -> list[TestRow]:
        """Rows to score on. Raises LwfError as `learning_rows` does, and for an answer its scorer cannot recognise."""
        with self._named():
            rows = self._split("test")
            labels: tuple[str, ...] = ()
            if self.settings.scorer == "label" and not self.settings.choices:
                labels = tuple(sorted({self._text(self.settings.answer, row, "answer") for row in rows}))
            return [self._test_row(row, labels) for row in rows]

    def prompt_rows(self) -> list[PromptRow]:
        """Forgetting prompts: those of the source's prompt file if it has one, else of its train rows."""
        source = self.settings.source
        with self._named():
            if isinstance(source, FileSource) and (prompts := source.named("prompts")) is not None:
                rows = prompt_file_rows(source, prompts, self.settings.rows)
            else:
                rows = self._split("train")
            return [
                PromptRow(row.id, self._prompt(row), source_task=self.name, messages=self._messages(row))
                for row in rows
            ]

    def fingerprint(self, part: Part, hash_file: HashFile = hash_file) -> dict[str, Any]:
        """JSON object of all that decides the rows of `part`, and nothing else. Reads files, never the network.

        `hash_file` gives a file's sha256; pass one that remembers if you ask often.
        """
        with self._named():
            return fingerprint(self.name, self.settings, part, hash_file)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except LwfError as error:
            raise LwfError(f"task {self.name}: {error}") from error

    def _split(self, split: Split) -> list[SourceRow]:
        rows = split_rows(self.settings.source, split, self.settings.rows, self._prompt)
        warn_of_tools(rows)
        return rows

    def _learning_row(self, row: SourceRow) -> LearningRow:
        return LearningRow(
            id=row.id,
            prompt=self._prompt(row),
            target=self._text(self.settings.target, row, "target"),
            messages=self._messages(row),
        )

    def _test_row(self, row: SourceRow, labels: tuple[str, ...]) -> TestRow:
        settings = self.settings
        generated = None
        if isinstance(settings.source, GeneratorSource):
            generated = {
                "generator": settings.source.generator,
                "parameters": settings.source.parameters,
                "entry": row.entry,
            }
        messages = self._messages(row)
        # The stop texts of plain questions mean nothing in a conversation, which has an end of turn.
        stop = [] if messages is not None and "stop" not in settings.model_fields_set else settings.stop
        test_row = TestRow(
            id=row.id,
            prompt=self._prompt(row),
            target=self._text(settings.target, row, "target"),
            answer=self._text(settings.answer, row, "answer"),
            choices=labels or self._choices(row),
            scorer_data=scorer_data(settings.scorer, stop, generated),
            messages=messages,
        )
        with _row_shown(row):
            check_answer(settings.scorer, test_row, place=row.place)
        return test_row

    def _conversation(self, row: SourceRow) -> Conversation | None:
        """The conversation that the row itself is, where the task reads such."""
        if not self.settings.reads_conversations:
            return None
        with _row_shown(row):
            if not holds_turns(row.columns):
                if not set(template_columns(self.settings.prompt)) & set(row.columns):
                    check_messages(row.columns, place=row.place)
                return None
            return read_conversation(row.columns, place=row.place, system=self.settings.system)

    def _messages(self, row: SourceRow) -> Turns | None:
        """What the model is shown, where it is a conversation."""
        if (own := self._conversation(row)) is not None:
            return own.turns
        if not self.settings.is_chat:
            return None
        asked = Conversation(({"role": "user", "content": self._prompt(row)},), None)
        return with_system(asked, self.settings.system).turns

    def _prompt(self, row: SourceRow) -> str:
        if (own := self._conversation(row)) is not None:
            return own.text
        with _row_shown(row):
            columns = apply_form(self.settings.form, row.columns, place=row.place)
            texts, column = {}, self.settings.choices_column
            if column is not None and column in template_columns(self.settings.prompt):
                texts[column] = lettered(_own_choices(column, columns, row.place))
            return render(self.settings.prompt, columns, place=row.place, role="prompt", texts=texts)

    def _text(self, template: str, row: SourceRow, role: str) -> str:
        choices, own = self.settings.choices, self._conversation(row)
        with _row_shown(row):
            columns = apply_form(self.settings.form, row.columns, place=row.place)
            if own is None or template != self.settings.target:
                texts = _as_json(template, columns) if self.settings.scorer == "json" else {}
                text = render(template, columns, place=row.place, role=role, texts=texts).strip()
                value = _value(template, columns, text)
            elif own.answer is None:
                raise LwfError(f"{row.place}: no {role}: the conversation has no turn of the assistant")
            elif not choices:
                return own.answer  # as it is: the chat template decides about white space
            else:
                value = text = own.answer.strip()
            if (column := self.settings.choices_column) is not None:
                return chosen(value, _own_choices(column, columns, row.place), place=row.place, role=role)
            if choices and role == "target" and text not in choices:
                raise LwfError(f"{row.place}: the target {text!r} is not one of the choices {', '.join(choices)}")
            return text

    def _choices(self, row: SourceRow) -> tuple[str, ...]:
        if (column := self.settings.choices_column) is None:
            return tuple(self.settings.choices)
        with _row_shown(row):
            columns = apply_form(self.settings.form, row.columns, place=row.place)
            return tuple(map(str, _own_choices(column, columns, row.place).values()))


def _own_choices(column: str, columns: Mapping[str, Any], place: str) -> dict[str, Choice]:
    """The row's own choices by letter."""
    try:
        return row_choices(column, lookup(column, columns), place=place)
    except LookupError as error:
        raise LwfError(f"{place}: no choices: {error.args[0]}") from None


def _as_json(template: str, columns: Mapping[str, Any]) -> dict[str, str]:
    """Nested columns of the template as JSON."""
    nested = {name: lookup(name, columns) for name in template_columns(template) if name.split(".")[0] in columns}
    return {
        name: json.dumps(value, ensure_ascii=False) for name, value in nested.items() if isinstance(value, dict | list)
    }


def _value(template: str, columns: Mapping[str, Any], text: str) -> Any:
    """What the column holds where the template is nothing but a column: a number is not yet a text."""
    names = template_columns(template)
    return lookup(names[0], columns) if template.strip() == f"{{{names[0]}}}" else text


@contextmanager
def _row_shown(row: SourceRow) -> Iterator[None]:
    """Adds the first characters of the row to the message of what refuses it."""
    try:
        yield
    except LwfError as error:
        raise LwfError(f"{error}; the row begins {beginning(row.columns)}") from error
