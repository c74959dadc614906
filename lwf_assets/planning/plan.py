"""What is stale and why: a pure function of the asset graph, the current manifests and the study.

Dagster's own staleness cannot answer this here: at asset level it reads fresh for partitioned assets, it sees only one
hop up, and its blocking checks block only inside one run. So the planner compares, cell by cell, the recipe that the
study asks for with the recipe of what is current, and reads the results of the blocking checks itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lwf_assets.building.check_runner import standing
from lwf_assets.graph.cells import Cell, cells, checked_with, inputs_of, needs_of, recipe_of, settings_of
from lwf_assets.graph.setting_changes import setting_changes
from lwf_assets.graph.settings import HashFile
from lwf_assets.store.manifest import InputVersion, Manifest
from lwf_assets.store.store import Store
from lwf_assets.study.study import Study


class Action(StrEnum):
    """What has to happen to a cell."""

    MAKE = "make"
    """The work is to be done (unless an input, once rebuilt, turns out the same)."""
    TAKE = "reuse from store"
    """The store has it; it only has to become current again."""
    CHECK = "check"
    """It is there, but its blocking checks have not been run."""
    BLOCKED = "blocked"
    """A blocking check failed on it, or on something that it is made from."""
    NOTHING = "nothing"
    """It is up to date."""


@dataclass(frozen=True)
class Step:
    """One cell of the plan, with the reasons as text; `recipe` is None while an input is still to be built: then it
    `waits`, unless it is forced."""

    cell: Cell
    action: Action
    reasons: tuple[str, ...] = ()
    recipe: str | None = field(default=None, compare=False)
    waits: bool = field(default=False, compare=False)

    @property
    def is_stale(self) -> bool:
        """Whether `lwf build` has something to do here."""
        return self.action in (Action.MAKE, Action.TAKE, Action.CHECK)


@dataclass(frozen=True)
class Plan:
    """Every cell asked about, each after all that it is made from."""

    steps: tuple[Step, ...]

    @property
    def stale(self) -> tuple[Step, ...]:
        """What a build would run."""
        return tuple(step for step in self.steps if step.is_stale)

    @property
    def blocked(self) -> tuple[Step, ...]:
        """What a failed check keeps from being used or built."""
        return tuple(step for step in self.steps if step.action == Action.BLOCKED)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "stale": [_step_dict(step) for step in self.stale],
            "blocked": [_step_dict(step) for step in self.blocked],
            "fresh": sum(step.action == Action.NOTHING for step in self.steps),
        }


def make_plan(
    study: Study,
    store: Store,
    file_hash: HashFile,
    *,
    only: Collection[Cell] | None = None,
    force: Collection[Cell] = (),
) -> Plan:
    """The plan for `only` these cells (with all that they are made from) or for the whole study.

    Args:
        study: what is wanted.
        store: what is there.
        file_hash: gives a source file's sha256.
        only: cells that are asked for; None for all.
        force: cells to rebuild even if they are up to date.

    Raises:
        LwfError: a source file or model that the study names cannot be read.
    """
    store.refresh()
    wanted = cells(study) if only is None else with_ancestors(study, only)
    planner = _Planner(study, store, file_hash, frozenset(force))
    return Plan(tuple(planner.step(cell) for cell in wanted))


def with_ancestors(study: Study, asked: Collection[Cell]) -> tuple[Cell, ...]:
    """`asked` and everything that must be there for them, in building order."""
    needed: set[Cell] = set()
    open_cells = list(asked)
    while open_cells:
        cell = open_cells.pop()
        if cell not in needed:
            needed.add(cell)
            open_cells += needs_of(study, cell)
    return tuple(cell for cell in cells(study) if cell in needed)


class _Planner:
    """Goes through the cells in building order and remembers which version each will have, where that is known."""

    def __init__(self, study: Study, store: Store, file_hash: HashFile, force: frozenset[Cell]) -> None:
        self.study = study
        self.store = store
        self.file_hash = file_hash
        self.force = force
        self.versions: dict[Cell, str] = {}
        self.blocked: set[Cell] = set()

    def step(self, cell: Cell) -> Step:
        step = self._step(cell)
        if step.action == Action.BLOCKED:
            self.blocked.add(cell)
        return step

    def _step(self, cell: Cell) -> Step:
        inputs = inputs_of(self.study, cell)
        blocking = [needed for needed in inputs if needed in self.blocked]
        if blocking:
            return Step(cell, Action.BLOCKED, tuple(f"{needed} is blocked" for needed in blocking))
        if cell in self.force:
            return Step(cell, Action.MAKE, ("forced",))
        current = self.store.current(cell.asset, cell.partition)
        manifest = current.manifest if current is not None else None
        settings = settings_of(self.study, cell, self.file_hash)
        waiting = [needed for needed in inputs if needed not in self.versions]
        if waiting:
            reasons = tuple(f"{needed} is recomputed" for needed in waiting) if manifest else ("not built",)
            return Step(cell, Action.MAKE, reasons, waits=True)
        versions = tuple(InputVersion(c.asset, c.partition.key, self.versions[c]) for c in inputs)
        recipe = recipe_of(cell, settings, versions)
        if manifest is not None and manifest.recipe == recipe:
            return self._checked(cell, manifest.version, Step(cell, Action.NOTHING, recipe=recipe))
        reasons = _differences(manifest, cell, settings, versions)
        found = self.store.by_recipe(cell.asset, cell.partition, recipe)
        if found is None:
            return Step(cell, Action.MAKE, reasons, recipe)
        return self._checked(cell, found.version, Step(cell, Action.TAKE, reasons, recipe))

    def _checked(self, cell: Cell, version: str, step: Step) -> Step:
        """`step`, unless the blocking checks of the version that the cell has, or is about to have, say otherwise."""
        self.versions[cell] = version
        others = checked_with(self.study, cell)
        unknown = [other for other in others if other not in self.versions]
        if unknown:
            waiting, failed = [f"{other} is recomputed" for other in unknown], list[str]()
        else:
            waiting, failed = standing(self.store, cell, version, [self.versions[other] for other in others])
        if failed:
            return Step(cell, Action.BLOCKED, tuple(f"check failed: {reason}" for reason in failed))
        if waiting and step.action == Action.NOTHING:
            return Step(cell, Action.CHECK, tuple(f"not checked yet: {name}" for name in waiting), step.recipe)
        return step


def _differences(
    manifest: Manifest | None, cell: Cell, settings: dict[str, Any], versions: tuple[InputVersion, ...]
) -> tuple[str, ...]:
    """Why the current artifact is not the one that is wanted."""
    if manifest is None:
        return ("not built",)
    reasons = []
    if manifest.code_version != cell.spec.code_version:
        reasons.append(f"its code changed: {manifest.code_version} -> {cell.spec.code_version}")
    reasons += setting_changes(manifest.settings, settings)
    before = {(e.asset, e.partition): e.version for e in manifest.inputs}
    after = {(e.asset, e.partition): e.version for e in versions}
    for key in [*before, *(key for key in after if key not in before)]:
        name = f"{key[0]}[{key[1]}]" if key[1] else key[0]
        match before.get(key), after.get(key):
            case (None, _):
                reasons.append(f"{name} is new")
            case (_, None):
                reasons.append(f"{name} is no longer an input")
            case (old, new) if old != new:
                reasons.append(f"{name} changed")
    return tuple(reasons) or ("its manifest has another layout",)


def _step_dict(step: Step) -> dict[str, Any]:
    return {
        "asset": step.cell.asset,
        "partition": step.cell.partition.key,
        "action": step.action.value,
        "reasons": list(step.reasons),
    }
