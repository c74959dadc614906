"""What cannot be done with a model of which each process has a part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lwf_assets.errors import LwfError

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def refuse_sharded(work: Work, kind: str) -> None:
    """For an arm that needs the whole weights in every process.

    Raises:
        LwfError: the study shards them.
    """
    compute = work.study.compute
    if compute.strategy == "fsdp" and compute.processes > 1:
        raise LwfError(
            f"compute.strategy: fsdp: an arm of kind {kind} needs the whole weights in every process; take ddp"
        )
