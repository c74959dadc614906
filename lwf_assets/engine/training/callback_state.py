"""A callback's own state, in the checkpoints of the Trainer that it is in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments


def saved_state(args: TrainingArguments, state: TrainerState, name: str) -> Path:
    """The file of that name in the checkpoint that training resumes from.

    Raises:
        LwfError: it is not there.
    """
    path = _path(args, state, name)
    if not path.is_file():
        raise LwfError(
            f"{path.parent}: holds no {name}, so training cannot resume from it; "
            "resume from a checkpoint in output_dir that was written with the same callbacks"
        )
    return path


def save_state(args: TrainingArguments, state: TrainerState, name: str, write: Callable[[Path], object]) -> None:
    """Put a file of that name into the checkpoint of this step, whole or not at all.

    Args:
        args: the Trainer's.
        state: the Trainer's.
        name: of the file.
        write: writes the state to the path that it is given.
    """
    if not state.is_world_process_zero:
        return
    path = _path(args, state, name)
    unfinished = path.with_suffix(".unfinished")
    write(unfinished)
    os.replace(unfinished, path)


def _path(args: TrainingArguments, state: TrainerState, name: str) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / name
