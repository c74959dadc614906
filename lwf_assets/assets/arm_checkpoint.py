"""Asset arm_checkpoint: what a study trains in addition to the reference and LWF: ablations, baselines and controls."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lwf_assets.graph.models import find

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Have the module of the arm's kind train each seed."""
    arm: Any = find(work.study, work.partition).arm
    module = importlib.import_module(f"lwf_assets.fine_tuning.arms.{arm.kind}")
    return {"kind": arm.kind, **module.fine_tune(work, arm)}
