"""The paper's studies, and local mirrors of what they read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import ROOT
from tiny import save_tiny_model

from lwf_assets.study.file import load_study
from lwf_assets.study.study import Study

sys.path.append(str(ROOT / "tests" / "tasks"))

from hub_mirrors import WRITERS, write_jsonl

SMALL, LARGE = ROOT / "studies" / "paper_llama3.2_1b.yaml", ROOT / "studies" / "paper_llama3_8b.yaml"


TASKS = ("gsm8k", "qasc", "sst5", "dental", "psychol")


GRID = {(learned, forgotten) for learned in TASKS for forgotten in (*TASKS, "mixed") if learned != forgotten}


ABLATIONS = ("low", "random", "upfront", "random_timing")


BASELINES = ("bss", "l2_sp", "weight_decay")


OBJECTIVES = ("npo", "simnpo", "gradient_difference", "gradient_difference_kl")


CONTROLS = ("random_tokens", "weight_noise")


SWEEPS = (
    *("ratio_quarter", "ratio_tenth", "interval_2", "interval_20"),
    *("rate_third", "rate_triple", "alpha_hundredfold", "alpha_one"),
)


def offline(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """No hub, and no cache of earlier runs."""
    import datasets.config
    import huggingface_hub.constants

    patch.setenv("HF_DATASETS_OFFLINE", "1")
    patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))


def local_task(folder: Path, task: str, rows: dict[str, int]) -> dict[str, Any]:
    """The task's source and size, over what the paper's study says of it."""
    return {"source": {"id": str(folder / "hub" / task)}, "rows": rows, "max_new_tokens": 6 if task == "gsm8k" else 2}


def small_world(path: Path, folder: Path, **changes: Any) -> Study:
    """The paper's study with local mirrors of its data sets and a tiny random model: a few rows, a few steps, one
    seed."""
    save_tiny_model(folder / "model")
    texts = ({"id": "river", "text": "A river slows down."}, {"id": "soup", "text": "Warm some oil in a pot."})
    write_jsonl(folder / "neutral.jsonl", list(texts))
    for task, write in WRITERS.items():
        (folder / "hub" / task).mkdir(parents=True)
        write(folder / "hub" / task)
    values = {
        "extends": str(path),
        "model": {"source": {"kind": "directory", "path": "model"}, "dtype": "float32", "max_length": 256},
        "learning_tasks": {task: local_task(folder, task, {"train": 8, "validation": 2, "test": 3}) for task in TASKS},
        "forgetting_tasks": {task: local_task(folder, task, {"train": 4, "test": 2}) for task in TASKS},
        "generation": {"max_new_tokens": 6},
        "training": {
            **{"epochs": None, "max_steps": 4, "batch_size": 2, "gradient_accumulation": 1},
            **{"learning_rate": 0.01, "autocast": "off", "validate_every": 2},
        },
        "fisher": {"samples": 3},
        "unlearning": {"interval": 2, "forgetting_rate": 1e-4, "batch_size": 2, "per_sample_cap": 20.0},
        "evaluation": {"response_examples": 1, "neutral_text": "neutral.jsonl"},
        "probe": {"relearning_steps": 1, "quantization": [8], "prompt_forms": ["{prompt}\n"]},
        "seeds": [0],
        **changes,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    return load_study(folder / "study.yaml")
