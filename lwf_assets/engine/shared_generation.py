"""Generation shared among processes: each answers its part of the prompts, and all get all the responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets.engine import processes
from lwf_assets.engine.generation import generate
from lwf_assets.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def generate_together(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    shards: Path | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> list[list[int]]:
    """As `generate`, which it is in one process.

    Prompts that are the same stay in one process, for the draws of a prompt follow from how often it was asked before.
    Each process keeps shards of its own, below `shards`.
    """
    together = processes.here()
    if together.world == 1:
        return generate(model, prompts, shards=shards, progress=progress, **options)
    mine = together.share_of_groups([tuple(prompt) for prompt in prompts])
    own = None
    if shards is not None:
        own = shards / f"process-{together.rank}-of-{together.world}"
        own.mkdir(exist_ok=True)
    shown = together.shown(progress, len(prompts))
    responses = generate(model, [prompts[index] for index in mine], shards=own, progress=shown, **options)
    return together.gather(mine, responses)
