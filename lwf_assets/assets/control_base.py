"""Asset control_base: the pre-trained model with other prior knowledge than the study's base model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.assets.base_model import import_model

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Load the model from the study's source, teach it, and write it down."""
    return import_model(work, work.partition.prior)
