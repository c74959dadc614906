"""One module per asset, named as the asset, each with `materialize(work)`."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from lwf_assets.graph.table import ASSET

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(asset: str, work: Work) -> dict[str, Any]:
    """Write the files of one cell of `asset` into `work.out`; returns its summary: figures for people.

    The module is imported only now: loading the definitions of a study must stay light.
    """
    module = importlib.import_module(f"{__name__}.{asset}")
    with _precision(asset, work):
        summary: dict[str, Any] = module.materialize(work)
    return summary


def _precision(asset: str, work: Work) -> AbstractContextManager[None]:
    """How exactly a model is multiplied; torch is not imported where there is none."""
    if not ASSET[asset].uses_model:
        return nullcontext()
    from lwf_assets.engine.precision import tf32_allowed

    return tf32_allowed(work.study.model.tf32)
