"""Asset learning_data: what is learned, D_L: training and validation rows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets.cost.row_counts import characters
from lwf_assets.errors import LwfError
from lwf_assets.store.tables import read_rows, write_rows
from lwf_assets.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lwf_assets.engine.samples import Sample
    from lwf_assets.graph.work import Work

TRAIN = "train.parquet"
VALIDATION = "validation.parquet"


def materialize(work: Work) -> dict[str, Any]:
    """Write the training and validation rows of the learning task: id, prompt, target."""
    import pyarrow as pa

    name = work.learning_task
    train, validation = Task(name, work.study.learning_tasks[name]).learning_rows()
    if not train:
        raise LwfError(f"learning_tasks.{name}: its source gives no training rows; raise rows.train or give more data")
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string()), ("target", pa.string())])
    write_rows(work.out / TRAIN, [asdict(row) for row in train], schema)
    write_rows(work.out / VALIDATION, [asdict(row) for row in validation], schema)
    return {"train_rows": len(train), "validation_rows": len(validation), **characters(train)}


def encode_rows(work: Work, table: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Sample]:
    """The rows of one of the two tables as samples for `model`.

    Raises:
        LwfError: a prompt longer than the context, unless the study cuts it.
    """
    from lwf_assets.engine.samples import encode_sample

    context = work.context(model)
    return [
        encode_sample(tokenizer, row["prompt"], row["target"], context=context, row_id=row["id"])
        for row in read_rows(table)
    ]
