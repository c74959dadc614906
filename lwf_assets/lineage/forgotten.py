"""What a checkpoint unlearned, sample by sample, and what it learned from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwf_assets.lineage.chain import Chain
from lwf_assets.store.layout import (
    FORGET_SET,
    SEEDS,
    TRAIN_ROWS,
    UNLEARNING_LEDGER,
    VALIDATION_ROWS,
    read_ledger,
    seed_folder,
    seeds_of,
)
from lwf_assets.store.tables import read_rows


@dataclass(frozen=True)
class Turn:
    """One seed's unlearning of one sample: the steps that pushed it; NLL in nats per token before the first of them and
    after the last."""

    seed: int
    steps: tuple[int, ...]
    nll_before: float
    nll_after: float | None


@dataclass(frozen=True)
class UnlearnedSample:
    """A sample of D_U that some seed pushed. FC = constant - alpha * linear + alpha^2 * quadratic.

    `text` is None where random tokens took its place, as in that control.
    """

    id: str
    prompt: str
    text: str | None
    source_task: str
    forgetting_confidence: float
    constant: float
    linear: float
    quadratic: float
    rank: int
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class LearnedRows:
    """The ids of the rows of one learning_data artifact."""

    version: str
    train: tuple[str, ...]
    validation: tuple[str, ...]


def unlearned_samples(chain: Chain) -> list[UnlearnedSample]:
    """Every sample that the checkpoint at the chain's end unlearned, by rank; none where it forgets nothing."""
    checkpoint = chain.end.folder
    if not (checkpoint / SEEDS).is_file():
        return []
    seeds = [seed for seed in seeds_of(checkpoint) if (seed_folder(checkpoint, seed) / UNLEARNING_LEDGER).is_file()]
    turns: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for entry in read_ledger(checkpoint, seeds):
        if entry["pushed"]:
            turns.setdefault(entry["sample_id"], {}).setdefault(entry["seed"], []).append(entry)
    scored, replaced = _scored_rows(chain), chain.end.manifest.summary.get("kind") == "random_tokens"
    found = []
    for name, by_seed in turns.items():
        row = scored[name]
        found.append(
            UnlearnedSample(
                id=name,
                prompt=row["prompt"],
                text=None if replaced else row["response"],
                source_task=row["source_task"],
                forgetting_confidence=row["forgetting_confidence"],
                constant=row["constant"],
                linear=row["linear"],
                quadratic=row["quadratic"],
                rank=row["rank"],
                turns=tuple(_turn(seed, entries) for seed, entries in by_seed.items()),
            )
        )
    return sorted(found, key=lambda sample: sample.rank)


def learned_rows(chain: Chain) -> list[LearnedRows]:
    """What the checkpoint at the chain's end was fine-tuned on."""
    return [
        LearnedRows(
            link.manifest.version,
            _ids(link.folder / TRAIN_ROWS),
            _ids(link.folder / VALIDATION_ROWS),
        )
        for link in chain.inputs(chain.end)
        if link.manifest.asset == "learning_data"
    ]


def _scored_rows(chain: Chain) -> dict[str, dict[str, Any]]:
    """The scored samples that it chose from: an arm that chooses for itself keeps them next to its models."""
    own = chain.end.folder / FORGET_SET
    tables = [own] if own.is_file() else [link.folder / FORGET_SET for link in chain.of("scored_forget_set")]
    return {row["id"]: row for table in tables for row in read_rows(table)}


def _turn(seed: int, entries: list[dict[str, Any]]) -> Turn:
    first, last = entries[0], entries[-1]
    return Turn(seed, tuple(entry["step"] for entry in entries), first["nll_before"], last["nll_after"])


def _ids(table: Path) -> tuple[str, ...]:
    return tuple(row["id"] for row in read_rows(table))
