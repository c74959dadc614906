"""Asset scored_forget_set: the forgetting confidence of every sample of D_self, and which of them are forgotten (D_U).

One query over the stored terms, so that a new alpha or another selection costs seconds and no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwf_assets.comparison.forgotten_samples import shares_of_terms
from lwf_assets.fine_tuning.forget_set import write_selection
from lwf_assets.statistics import rank_correlation
from lwf_assets.store.layout import CONFIDENCE_TERMS, FORGET_SET
from lwf_assets.store.tables import read_rows

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Write FC, rank and selection together with the terms and the samples themselves."""
    settings, alpha = work.study.confidence, work.study.alpha
    target = work.out / FORGET_SET
    total, count = write_selection(work.input("confidence_terms") / CONFIDENCE_TERMS, target, settings, alpha=alpha)
    rows = read_rows(target)
    confidence = [row["forgetting_confidence"] for row in rows]
    shares = shares_of_terms(rows, alpha)
    return {
        "samples": total,
        "selected": count,
        "alpha": alpha,
        "end": settings.end,
        "confidence_highest": max(confidence),
        "confidence_lowest": min(confidence),
        "linear_share_of_variance": shares["linear"],
        "quadratic_share_of_variance": shares["quadratic"],
        "rank_correlation_with_length": rank_correlation(confidence, [row["tokens"] for row in rows]),
        "rank_correlation_with_nll": rank_correlation(confidence, [row["nll"] for row in rows]),
    }
