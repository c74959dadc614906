"""A store whose artifacts hold one line of text each, made by the real `materialize`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lwf_assets.graph.table
from lwf_assets import assets
from lwf_assets.building.check_runner import judge
from lwf_assets.building.checks import CheckResult, checks_of
from lwf_assets.building.materialize import materialize
from lwf_assets.disk.hashes import hash_file
from lwf_assets.graph.cells import Cell, cells, settings_of
from lwf_assets.graph.work import Work
from lwf_assets.planning.plan import Action, Plan, Step, make_plan
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Store
from lwf_assets.study.study import Study

FIRST, SECOND = "teeth|sums", "minds|sums"


def cell(text: str) -> Cell:
    """The cell that is written `asset[forgetting|learning]`, or `evaluation[learning|model]`."""
    asset, _, key = text.rstrip("]").partition("[")
    names = iter(key.split("|")) if key else iter(())
    dimensions = lwf_assets.graph.table.ASSET[asset].dimensions
    return Cell(asset, Partition(**{dimension: next(names) for dimension in dimensions}))


@dataclass
class Pretend:
    """A study whose artifacts hold one line of text each, made by the real `materialize`."""

    values: dict[str, Any]
    store: Store
    made: list[str] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)

    @property
    def study(self) -> Study:
        return Study.model_validate(self.values)

    def work(self, asset: str, work: Work) -> dict[str, Any]:
        which = Cell(asset, work.partition)
        self.made.append(str(which))
        settings = json.dumps(settings_of(work.study, which, hash_file), sort_keys=True)
        versions = sorted(artifact.version for artifact in work.inputs.values())
        (work.out / "contents").write_text(self.contents.get(str(which), f"{which} {settings} {versions}"))
        return {}

    def make(self, which: Cell, *, checks: bool = True) -> None:
        materialize(self.study, self.store, which)
        if checks:
            self.judge(which)

    def judge(self, which: Cell, *, failing: Collection[str] = ()) -> None:
        for check in checks_of(which.asset):
            verdict = CheckResult(check.name not in failing, "it is bad" if check.name in failing else "fine")
            judge(self.study, self.store, which, dataclasses.replace(check, look=lambda *_, v=verdict: v))

    def make_all(self) -> None:
        for which in cells(self.study):
            self.make(which)

    def plan(self, *, only: Collection[Cell] | None = None, force: Collection[Cell] = ()) -> Plan:
        return make_plan(self.study, self.store, hash_file, only=only, force=force)

    def steps(self) -> dict[str, Step]:
        return {str(step.cell): step for step in self.plan().steps if step.action != Action.NOTHING}

    def actions(self) -> dict[str, str]:
        return {name: step.action.name for name, step in self.steps().items()}


def pretend_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """One with nothing made yet, whose sources and store are in `folder`."""
    sources = folder / "sources"
    (sources / "model").mkdir(parents=True)
    (sources / "model" / "config.json").write_text("{}")
    (sources / "model" / "model.safetensors").write_bytes(b"weights")
    for subject in ("teeth", "minds"):
        (sources / f"{subject}.jsonl").write_text(f'{{"prompt": "{subject}?"}}\n')

    def source(subject: str) -> dict[str, Any]:
        return {"source": {"kind": "file", "prompts": str(sources / f"{subject}.jsonl")}}

    values = {
        "name": "pretend",
        "model": {"source": {"kind": "directory", "path": str(sources / "model")}},
        "learning_tasks": {"sums": {"preset": "chain_sum"}},
        "forgetting_tasks": {"teeth": source("teeth"), "minds": source("minds")},
        "training": {"max_steps": 6, "learning_rate": 0.25},
    }
    world = Pretend(values, Store(folder / "store"))

    monkeypatch.setattr(assets, "materialize", world.work)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # two dozen artifacts a test are many for a slow disk
    return world


def downstream(*names: str) -> set[str]:
    """What follows from another forget set in these cells."""
    return {line for name in names for line in (f"lwf_checkpoint[{name}]", evaluated(name), f"eval_report[{name}]")} | {
        "leaderboard"
    }


def evaluated(name: str) -> str:
    """LWF's evaluation in a cell."""
    forgotten, learned = name.split("|")
    return f"evaluation[{learned}|lwf.{forgotten}]"
