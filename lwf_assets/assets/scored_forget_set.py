"""Asset scored_forget_set: the forgetting confidence of every sample of D_self, and which of them are forgotten (D_U).

One query over the stored terms, so that a new alpha or another selection costs seconds and no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from lwf_assets.assets import confidence_terms
from lwf_assets.errors import LwfError
from lwf_assets.statistics import rank_correlation, shares_of_variance
from lwf_assets.store.tables import read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from lwf_assets.graph.work import Work
    from lwf_assets.study.sections import ConfidenceSettings

FILE = "scored_forget_set.parquet"

# md5 and not DuckDB's own hash, which may change from release to release.
_ORDER = {
    "high": "forgetting_confidence DESC, id",
    "low": "forgetting_confidence ASC, id",
    "random": "md5($seed || '/' || id)",
}

_QUERY = """
COPY (
    WITH scored AS (
        SELECT *, constant - $alpha * linear + $alpha * $alpha * quadratic AS forgetting_confidence
        FROM read_parquet($terms)
    )
    SELECT *, row_number() OVER (ORDER BY {order}) AS rank, rank <= $count AS selected
    FROM scored
    ORDER BY rank
) TO '{target}' (FORMAT parquet, COMPRESSION zstd)
"""


def materialize(work: Work) -> dict[str, Any]:
    """Write FC, rank and selection beside the terms and the samples themselves."""
    settings, alpha = work.study.confidence, work.study.alpha
    target = work.out / FILE
    total, count = write_selection(
        work.input("confidence_terms") / confidence_terms.FILE, target, settings, alpha=alpha
    )
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


def write_selection(terms: Path, target: Path, settings: ConfidenceSettings, *, alpha: float) -> tuple[int, int]:
    """Write the scored and ranked rows of `terms` to `target`; gives how many there are and how many are chosen."""
    with duckdb.connect() as database:
        database.execute("SET threads = 1")  # one writer: equal rows give equal bytes
        (total,) = database.execute("SELECT count(*) FROM read_parquet($terms)", {"terms": str(terms)}).fetchall()[0]
        count = selection_size(total, ratio=settings.selection_ratio, count=settings.selection_count)
        parameters = {"alpha": alpha, "terms": str(terms), "count": count}
        if settings.end == "random":
            parameters["seed"] = str(settings.seed)
        database.execute(_QUERY.format(order=_ORDER[settings.end], target=str(target).replace("'", "''")), parameters)
    return total, count


def shares_of_terms(rows: Sequence[Mapping[str, Any]], alpha: float) -> dict[str, float | None]:
    """The share of FC's variance over scored `rows` that comes from the linear and from the quadratic term."""
    return shares_of_variance(
        {"linear": [-alpha * r["linear"] for r in rows], "quadratic": [alpha**2 * r["quadratic"] for r in rows]}
    )


def selection_size(total: int, *, ratio: float | None, count: int | None) -> int:
    """How many of `total` samples are forgotten: at least one.

    Raises:
        LwfError: more are asked for than there are.
    """
    if count is not None:
        if count > total:
            raise LwfError(f"confidence.selection_count: {count} is more than the {total} samples that were scored")
        return count
    assert ratio is not None
    return max(1, round(ratio * total))
