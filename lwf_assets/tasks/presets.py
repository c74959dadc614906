"""Tasks by name: those of the LWF paper and of the kinds it looks at, and generated ones that need no network.

A preset is only a set of defaults; any key that the study file gives wins. The hub revisions are commits that public
code pins for the same data sets. "dental" and "psychol" are our reading of the paper's task names.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # The paper's tasks (Jiang et al., "Graceful Forgetting in Generative Language Models", EMNLP 2025).
    "gsm8k": {
        "source": {
            "kind": "hub",
            "id": "openai/gsm8k",
            "config": "main",
            "revision": "e53f048856ff4f594e959d75785d2c2d37b678ee",
            "splits": {"train": "train", "validation": None, "test": "test"},
        },
        "form": "gsm8k",
        # lm-evaluation-harness stops here too.
        "stop": ["Question:"],
        "max_new_tokens": 256,
    },
    "qasc": {
        "source": {
            "kind": "hub",
            "id": "allenai/qasc",
            "revision": "a34ba204eb9a33b919c10cc08f4f1c8dae5ec070",
            # Its test split has no labels, so the validation split is what can be scored.
            "splits": {"train": "train", "validation": None, "test": "validation"},
        },
        "form": "qasc",
        "max_new_tokens": 4,
    },
    "sst5": {
        "source": {
            "kind": "hub",
            "id": "SetFit/sst5",
            "revision": "e51bdcd8cd3a30da231967c1a249ba59361279a3",
            "splits": {"train": "train", "validation": "validation", "test": "test"},
        },
        "form": "sst5",
        "max_new_tokens": 4,
    },
    "dental": {
        "source": {
            "kind": "hub",
            "id": "openlifescienceai/medmcqa",
            "revision": "91c6572c454088bf71b679ad90aa8dffcd0d5868",
            "where": {"subject_name": "Dental"},
            # Its test split has no labels, so the validation split is what can be scored.
            "splits": {"train": "train", "validation": None, "test": "validation"},
        },
        "form": "medmcqa",
        "max_new_tokens": 4,
    },
    "psychol": {
        "source": {
            "kind": "hub",
            "id": "cais/mmlu",
            "config": ["professional_psychology", "high_school_psychology"],
            "revision": "c30699e8356da336a370243923dbaf21066bb9fe",
            # A subject of mmlu has no train split. Scores are comparable only on its test split, and of the two that
            # are left the validation split (129 rows) teaches more than the few-shot examples of dev (10 rows).
            "splits": {"train": "validation", "validation": "dev", "test": "test"},
        },
        "form": "mmlu",
        "max_new_tokens": 4,
    },
    # The kinds of task that the paper looks at further on: translation, and questions in many languages.
    "opus100_de_en": {
        "source": {
            "kind": "hub",
            "id": "Helsinki-NLP/opus-100",
            "config": "de-en",
            "revision": "805090dc28bf78897da9641cdf08b61287580df9",
        },
        "prompt": "German: {translation.de}\nEnglish:",
        "target": "{translation.en}",
        "scorer": "bleu",
        "stop": ["\n"],
        "max_new_tokens": 128,
    },
    "tydiqa": {
        "source": {
            "kind": "hub",
            "id": "google-research-datasets/tydiqa",
            "config": "secondary_task",  # with the passage that holds the answer; nine languages
            "revision": "da78f23f9119363459acbaf46bf89426ff26c259",
            "splits": {"train": "train", "validation": None, "test": "validation"},
        },
        "prompt": "{context}\nQuestion: {question}\nAnswer:",
        "target": "{answers.text[0]}",
        "scorer": "token_f1",
        "stop": ["\n"],
        "max_new_tokens": 64,
    },
    # Generated tasks, all within reach of a model of 135 million parameters.
    "chain_sum": {
        "source": {
            "kind": "reasoning_gym",
            "generator": "chain_sum",
            "parameters": {"max_terms": 3, "max_digits": 2},
        },
        "max_new_tokens": 8,
        "rows": {"train": 2000, "validation": 200, "test": 200},
    },
    "family_relationships": {
        "source": {"kind": "reasoning_gym", "generator": "family_relationships"},
        "max_new_tokens": 8,
        "rows": {"train": 2000, "validation": 200, "test": 200},
    },
    "gsm_symbolic": {
        "source": {"kind": "reasoning_gym", "generator": "gsm_symbolic"},
        "max_new_tokens": 16,
        "rows": {"train": 2000, "validation": 200, "test": 200},
    },
    "leg_counting": {
        "source": {
            "kind": "reasoning_gym",
            "generator": "leg_counting",
            "parameters": {"min_animals": 1, "max_animals": 2, "max_instances": 5},
        },
        "max_new_tokens": 8,
        "rows": {"train": 2000, "validation": 200, "test": 200},
    },
    "letter_counting": {
        "source": {
            "kind": "reasoning_gym",
            "generator": "letter_counting",
            "parameters": {"min_words": 2, "max_words": 4},
        },
        "max_new_tokens": 8,
        "rows": {"train": 2000, "validation": 200, "test": 200},
    },
    "syllogism": {
        "source": {"kind": "reasoning_gym", "generator": "syllogism"},
        "max_new_tokens": 8,
        "rows": {"train": 2000, "validation": 200, "test": 200},
    },
}


def merge_preset(preset: str, explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `preset` with those of `explicit` laid over them; `source` and `rows` are merged key by key.

    Raises ValueError, with the nearest names, when there is no such preset.
    """
    if preset not in PRESETS:
        near = get_close_matches(preset, PRESETS, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"preset: unknown preset {preset!r}; {hint}choose from {', '.join(PRESETS)}")
    defaults = PRESETS[preset]
    merged = {**defaults, **explicit}
    for key, merge in (("source", _merge_source), ("rows", _merge_rows)):
        if isinstance(explicit.get(key), Mapping) and key in defaults:
            merged[key] = merge(defaults[key], explicit[key])
    return merged


def _merge_rows(defaults: Mapping[str, Any], explicit: Mapping[str, Any]) -> dict[str, Any]:
    return {**defaults, **explicit}


def _merge_source(defaults: Mapping[str, Any], explicit: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("kind", "generator"):
        if key in explicit and explicit[key] != defaults.get(key):
            return dict(explicit)  # Another source altogether: nothing of the preset's fits it.
    merged = {**defaults, **explicit}
    if explicit.get("id", defaults.get("id")) != defaults.get("id") and "revision" not in explicit:
        merged.pop("revision", None)  # A commit of one data set says nothing of another.
    for key in ("splits", "parameters"):
        if isinstance(explicit.get(key), Mapping) and key in defaults:
            merged[key] = {**defaults[key], **explicit[key]}
    return merged
