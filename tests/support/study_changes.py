"""A study that differs from another in named settings."""

from __future__ import annotations

import copy
from typing import Any

from lwf_assets.study.study import Study


def changed(values: dict[str, Any], changes: dict[str, Any]) -> Study:
    """The study of `values` with each setting of `changes`, by its dotted key, in place of its own."""
    values = copy.deepcopy(values)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    return Study.model_validate(values)
