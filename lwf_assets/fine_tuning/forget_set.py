"""Scores D_self and chooses what is forgotten (D_U): one query over the stored terms of FC."""

from __future__ import annotations

from pathlib import Path

import duckdb

from lwf_assets.engine.forgetting_confidence import FORGETTING_CONFIDENCE_SQL
from lwf_assets.errors import LwfError
from lwf_assets.study.sections import ConfidenceSettings

# md5 and not DuckDB's own hash, which may change from release to release.
_ORDER = {
    "high": "forgetting_confidence DESC, id",
    "low": "forgetting_confidence ASC, id",
    "random": "md5($seed || '/' || id)",
}


_QUERY = """
COPY (
    WITH scored AS (
        SELECT *, {confidence} AS forgetting_confidence
        FROM read_parquet($terms)
    )
    SELECT *, row_number() OVER (ORDER BY {order}) AS rank, rank <= $count AS selected
    FROM scored
    ORDER BY rank
) TO '{target}' (FORMAT parquet, COMPRESSION zstd)
"""


def write_selection(terms: Path, target: Path, settings: ConfidenceSettings, *, alpha: float) -> tuple[int, int]:
    """Write the scored and ranked rows of `terms` to `target`; returns how many there are and how many are chosen."""
    with duckdb.connect() as database:
        database.execute("SET threads = 1")  # one writer: equal rows give equal bytes
        (total,) = database.execute("SELECT count(*) FROM read_parquet($terms)", {"terms": str(terms)}).fetchall()[0]
        count = selection_size(total, ratio=settings.selection_ratio, count=settings.selection_count)
        parameters = {"alpha": alpha, "terms": str(terms), "count": count}
        if settings.end == "random":
            parameters["seed"] = str(settings.seed)
        query = _QUERY.format(
            confidence=FORGETTING_CONFIDENCE_SQL, order=_ORDER[settings.end], target=str(target).replace("'", "''")
        )
        database.execute(query, parameters)
    return total, count


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
