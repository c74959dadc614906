"""Runs the checks of a cell on what is current, and keeps their verdicts in the store for the planner."""

from __future__ import annotations

from dataclasses import asdict

from lwf_assets.checks import Check, Verdict, checks_of
from lwf_assets.errors import LwfError
from lwf_assets.graph import Cell, checked_with
from lwf_assets.store import Artifact, Store
from lwf_assets.study import Study


def judge(study: Study, store: Store, cell: Cell, check: Check) -> Verdict:
    """Look at the cell's current artifact, beside those it is checked with, and keep the verdict.

    Raises:
        LwfError: the cell, or one that it is checked with, is not built.
    """
    artifact, beside = _current(store, cell), {c.asset: _current(store, c) for c in checked_with(study, cell)}
    verdict = check.look(artifact.path, {asset: other.path for asset, other in beside.items()})
    subject = subject_of(artifact, list(beside.values()))
    store.save_verdict(cell.asset, cell.partition, subject, check.name, asdict(verdict))
    return verdict


def subject_of(artifact: Artifact, beside: list[Artifact]) -> str:
    """What verdicts are filed under: the version, and those of whatever it was checked with."""
    return "+".join([artifact.version, *(other.version for other in beside)])


def open_checks(study: Study, store: Store, cell: Cell) -> tuple[list[str], list[str]]:
    """Of the cell's current artifact: the checks that have not been run on it, and what the failed ones said.

    A cell that it is checked with and that is not built leaves its checks open.
    """
    checks = checks_of(cell.asset)
    artifact = store.current(cell.asset, cell.partition)
    others = [store.current(c.asset, c.partition) for c in checked_with(study, cell)]
    beside = [other for other in others if other is not None]
    if artifact is None or len(beside) < len(others):
        return [check.name for check in checks], []
    verdicts = store.verdicts(cell.asset, cell.partition, subject_of(artifact, beside))
    waiting = [check.name for check in checks if check.name not in verdicts]
    failed = [
        f"{check.name}: {verdicts[check.name]['reason']}"
        for check in checks
        if check.name in verdicts and not verdicts[check.name]["passed"]
    ]
    return waiting, failed


def _current(store: Store, cell: Cell) -> Artifact:
    artifact = store.current(cell.asset, cell.partition)
    if artifact is None:
        raise LwfError(f"{cell} is not built, so nothing can be checked; `lwf build` builds it")
    return artifact
