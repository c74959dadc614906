"""The settings of one task: its source, its prompt form and its scorer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lwf_assets.extensions import check_name
from lwf_assets.tasks.forms import FORMS
from lwf_assets.tasks.presets import merge_preset
from lwf_assets.tasks.source_settings import FileSource, GeneratorSource, HubSource, HubSplits, PackagedSource, Source
from lwf_assets.tasks.templates import template_columns

__all__ = [
    "Chat",
    "FileSource",
    "GeneratorSource",
    "HubSource",
    "HubSplits",
    "PackagedSource",
    "Rows",
    "Source",
    "TaskSettings",
]

SCORERS = (
    *("exact", "numeric", "gsm8k", "choice", "reasoning_gym"),
    *("label", "token_f1", "rouge_l", "bleu", "chrf", "regex", "json"),
)
"""The scorers that are built in."""
_PROMPT, _FILE_PROMPT, _TARGET = "Question: {question}\nAnswer:", "{prompt}", "{answer}"
_PROMPTS = (_PROMPT, _FILE_PROMPT)
FormName = Literal["template", "gsm8k", "qasc", "sst5", "medmcqa", "mmlu"]


class Rows(BaseModel):
    """How many rows each split may have. For a generator these are the numbers to generate, and all are required."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: int | None = Field(
        default=None, ge=1, description="Most rows to fine-tune on, or to forget with; null is all."
    )
    validation: int | None = Field(default=None, ge=1, description="Most rows to watch the fine-tune on; null is all.")
    test: int | None = Field(default=None, ge=1, description="Most rows to score on; null is all.")


class Chat(BaseModel):
    """How columns become a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str | None = Field(
        default=None, min_length=1, description="System turn in front of a conversation that has none."
    )


class TaskSettings(BaseModel):
    """What a task is. A preset fills in what is not given, then the form, then the kind of source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str | None = Field(default=None, description="Name of the preset whose values stand where no key is given.")
    source: Source = Field(description="Where the rows come from.")
    form: FormName = Field(
        default="template",
        description="How a row becomes columns: as it is (template), or as one of five public data sets.",
    )
    prompt: str = Field(
        default=_PROMPT,
        min_length=1,
        description="Template of the prompt, over the columns of the row; `{prompt}` for files unless given.",
    )
    target: str = Field(
        default=_TARGET,
        min_length=1,
        description="Template of what the model should write; one space joins the two.",
    )
    answer: str = Field(
        default=_TARGET,
        min_length=1,
        description="Template of the part that is compared; the same as `target` unless given.",
    )
    chat: bool | Chat | None = Field(
        default=None,
        description="Whether the model is shown a conversation, written by its chat template. Rows that hold one "
        "(`messages`, `conversations`, or `prompt` and `completion` as lists) are read as such where `prompt` and "
        '`target` are not given; `true`, or `{system: "..."}`, makes `prompt` the user\'s turn and `target` the '
        "assistant's; `false` reads none.",
    )
    choices: list[str] | str = Field(
        default_factory=list,
        description="The texts to choose between, or a column such as `{options}` where each row has its own; empty "
        "for a task where the model writes freely.",
    )
    scorer: str = Field(
        default="exact",
        description="How a response is judged: `exact`, `numeric`, `gsm8k`, `choice`, `reasoning_gym`, "
        "`label`, `token_f1`, `rouge_l`, `bleu`, `chrf`, `regex`, `json`, or a scorer of an installed package.",
    )
    stop: list[str] = Field(
        default_factory=lambda: ["\nQuestion:"], description="A response ends before the first of these texts."
    )
    max_new_tokens: int = Field(default=64, ge=1, description="Longest response, in tokens.")
    rows: Rows = Field(default_factory=lambda: Rows(), description="How many rows each split may have.")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        values = {key: _plain(value) for key, value in data.items()}
        if values.get("preset") is not None:
            values = merge_preset(str(values["preset"]), values)
        form = FORMS.get(str(values.get("form", "template")))
        if form is not None:
            for key in ("prompt", "target", "answer", "scorer"):
                values.setdefault(key, getattr(form, key))
            values.setdefault("choices", list(form.choices))
        source = values.get("source")
        kind = source.get("kind") if isinstance(source, Mapping) else None
        values.setdefault("prompt", _FILE_PROMPT if kind == "file" else _PROMPT)
        if kind == "reasoning_gym":
            values.setdefault("scorer", "reasoning_gym")
        values.setdefault("answer", values.get("target", _TARGET))
        return values

    @property
    def reads_conversations(self) -> bool:
        """Whether rows that hold a conversation are read as one: no template says what else they are."""
        return self.chat is not False and self.form == "template" and self.target == _TARGET and self.prompt in _PROMPTS

    @property
    def is_chat(self) -> bool:
        """Whether `prompt` and `target` are the turns of a conversation."""
        return self.chat not in (None, False)

    @property
    def system(self) -> str | None:
        """The system turn of conversations that have none."""
        return self.chat.system if isinstance(self.chat, Chat) else None

    @property
    def choices_column(self) -> str | None:
        """The column that each row's own choices are in."""
        return template_columns(self.choices)[0] if isinstance(self.choices, str) else None

    @field_validator("choices")
    @classmethod
    def _choices_are_texts_or_a_column(cls, value: list[str] | str) -> list[str] | str:
        if isinstance(value, str):
            if len(template_columns(value)) != 1 or value != f"{{{template_columns(value)[0]}}}":
                raise ValueError(f"give a list of texts, or one column such as {{options}}; got {value!r}")
            return value
        stripped = [choice.strip() for choice in value]
        if value and (len(stripped) < 2 or "" in stripped or len(set(stripped)) < len(stripped)):
            raise ValueError(f"give two or more different texts, none blank; got {value}")
        if stripped != value:
            raise ValueError("remove the space around a choice; one space before it is always added")
        return value

    @field_validator("prompt", "target", "answer")
    @classmethod
    def _is_a_template(cls, value: str) -> str:
        if not template_columns(value):
            raise ValueError("the template shows no column, so every row would read the same; write {column}")
        return value

    @field_validator("scorer")
    @classmethod
    def _scorer_is_known(cls, value: str) -> str:
        return check_name("lwf.scorers", value, SCORERS, "scorer")

    @field_validator("stop")
    @classmethod
    def _stops_are_not_empty(cls, value: list[str]) -> list[str]:
        if "" in value:
            raise ValueError("an empty text would end every response at once")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> TaskSettings:
        if (self.scorer == "choice") != bool(self.choices) and self.scorer != "label":
            raise ValueError(
                "choices: the scorer 'choice' needs the texts to choose between, 'label' may have them, and no other "
                "scorer accepts any; "
                f"the scorer is {self.scorer!r} and choices is {self.choices}"
            )
        if isinstance(self.source, GeneratorSource):
            for split in ("train", "validation", "test"):
                if getattr(self.rows, split) is None:
                    raise ValueError(f"rows.{split}: a generator has no end, so give the number of rows to generate")
        if isinstance(self.source, HubSource) and self.source.streaming and self.rows.train is None:
            raise ValueError("rows.train: a stream is read until it is full, so give the number of rows to read")
        if self.scorer == "reasoning_gym" and not isinstance(self.source, GeneratorSource):
            raise ValueError("scorer: 'reasoning_gym' scores only rows of a reasoning_gym source")
        return self


def _plain(value: Any) -> Any:
    # Settings built in Python may hold models already; what they leave unset must not hide the preset's values.
    if isinstance(value, HubSource | FileSource | GeneratorSource | PackagedSource):
        return {"kind": value.kind, **value.model_dump(exclude_unset=True)}
    return value.model_dump(exclude_unset=True) if isinstance(value, Rows) else value
