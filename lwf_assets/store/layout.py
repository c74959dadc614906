"""What is in an artifact: the names of its files, the schemas of its tables, and how they are read.

Every asset writes by this module, and everything that reads artifacts reads by it, so an asset need not be imported to
read its files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lwf_assets.store.tables import read_rows

TABLES = (".parquet", ".json")
"""Endings of everything but weights."""

# learning_data, test_data, forgetting_prompts, utility_data
TRAIN_ROWS = "train.parquet"
VALIDATION_ROWS = "validation.parquet"
TEST_ROWS = "test.parquet"
PROMPTS = "prompts.parquet"
UTILITY_ITEMS = "items.parquet"
NEUTRAL_PASSAGES = "neutral.parquet"

LEARNING_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "prompt", "target")])
TEST_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "prompt", "target", "answer")]
    + [("choices", pa.list_(pa.string())), ("scorer_data", pa.string())]
)
UTILITY_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("group", "task", "id", "prompt", "target", "answer", "scorer_data")),
        ("choices", pa.list_(pa.string())),
    ]
)
_MESSAGES = pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))


def with_turns_column(schema: pa.Schema, rows: Sequence[Any]) -> pa.Schema:
    """`schema`, and a column for the turns of a conversation if one of `rows` is a conversation."""
    return schema.append(_MESSAGES) if any(row.messages for row in rows) else schema


NEUTRAL_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])

# self_generated_corpus, fisher_diagonal, confidence_terms, scored_forget_set
CORPUS = "corpus.parquet"
FISHER_DIAGONAL = "fisher_diagonal.safetensors"
CONFIDENCE_TERMS = "confidence_terms.parquet"
FORGET_SET = "scored_forget_set.parquet"

ENDED_BY_MODEL, CUT_AT_LENGTH, EMPTY_RESPONSE = "end_of_text", "length", "empty"
"""How a response of the corpus ended: the model ended it, it was cut at max_new_tokens, or there is no text in it."""

# reference_checkpoint, lwf_checkpoint, arm_checkpoint
SEEDS = "seeds.json"
LEARNING_CURVES = "learning_curves.parquet"
VALIDATION_CURVE = "validation_curve.parquet"
UNLEARNING_LEDGER = "unlearning_ledger.parquet"
OPTIMUM = "optimum"

VALIDATION_SCHEMA = pa.schema([("seed", pa.int64()), ("step", pa.int64()), ("nll", pa.float64())])
LEDGER_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("sample_id", pa.string()),
        ("nll_before", pa.float64()),
        ("nll_after", pa.float64()),
        ("pushed", pa.bool_()),
        ("update_norm", pa.float64()),
    ]
)

# evaluation, forgetting_probe
EVALUATED_ITEMS = "items.parquet"
EVALUATED_UTILITY = "utility.parquet"
EVALUATED_SAMPLES = "forgetting.parquet"
EXAMPLES = "examples.parquet"
PROBES = "probe.parquet"
SUMMARY = "summary.json"

EVALUATED_UTILITY_SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        *((name, pa.string()) for name in ("group", "task", "id")),
        *((name, pa.float64()) for name in ("accuracy", "invalid", "nll")),
    ]
)
EVALUATED_SAMPLES_SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("forgetting_task", pa.string()),
        ("sample_id", pa.string()),
        ("nll", pa.float64()),
        ("memorised", pa.float64()),
    ]
)
EXAMPLES_SCHEMA = pa.schema([(name, pa.string()) for name in ("forgetting_task", "prompt_id", "prompt", "response")])
PROBES_SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("forgetting_task", pa.string()),
        ("probe", pa.string()),
        ("step", pa.int64()),
        ("variant", pa.string()),
        ("nll", pa.float64()),
        ("memorised", pa.float64()),
    ]
)

# eval_report, leaderboard
EFFECTS = "effects.parquet"
REPORT_SAMPLES = "samples.parquet"
REPORT_PAGE = "report.html"
LEADERBOARD = "leaderboard.parquet"
LEADERBOARD_ARMS = "arms.parquet"
LEADERBOARD_JSON = "leaderboard.json"
LEADERBOARD_PAGE = "leaderboard.html"


def seed_folder(checkpoint: Path, seed: int) -> Path:
    """The model directory of one seed in a checkpoint."""
    return checkpoint / f"seed-{seed}"


def seeds_of(checkpoint: Path) -> list[int]:
    """The seeds of a checkpoint, in the study's order."""
    return [entry["seed"] for entry in json.loads((checkpoint / SEEDS).read_text())]


def optimum_folder(checkpoint: Path) -> Path:
    """The model directory of theta_L* in a reference checkpoint."""
    own = checkpoint / OPTIMUM
    return own if own.is_dir() else seed_folder(checkpoint, seeds_of(checkpoint)[0])


def read_ledger(checkpoint: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Every entry of every seed's ledger: seed, step, sample_id, nll_before, nll_after, pushed, update_norm."""
    return [
        {"seed": seed, **row} for seed in seeds for row in read_rows(seed_folder(checkpoint, seed) / UNLEARNING_LEDGER)
    ]


def read_summary(folder: Path) -> dict[str, Any]:
    """The figures of an evaluation, a forgetting_probe or an eval_report."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    return summary
