"""Asset lwf_checkpoint: the fine-tune on D_L that unlearns D_U as it goes, per seed, with its unlearning ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwf_assets import scored_forget_set
from lwf_assets.seeded_fine_tunes import fine_tune_per_seed, seed_folder
from lwf_assets.tables import read_rows, write_rows

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from lwf_assets.engine.unlearning import LedgerEntry
    from lwf_assets.work import Work

LEDGER = "unlearning_ledger.parquet"


def materialize(work: Work) -> dict[str, Any]:
    """Train each seed and write, beside the models, which sample was unlearned at which step and what remained."""
    import pyarrow as pa

    from lwf_assets.engine.samples import Sample
    from lwf_assets.engine.unlearning import PeriodicUnlearning

    settings = work.study.unlearning
    forgotten = [row for row in read_rows(work.input("scored_forget_set") / scored_forget_set.FILE) if row["selected"]]
    samples = [Sample(row["prompt_ids"], row["response_ids"]) for row in forgotten]

    def tell(step: int, entries: list[LedgerEntry]) -> None:
        values = {
            "unlearning/nll_before": sum(entry.nll_before for entry in entries) / len(entries),
            "unlearning/pushed": sum(entry.pushed for entry in entries) / len(entries),
        }
        work.progress.metrics(max(step, 0), values)

    def callbacks(seed: int) -> Sequence[TrainerCallback]:
        return [
            PeriodicUnlearning(
                samples,
                sample_ids=[row["id"] for row in forgotten],
                interval=settings.interval,
                forgetting_rate=settings.forgetting_rate,
                batch_size=settings.batch_size,
                per_sample_cap=settings.per_sample_cap,
                optimizer=settings.optimizer,
                max_gradient_norm=settings.max_gradient_norm,
                timing=settings.timing,
                seed=seed,
                on_unlearn=tell,
            )
        ]

    schema = pa.schema(
        [
            ("step", pa.int64()),
            ("sample_id", pa.string()),
            ("nll_before", pa.float64()),
            ("nll_after", pa.float64()),
            ("pushed", pa.bool_()),
        ]
    )

    def keep(folder: Path, used: Sequence[TrainerCallback]) -> None:
        (unlearning,) = used
        write_rows(folder / LEDGER, [asdict(entry) for entry in unlearning.ledger], schema)

    summary = fine_tune_per_seed(work, callbacks, keep, label="Learning with forgetting")
    ledger = read_ledger(work.out, work.study.seeds)
    return {
        **summary,
        "forget_set": len(forgotten),
        "unlearning_steps": len({(row["seed"], row["step"]) for row in ledger}),
        "samples_unlearned": len({row["sample_id"] for row in ledger if row["pushed"]}),
    }


def read_ledger(checkpoint: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Every entry of every seed's ledger: seed, step, sample_id, nll_before, nll_after, pushed."""
    return [{"seed": seed, **row} for seed in seeds for row in read_rows(seed_folder(checkpoint, seed) / LEDGER)]
