"""A task: what can be learned, scored on, or forgotten with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lwf_assets.errors import LwfError
from lwf_assets.store.hashes import hash_file
from lwf_assets.tasks.fingerprints import HashFile, Part, fingerprint
from lwf_assets.tasks.forms import apply_form
from lwf_assets.tasks.rows import LearningRow, PromptRow, SourceRow, Split, TestRow
from lwf_assets.tasks.scorers import check_answer, scorer_data
from lwf_assets.tasks.settings import FileSource, GeneratorSource, TaskSettings
from lwf_assets.tasks.sources import check_ids, prompt_file_rows, split_rows
from lwf_assets.tasks.templates import render

if TYPE_CHECKING:
    from collections.abc import Iterator


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
            return [self._test_row(row) for row in self._split("test")]

    def prompt_rows(self) -> list[PromptRow]:
        """Forgetting prompts: those of the source's prompt file if it has one, else of its train rows."""
        source = self.settings.source
        with self._named():
            if isinstance(source, FileSource) and source.prompts is not None:
                rows = prompt_file_rows(source, source.prompts, self.settings.rows)
            else:
                rows = self._split("train")
            return [PromptRow(id=row.id, prompt=self._prompt(row), source_task=self.name) for row in rows]

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
        return split_rows(self.settings.source, split, self.settings.rows, self._prompt)

    def _learning_row(self, row: SourceRow) -> LearningRow:
        target = self._text(self.settings.target, row, "target")
        choices = self.settings.choices
        if choices and target not in choices:
            raise LwfError(f"{row.place}: the target {target!r} is not one of the choices {', '.join(choices)}")
        return LearningRow(id=row.id, prompt=self._prompt(row), target=target)

    def _test_row(self, row: SourceRow) -> TestRow:
        settings = self.settings
        generated = None
        if isinstance(settings.source, GeneratorSource):
            generated = {
                "generator": settings.source.generator,
                "parameters": settings.source.parameters,
                "entry": row.entry,
            }
        test_row = TestRow(
            id=row.id,
            prompt=self._prompt(row),
            target=self._text(settings.target, row, "target"),
            answer=self._text(settings.answer, row, "answer"),
            choices=tuple(settings.choices),
            scorer_data=scorer_data(settings.scorer, settings.stop, generated),
        )
        check_answer(settings.scorer, test_row, place=row.place)
        return test_row

    def _prompt(self, row: SourceRow) -> str:
        columns = apply_form(self.settings.form, row.columns, place=row.place)
        return render(self.settings.prompt, columns, place=row.place, role="prompt")

    def _text(self, template: str, row: SourceRow, role: str) -> str:
        columns = apply_form(self.settings.form, row.columns, place=row.place)
        return render(template, columns, place=row.place, role=role).strip()
