"""One module per asset, named as the asset, each with `materialize(work)`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(asset: str, work: Work) -> dict[str, Any]:
    """Write the files of one cell of `asset` into `work.out`; returns its summary: figures for people.

    The module is imported only now: loading the definitions of a study must stay light.
    """
    module = importlib.import_module(f"{__name__}.{asset}")
    summary: dict[str, Any] = module.materialize(work)
    return summary
