"""What an asset's `materialize` is given to work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lwf_assets.graph.cells import Cell
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.bases import base_among
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact
from lwf_assets.store.tables import read_rows
from lwf_assets.study.study import Study
from lwf_assets.tasks.rows import prompt_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lwf_assets.engine.samples import Context, Sample


@dataclass(frozen=True)
class Work:
    """One cell to be made.

    `out` is an empty folder that becomes the artifact. `scratch` is kept when the process dies and given again to the
    next one that makes the same recipe: shards and training checkpoints go there.
    """

    study: Study
    partition: Partition
    inputs: Mapping[Cell, Artifact]
    out: Path
    scratch: Path
    progress: Progress = SILENT

    def input(self, asset: str) -> Path:
        """The folder of the one artifact of `asset` that this cell is made from."""
        (path,) = self.all_inputs(asset).values()
        return path

    def all_inputs(self, asset: str) -> dict[Partition, Path]:
        """The folders of every artifact of `asset` that this cell is made from."""
        return {cell.partition: artifact.path for cell, artifact in self.inputs.items() if cell.asset == asset}

    def base_of(self, asset: str) -> Path | None:
        """The folder of the base that the one artifact of `asset` was trained from; None if this cell is not made from
        that base, which only a checkpoint of adapters needs."""
        (made,) = [artifact for cell, artifact in self.inputs.items() if cell.asset == asset]
        return base_among(made.manifest, self.inputs.values())

    def name_of(self, folder: Path) -> str:
        """The artifact in `folder`, as `asset@version` where this cell is made from it."""
        found = (f"{cell.asset}@{made.version}" for cell, made in self.inputs.items() if made.path == folder)
        return next(found, folder.name)

    def context(self, model: PreTrainedModel) -> Context:
        """How many tokens a row may have for `model` in this study."""
        from lwf_assets.engine.samples import Context

        settings = self.study.model
        return Context.of_model(model, max_length=settings.max_length, truncate_prompts=settings.truncate_prompts)

    @property
    def learning_task(self) -> str:
        """Name of the learning task of this cell."""
        assert self.partition.learning_task is not None
        return self.partition.learning_task

    @property
    def forgetting_task(self) -> str:
        """Name of the forgetting task of this cell."""
        assert self.partition.forgetting_task is not None
        return self.partition.forgetting_task


def encode_rows(work: Work, table: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Sample]:
    """The rows of a table of learning_data as samples for `model`.

    Raises:
        LwfError: a prompt longer than the context, unless the study cuts it.
    """
    from lwf_assets.engine.samples import encode_sample

    context = work.context(model)
    return [
        encode_sample(tokenizer, prompt_of(row), row["target"], context=context, row_id=row["id"])
        for row in read_rows(table)
    ]
