"""The file of raw results: groups of sections, each measured under the same conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GROUPS = {
    "engine": ("race", "accuracy", "growth", "experts", "training", "generation"),
    "pipeline": ("orchestration", "load", "shared_store"),
    "quickstart": ("quickstart",),
}


class Results:
    """Sections by name, in `path`. Those of a group that were measured on other code or another machine are dropped
    when a new one is put beside them: a page must not mix what is to be compared and cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    def put(self, name: str, data: dict[str, Any], conditions: dict[str, Any], seconds: float) -> list[str]:
        """Add or replace a section, that took `seconds`, and write the file. Returns the names of dropped sections."""
        group = next(group for group in GROUPS.values() if name in group)
        beside = {other: self.sections[other] for other in group if other in self.sections}
        dropped = [other for other, one in beside.items() if one["conditions"]["same"] != conditions["same"]]
        for other in dropped:
            del self.sections[other]
        self.sections[name] = {"conditions": conditions, "took_seconds": seconds, "data": data}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.sections, indent=1) + "\n")
        return sorted(set(dropped) - {name})
