"""Asset lwf_checkpoint: the fine-tune on D_L that unlearns D_U on the way, per seed, with its unlearning ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.fine_tuning.forgetting import learn_with_forgetting
from lwf_assets.store.layout import FORGET_SET
from lwf_assets.store.tables import read_rows

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Train each seed and write, next to the models, which sample was unlearned at which step and what remained."""
    scored = read_rows(work.input("scored_forget_set") / FORGET_SET)
    return learn_with_forgetting(work, scored, work.study.unlearning)
