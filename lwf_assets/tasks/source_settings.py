"""Where the rows of a task come from: a data set on the hub, local files, or a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lwf_assets.errors import LwfError
from lwf_assets.extensions import extensions
from lwf_assets.tasks.rows import Split

HashFile = Callable[[Path], str]
"""Returns the sha256 of a file."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSplits(_Frozen):
    """Which split of a hub data set plays which role."""

    train: str | None = Field(default="train", description="Split to fine-tune on and to take forgetting prompts from.")
    validation: str | None = Field(
        default="validation", description="Split to watch the fine-tune on; null takes a tenth out of `train`."
    )
    test: str | None = Field(
        default="test", description="Labelled split to score on; null takes a tenth out of `train`."
    )


class HubSource(_Frozen):
    """A data set on the Hugging Face hub, at a pinned revision, or a local mirror of one."""

    kind: Literal["hub"] = Field(default="hub", description="Says that this source is a hub data set.")
    id: str = Field(
        min_length=1,
        description="Data set id such as `openai/gsm8k`; a path that begins with `/`, `./`, `../` or `~` is a local "
        "directory of the same layout.",
    )
    config: str | list[str] | None = Field(
        default=None, description="Configuration (subset) of the data set; a list is read one after the other."
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        description="Commit of the data set, so that a rerun reads the same rows. Required for a hub id; "
        "unused for a local directory, whose content is hashed instead.",
    )
    data_dir: str | None = Field(
        default=None, min_length=1, description="Folder of the data set to read, for one without configurations."
    )
    data_files: str | list[str] | dict[str, str | list[str]] | None = Field(
        default=None,
        description="Files of the data set to read, or patterns; by split, or else all of them as the split `train`.",
    )
    splits: HubSplits = Field(
        default_factory=lambda: HubSplits(),
        description="Which split, or part of one such as `train[:1000]`, plays which role. `split: ...` beside `id` "
        "gives one split for all roles.",
    )
    streaming: bool = Field(
        default=False,
        description="Read no more of the data set than `rows` asks for, out of a buffer that is shuffled by `seed`.",
    )
    where: dict[str, str] = Field(
        default_factory=dict, description="Keeps the rows whose column equals the text, for every column named."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the shuffle before `rows` keeps the first n.")

    @model_validator(mode="before")
    @classmethod
    def _one_split_for_all(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if "token" in data:
            raise ValueError("token: a secret has no place in a study; set the environment variable HF_TOKEN")
        if "split" not in data:
            return data
        if "splits" in data:
            raise ValueError("split: give either `split`, one for all roles, or `splits`")
        others = {key: value for key, value in data.items() if key != "split"}
        return {**others, "splits": {"train": data["split"], "validation": None, "test": None}}

    @property
    def is_local(self) -> bool:
        """Whether `id` is a directory on this machine."""
        return self.id.startswith(("/", "./", "../", "~"))

    @property
    def configs(self) -> list[str | None]:
        """The configurations to read, in order; `[None]` for the data set's only one."""
        return list(self.config) if isinstance(self.config, list) else [self.config]

    @field_validator("config")
    @classmethod
    def _config_not_empty(cls, value: str | list[str] | None) -> str | list[str] | None:
        if value == []:
            raise ValueError("an empty list reads nothing; name a configuration, or null for the only one")
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("a configuration is named twice")
        return value

    @model_validator(mode="after")
    def _revision_is_pinned(self) -> HubSource:
        if self.revision is None and not self.is_local:
            raise ValueError(
                f"revision: missing; give the commit of {self.id!r} to read (its page on the hub lists them under "
                "'Files and versions'), or write the id as ./path if you mean a local directory"
            )
        return self


Files = Path | list[Path]
"""A file, a pattern or a directory, or several of them."""


class FileSource(_Frozen):
    """Local files: JSON, JSON Lines, CSV, TSV, Parquet or text, by the ending of the name.

    Each key takes a file, a pattern (`data/*.jsonl`), a directory, or a list of them.
    """

    kind: Literal["file"] = Field(default="file", description="Says that this source is local files.")
    train: Files | None = Field(default=None, description="Files to fine-tune on.")
    validation: Files | None = Field(
        default=None, description="Files to watch the fine-tune on; without them a tenth of `train` is set apart."
    )
    test: Files | None = Field(
        default=None, description="Files to score on; without them a tenth of `train` is set apart."
    )
    prompts: Files | None = Field(
        default=None, description="Files of forgetting prompts, no answers needed; without them the train rows serve."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the shuffle before `rows` keeps the first n.")

    @field_validator("train", "validation", "test", "prompts")
    @classmethod
    def _list_is_not_empty(cls, value: Files | None) -> Files | None:
        if value == []:
            raise ValueError("an empty list names no file; give one, or leave the key out")
        return value

    def named(self, role: Literal["train", "validation", "test", "prompts"]) -> tuple[Path, ...] | None:
        """The files, patterns and directories that are given for `role`; None when there are none."""
        given: Files | None = getattr(self, role)
        return tuple(given) if isinstance(given, list) else None if given is None else (given,)

    @model_validator(mode="after")
    def _has_a_file(self) -> FileSource:
        if not (self.train or self.validation or self.test or self.prompts):
            raise ValueError("no file is named; give `train` (to learn from) or `prompts` (to forget with)")
        return self


class GeneratorSource(_Frozen):
    """A seeded generator of the reasoning-gym package: as many items as wanted, none of them twice."""

    kind: Literal["reasoning_gym"] = Field(default="reasoning_gym", description="Says that this source is a generator.")
    generator: str = Field(min_length=1, description="Name of the generator, such as `chain_sum`.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the generator that differ from its own defaults."
    )
    seed: int = Field(default=0, ge=0, description="Seed of all three splits, which stay disjoint whatever it is.")

    @field_validator("parameters")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "seed" in value:
            raise ValueError("seed: write it beside `parameters`, as source.seed")
        if "size" in value:
            raise ValueError("size: say how many items you want under `rows`")
        return value


class PackagedSource(BaseModel):
    """Base of a kind of source that another package provides, as the entry point `lwf.sources` of its kind.

    A subclass sets `kind` to its own name, has its settings as fields, and implements `rows`. Override `fingerprint`
    where the settings alone do not decide the rows, for example to hash a file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="Name of the kind.")

    def rows(self, split: Split) -> Iterable[Mapping[str, Any]]:
        """The rows of one split, as columns by name; a column `id`, if there is one, names the row.

        The same rows in the same order each time. Raise LwfError for what the user can fix.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what its rows are")

    def fingerprint(self, hash_file: HashFile) -> Any:
        """JSON value that decides the rows, in addition to the package's version; by default all settings."""
        return self.model_dump(mode="json")


def _source_type() -> Any:
    """The kinds that are built in and those of installed packages."""
    kinds: Any = HubSource | FileSource | GeneratorSource
    built_in = {kind.model_fields["kind"].default for kind in get_args(kinds)}
    for extension in extensions("lwf.sources").values():
        kind = extension.load()
        if not (isinstance(kind, type) and issubclass(kind, PackagedSource)):
            raise LwfError(f"lwf.sources: {extension} must be a subclass of PackagedSource")
        if extension.name in built_in:
            raise LwfError(f"lwf.sources: {extension}: this kind is built in; give it another name")
        if get_args(kind.model_fields["kind"].annotation) != (extension.name,):
            raise LwfError(f"lwf.sources: {extension}: annotate its kind as Literal[{extension.name!r}]")
        kinds |= kind
    return Annotated[kinds, Field(discriminator="kind")]


if TYPE_CHECKING:
    Source = HubSource | FileSource | GeneratorSource | PackagedSource
else:
    Source = _source_type()
