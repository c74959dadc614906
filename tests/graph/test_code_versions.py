"""No change of what an asset computes goes unnoticed."""

from __future__ import annotations

import json

import pytest
from code_versions import RECORD, code_versions, normalized

ADVICE = """
The code that the contents of {names} are computed by has changed (see tests/support/code_versions.py).
If their contents change for the same settings and inputs, raise `code_version` of those assets in
lwf_assets/graph/table.py. Then, or if the contents stay the same, run
    .venv/bin/python tests/support/code_versions.py
and commit what it writes."""


def test_code_versions_fit_the_code() -> None:
    recorded, now = json.loads(RECORD.read_text()), code_versions()
    changed = [name for name in now if now[name] != recorded.get(name)]
    assert not changed, ADVICE.format(names=", ".join(changed))


@pytest.mark.parametrize(
    "other",
    [
        '"""Other words."""\ndef f(x: float) -> float:\n    """Twice."""\n    return 2 * x  # twice\n',
        "import math\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\ndef f(x):\n    return 2*x",
    ],
)
def test_words_types_and_imports_do_not_count(other: str) -> None:
    assert normalized(other) == normalized("def f(x):\n    return 2 * x\n")


def test_what_an_error_says_does_not_count() -> None:
    assert normalized("raise ValueError('one')") == normalized("raise ValueError(f'two {1}')")
    assert normalized("raise ValueError('one')") != normalized("raise KeyError('one')")


@pytest.mark.parametrize("other", ["return 3 * x", "return 2 + x", "return 2 * y", "x += 0\n    return 2 * x"])
def test_what_computes_counts(other: str) -> None:
    assert normalized(f"def f(x):\n    {other}\n") != normalized("def f(x):\n    return 2 * x\n")
