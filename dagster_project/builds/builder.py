"""Runs a plan: wave by wave, as Dagster runs in this process, so that torch is imported once.

A Dagster run carries one partition key, so the stale cells of one partition that can run now share a run; inside it
Dagster itself keeps the order and lets its blocking checks block.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Collection

import dagster as dg

from dagster_project.assets import FORCE_TAG
from dagster_project.builds.batches import RunBatch, next_batch
from dagster_project.builds.libraries import libraries_left_alone
from dagster_project.builds.turns import turn_of
from dagster_project.checks import PROMOTION_CHECK, blocking_keys
from dagster_project.definitions import build_definitions
from dagster_project.runs.alive import let_go
from dagster_project.runs.instance import open_instance
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.planning.plan import Step, make_plan
from lwf_assets.store.home import Home
from lwf_assets.study.study import Study

_log = logging.getLogger("lwf.build")


def build(
    study: Study,
    home: Home,
    *,
    only: Collection[Cell] | None = None,
    force: Collection[Cell] = (),
    tell: Callable[[RunBatch], None] = lambda batch: None,
) -> list[Cell]:
    """Make the study, or `only` some cells with all that they are made from, up to date.

    The plan is recomputed after every run: an input that turns out the same as before ends the work early.

    Args:
        study: what is wanted.
        home: where it is built.
        only: cells that are asked for; None for all.
        force: cells to rebuild even if they are up to date.
        tell: called before every Dagster run.

    Returns:
        The cells that were run, in order.

    Raises:
        LwfError: a step or a blocking check failed, or one that failed earlier still blocks; or, when all is built, a
            model was not promoted.
        KeyboardInterrupt: Ctrl-C.
    """
    instance = open_instance(home)
    # One step at a time anyway; and the place in the pool of a run that was killed would be waited for for ever.
    definitions = build_definitions(study, home, pooled=False)
    forced = set(force)
    ran: list[Cell] = []
    not_promoted: list[str] = []
    with turn_of(study, home), libraries_left_alone() as leave_alone:
        while True:
            leave_alone()
            plan = make_plan(study, home.store, home.file_hashes, only=only, force=forced)
            batch = next_batch(study, plan)
            if batch is None:
                refuse_blocked(plan.blocked)
                if not_promoted:
                    raise LwfError(f"everything is built, but not promoted: {'; '.join(not_promoted)}")
                return ran
            tell(batch)
            not_promoted += _run(study, definitions, instance, batch, forced)
            ran += batch.cells
            forced -= set(batch.cells)


def _run(
    study: Study, definitions: dg.Definitions, instance: dg.DagsterInstance, batch: RunBatch, forced: set[Cell]
) -> list[str]:
    """Run the cells of a batch; returns the reasons why a model was not promoted, which ends no build: nothing is made
    from what the registry calls champion."""
    anew = ",".join(cell.asset for cell in batch.cells if cell in forced)
    job = definitions.resolve_job_def(batch.job).get_subset(
        asset_selection={dg.AssetKey(cell.asset) for cell in batch.cells},
        asset_check_selection={key for cell in batch.cells for key in blocking_keys(study, cell.asset)},
    )
    terminate = signal.getsignal(signal.SIGTERM)
    result = job.execute_in_process(
        instance=instance,
        partition_key=batch.partition.key,
        tags={FORCE_TAG: anew} if anew else {},
        # The terminal shows progress bars; Dagster's event log keeps everything.
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    let_go()
    if threading.current_thread() is threading.main_thread():
        # Dagster leaves it with Ctrl-C's handler: in the background both would be ignored from here on.
        signal.signal(signal.SIGTERM, terminate)
    failed = [evaluation for evaluation in result.get_asset_check_evaluations() if not evaluation.passed]
    for evaluation in failed:
        if evaluation.severity == dg.AssetCheckSeverity.WARN:
            _log.warning("%s: %s", batch.partition.key, evaluation.description)
    if result.success:
        return []
    not_promoted = [str(evaluation.description) for evaluation in failed if evaluation.check_name == PROMOTION_CHECK]
    reasons = [
        f"{evaluation.asset_key.to_user_string()}: check {evaluation.check_name} failed: {evaluation.description}"
        for evaluation in failed
        if evaluation.check_name != PROMOTION_CHECK
    ]
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.error is not None and failure.error.cls_name == "DagsterExecutionInterruptedError":
                raise KeyboardInterrupt  # Dagster took it for the failure of the step
            if failure.error is not None and failure.error.cls_name == "DagsterAssetCheckFailedError":
                continue  # the check's own message is listed above
            described = failure.user_failure_data.description if failure.user_failure_data else None
            reasons.append(f"{event.step_key}: {(described or str(failure.error_display_string)).strip()}")
    if not_promoted and not reasons:
        return [f"{batch.partition.key}: {reason}" for reason in not_promoted]
    name = f"{batch.job} {batch.partition.key or ''}".strip()
    raise LwfError(f"the run {name} failed: " + ("; ".join(reasons) or f"see Dagster run {result.run_id}"))


def refuse_blocked(blocked: tuple[Step, ...]) -> None:
    """Where all that is left waits for a check that failed, say which.

    Raises:
        LwfError: names the cells, what their checks said, and what to do.
    """
    causes = [step for step in blocked if any(reason.startswith("check failed") for reason in step.reasons)]
    if causes:
        reasons = "; ".join(f"{step.cell}: {', '.join(step.reasons)}" for step in causes)
        raise LwfError(
            f"{reasons}. {len(blocked)} cells wait for it. Change what it is made from, or rebuild it with "
            f"`lwf build --force {causes[0].cell.asset}`"
        )
