"""Runs the checks of a cell on what is current, and keeps their verdicts in the store for the planner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from lwf_assets.building.checks import Check, CheckResult, checks_of
from lwf_assets.graph.cells import Cell, checked_with
from lwf_assets.store.store import Store
from lwf_assets.study.study import Study


def judge(study: Study, store: Store, cell: Cell, check: Check) -> CheckResult:
    """Check the cell's current artifact, together with those it is checked with, and keep the result.

    Raises:
        LwfError: the cell, or one that it is checked with, is not built.
    """
    artifact = store.built(cell.asset, cell.partition)
    beside = {other.asset: store.built(other.asset, other.partition) for other in checked_with(study, cell)}
    verdict = check.look(artifact.path, {asset: other.path for asset, other in beside.items()})
    subject = _subject(artifact.version, [other.version for other in beside.values()])
    store.save_verdict(cell.asset, cell.partition, subject, check.name, asdict(verdict))
    return verdict


def standing(store: Store, cell: Cell, version: str, beside: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of one version of the cell, together with the versions that it is checked with: the checks that have not been run
    on it, and what the failed ones said."""
    verdicts = store.verdicts(cell.asset, cell.partition, _subject(version, beside))
    names = [check.name for check in checks_of(cell.asset)]
    waiting = [name for name in names if name not in verdicts]
    failed = [f"{n}: {verdicts[n]['reason']}" for n in names if n in verdicts and not verdicts[n]["passed"]]
    return waiting, failed


def _subject(version: str, beside: Sequence[str]) -> str:
    """What verdicts are filed under: the version, and those of whatever it was checked with."""
    return "+".join([version, *beside])
