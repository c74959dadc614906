"""Task settings: presets and what overrides them, and messages that name the key at fault."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from lwf_assets.tasks.presets import PRESETS
from lwf_assets.tasks.settings import GeneratorSource, HubSource, Rows, TaskSettings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_a_round_trip(name: str) -> None:
    settings = TaskSettings.model_validate({"preset": name})
    dumped = json.loads(json.dumps(settings.model_dump(mode="json")))
    assert TaskSettings.model_validate(dumped) == settings
    assert TaskSettings.model_validate({**dumped, "preset": None}).model_dump(exclude={"preset"}) == (
        settings.model_dump(exclude={"preset"})
    )


def test_explicit_keys_win_and_the_rest_of_the_preset_stays() -> None:
    settings = TaskSettings.model_validate(
        {
            "preset": "chain_sum",
            "source": {"seed": 3, "parameters": {"max_terms": 4}},
            "rows": {"train": 5},
            "max_new_tokens": 9,
        }
    )
    assert settings.source == GeneratorSource(
        generator="chain_sum", seed=3, parameters={"max_terms": 4, "max_digits": 2}
    )
    assert settings.rows == Rows(train=5, validation=200, test=200)
    assert (settings.max_new_tokens, settings.scorer) == (9, "reasoning_gym")


def test_models_lie_over_a_preset_as_plain_keys_do() -> None:
    plain = TaskSettings.model_validate({"preset": "chain_sum", "rows": {"train": 5}})
    assert TaskSettings.model_validate({"preset": "chain_sum", "rows": Rows(train=5)}) == plain


def test_another_kind_of_source_takes_nothing_from_the_preset() -> None:
    source = {"kind": "hub", "id": "x/y", "revision": "abc"}
    settings = TaskSettings.model_validate({"preset": "chain_sum", "source": source, "scorer": "exact"})
    assert settings.source == HubSource(id="x/y", revision="abc")


@pytest.mark.parametrize(
    ("keys", "prompt", "scorer"),
    [
        ({"source": {"kind": "file", "train": "a.csv"}}, "{prompt}", "exact"),
        ({"source": {"kind": "hub", "id": "x/y", "revision": "v1"}}, "Question: {question}\nAnswer:", "exact"),
        (
            {
                "source": {"kind": "reasoning_gym", "generator": "gcd"},
                "rows": {"train": 1, "validation": 1, "test": 1},
            },
            "Question: {question}\nAnswer:",
            "reasoning_gym",
        ),
    ],
)
def test_defaults_follow_the_source(keys: dict[str, Any], prompt: str, scorer: str) -> None:
    settings = TaskSettings.model_validate(keys)
    assert (settings.prompt, settings.target, settings.answer) == (prompt, "{answer}", "{answer}")
    assert (settings.scorer, settings.choices, settings.stop) == (scorer, [], ["\nQuestion:"])


FILE = {"kind": "file", "train": "a.csv"}
GENERATOR = {"kind": "reasoning_gym", "generator": "gcd"}
BAD = {
    "unknown preset": ({"preset": "gsmk8"}, "preset: unknown preset 'gsmk8'; did you mean gsm8k"),
    "no source": ({}, "source\n  Field required"),
    "unknown key": ({"source": FILE, "promt": "x"}, "promt\n  Extra inputs are not permitted"),
    "unknown kind": ({"source": {"kind": "web"}}, "'hub', 'file', 'reasoning_gym'"),
    "unpinned": ({"source": {"kind": "hub", "id": "x/y"}}, "revision: missing; give the commit of 'x/y'"),
    "preset's pin for another id": ({"preset": "gsm8k", "source": {"id": "x/y"}}, "revision: missing"),
    "no file": ({"source": {"kind": "file"}}, "no file is named; give `train`"),
    "empty config": ({"source": {"kind": "hub", "id": "./x", "config": []}}, "source.hub.config"),
    "config twice": ({"source": {"kind": "hub", "id": "./x", "config": ["a", "a"]}}, "named twice"),
    "zero rows": ({"source": FILE, "rows": {"test": 0}}, "rows.test\n  Input should be greater than or equal to 1"),
    "endless generator": ({"source": GENERATOR, "rows": {"train": 5}}, "rows.validation: a generator has no end"),
    "seed among parameters": ({"source": {**GENERATOR, "parameters": {"seed": 1}}}, "parameters\n  .*seed: write it"),
    "size among parameters": ({"source": {**GENERATOR, "parameters": {"size": 1}}}, "say how many .* under `rows`"),
    "choice without choices": ({"source": FILE, "scorer": "choice"}, "choices: the scorer 'choice' needs"),
    "choices without choice": ({"source": FILE, "choices": ["a", "b"]}, "the scorer is 'exact'"),
    "one choice": ({"source": FILE, "scorer": "choice", "choices": ["a"]}, r"choices\n  .*give two or more"),
    "padded choice": ({"source": FILE, "scorer": "choice", "choices": [" a", "b"]}, r"choices\n  .*remove the space"),
    "generator's scorer elsewhere": ({"source": FILE, "scorer": "reasoning_gym"}, "scorer: 'reasoning_gym' scores"),
    "constant prompt": ({"source": FILE, "prompt": "Say something."}, "prompt\n  .*shows no column"),
    "open brace": ({"source": FILE, "prompt": "{prompt"}, "prompt\n  .*expected '}'"),
    "expression": ({"source": FILE, "prompt": "{prompt!r}"}, "prompt\n  .*not the name of a column"),
    "position": ({"source": FILE, "target": "{}"}, "target\n  .*not the name of a column"),
    "empty stop": ({"source": FILE, "stop": [""]}, "stop\n  .*an empty text would end"),
    "no tokens": ({"source": FILE, "max_new_tokens": 0}, "max_new_tokens"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_name_the_key(case: str) -> None:
    keys, message = BAD[case]
    with pytest.raises(ValidationError, match=message):
        TaskSettings.model_validate(keys)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TaskSettings.model_validate({"preset": "gsm8k"}).max_new_tokens = 1


def test_importing_tasks_loads_nothing_heavy() -> None:
    code = (
        "import sys, lwf_assets.tasks.task as _; "
        "print([m for m in ('torch', 'transformers', 'datasets', 'reasoning_gym', 'sklearn', 'pyarrow') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
