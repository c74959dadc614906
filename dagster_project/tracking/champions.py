"""The champion of each cell in MLflow's model registry: promotion and rollback.

The decision is made in `comparison/promotion.py`. It is written on the model version, and in the store with the
check results of the checkpoint, where the lineage finds it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from dagster_project.runs.failures import Kind, kind_of
from dagster_project.tracking.address import is_there, shown
from dagster_project.tracking.client import experiment_of, open_client
from dagster_project.tracking.registry import CHALLENGER, VERSION_TAG, artifact_of, register, registered_name
from lwf_assets.building.check_runner import standing
from lwf_assets.building.materialize import materialize
from lwf_assets.comparison.promotion import Decision, decide_promotion
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell, checked_with
from lwf_assets.store.bases import base_in_store
from lwf_assets.store.home import Home
from lwf_assets.store.manifest import MANIFEST, Manifest
from lwf_assets.store.partition import Partition
from lwf_assets.store.store import Artifact
from lwf_assets.study.study import LWF, Study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
"""Alias of the version that is in use."""

DECISION_TAG, BEFORE_TAG, ROLLED_BACK_TAG = "lwf.promotion", "lwf.champion_before", "lwf.rolled_back"
"""Tags of a model version: the decision about it as JSON; whose place it took; when it was taken back."""

RECORD = "promotion"
"""Name of the decision among the verdicts on a checkpoint."""


class RegistryAwayError(LwfError):
    """MLflow does not answer."""


def promote_challenger(study: Study, home: Home, uri: str, partition: Partition) -> Decision:
    """Make the cell's challenger the champion if the study's conditions hold, and write down the decision.

    Raises:
        LwfError: the study has no conditions; or the cell's model is not built and evaluated, or its checks have
            failed or were never run.
        RegistryAwayError: MLflow does not answer; nothing was changed that the next try would not change again.
    """
    if study.promotion is None:
        raise LwfError(f"{study.name}: the study has no `promotion` section, which says when a model is promoted")
    _refuse_unchecked(study, home, _checkpoint(partition))
    with _told_when_away(uri, "no model was promoted. `lwf promote` does it when it is back"):
        return _promote(study, home, uri, partition)


@contextmanager
def _told_when_away(uri: str, so: str) -> Iterator[None]:
    away = f"MLflow at {shown(uri)} is away, so {so}"
    if not uri.startswith("sqlite:") and not is_there(uri):
        raise RegistryAwayError(away)
    try:
        yield
    except Exception as error:
        if isinstance(error, LwfError) or kind_of(error) != Kind.PASSING:
            raise
        raise RegistryAwayError(away) from None


def _promote(study: Study, home: Home, uri: str, partition: Partition) -> Decision:
    client, name = open_client(uri), registered_name(study.name, _checkpoint(partition))
    challenger, champion = _challenger(client, uri, study, home, partition), _version(client, name, CHAMPION)
    if champion is not None and champion.version == challenger.version:
        return Decision(True, (f"version {champion.version} is the champion already",))
    if ROLLED_BACK_TAG in challenger.tags:
        decision = Decision(False, (f"version {challenger.version} was the champion and was rolled back",))
    else:
        decision = _decide(study, home, partition, challenger, champion)
    _write_down(client, home, name, partition, challenger, champion, decision)
    return decision


def roll_back(study: Study, home: Home, uri: str, partition: Partition) -> tuple[str, str]:
    """Make the version before the champion the champion again; returns the versions that it was and is.

    Raises:
        LwfError: there is no champion, or none before it.
        RegistryAwayError: MLflow does not answer.
    """
    with _told_when_away(uri, "nothing was rolled back"):
        return _roll_back(study, home, uri, partition)


def _roll_back(study: Study, home: Home, uri: str, partition: Partition) -> tuple[str, str]:
    client, name = open_client(uri), registered_name(study.name, _checkpoint(partition))
    champion = _version(client, name, CHAMPION)
    if champion is None:
        raise LwfError(f"{name}: the registry at {shown(uri)} has no champion to roll back")
    before = champion.tags.get(BEFORE_TAG)
    if not before:
        raise LwfError(f"{name}: version {champion.version} is the first champion; there is none before it")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    client.set_model_version_tag(name, champion.version, ROLLED_BACK_TAG, now)
    client.set_registered_model_alias(name, CHAMPION, before)
    verdict = {"passed": False, "reason": f"rolled back to version {before} on {now}", "figures": {}}
    _record(home, partition, champion, verdict)
    return str(champion.version), str(before)


def _refuse_unchecked(study: Study, home: Home, checkpoint: Cell) -> None:
    built = home.store.built(checkpoint.asset, checkpoint.partition)
    beside = [home.store.built(other.asset, other.partition).version for other in checked_with(study, checkpoint)]
    waiting, failed = standing(home.store, checkpoint, built.version, beside)
    if failed or waiting:
        reasons = [*failed, *(f"{name} was not run" for name in waiting)]
        raise LwfError(f"{checkpoint}: cannot be promoted, because its checks did not pass: {'; '.join(reasons)}")


def _challenger(client: MlflowClient, uri: str, study: Study, home: Home, partition: Partition) -> ModelVersion:
    """The version of the current checkpoint; registered now if the registry is a new one."""
    name = registered_name(study.name, _checkpoint(partition))
    checkpoint = home.store.built("lwf_checkpoint", partition)
    found = _version(client, name, CHALLENGER)
    if found is None or found.tags.get(VERSION_TAG) != checkpoint.version:
        with FileLock(home.root / "mlflow.lock"):
            experiment = experiment_of(client, uri, home.root, study.name)
        run = client.create_run(experiment, run_name=f"register {name}", tags={"lwf.study": study.name})
        register(client, uri, run.info.run_id, name, checkpoint, home.store, seed=study.seeds[0])
        client.set_terminated(run.info.run_id)
        found = _version(client, name, CHALLENGER)
    assert found is not None
    return found


def _decide(
    study: Study, home: Home, partition: Partition, challenger: ModelVersion, champion: ModelVersion | None
) -> Decision:
    assert study.promotion is not None
    assert partition.forgetting_task is not None
    forget_set = home.store.built("scored_forget_set", partition)
    return decide_promotion(
        _evaluation(study, home, partition, challenger),
        None if champion is None else _evaluation(study, home, partition, champion),
        forget_set.path,
        study.promotion,
        measure=study.evaluation.primary_measure,
        forgetting_task=partition.forgetting_task,
    )


def _evaluation(study: Study, home: Home, partition: Partition, version: ModelVersion) -> Path:
    """What the version's checkpoint does on the present test set; measured now if it never was."""
    manifest = artifact_of(home.store, version.tags)
    if manifest is None or not home.store.is_there(manifest):
        raise LwfError(
            f"{version.name} version {version.version}: its checkpoint no longer exists in {home.store.root}, so it "
            "cannot be compared"
        )
    model = Partition(learning_task=partition.learning_task, model=f"{LWF}.{partition.forgetting_task}")
    evaluated = Cell("evaluation", model)
    checkpoint = Artifact(home.store.artifact_folder(manifest), manifest)
    if checkpoint.version == home.store.built("lwf_checkpoint", partition).version:
        evaluation = home.store.built("evaluation", model)
        if checkpoint.version not in {entry.version for entry in evaluation.manifest.inputs}:
            raise LwfError(f"{evaluated}: does not evaluate the current {_checkpoint(partition)}; run `lwf build`")
        return evaluation.path
    instead = {_checkpoint(partition): checkpoint, **_own_base(home, checkpoint)}
    return materialize(study, home.store, evaluated, file_hash=home.file_hashes, instead=instead).artifact.path


def _own_base(home: Home, checkpoint: Artifact) -> dict[Cell, Artifact]:
    """The base that an adapter was trained on, which may not be the present one: it stands for no model on another."""
    base = base_in_store(home.store, checkpoint.manifest)
    if "adapter" not in checkpoint.manifest.settings or base is None:
        return {}
    return {Cell("base_model", Partition()): Artifact(base, Manifest.read(base / MANIFEST))}


def _write_down(
    client: MlflowClient,
    home: Home,
    name: str,
    partition: Partition,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    decision: Decision,
) -> None:
    """First the reasons and then the alias: a champion always has its reasons."""
    before = None if champion is None else str(champion.version)
    verdict = {
        "passed": decision.promote,
        "reason": decision.reason,
        "figures": {**decision.figures, "champion_before": before},
    }
    client.set_model_version_tag(name, challenger.version, DECISION_TAG, json.dumps(verdict))
    _record(home, partition, challenger, verdict)
    if decision.promote:
        client.set_model_version_tag(name, challenger.version, BEFORE_TAG, before or "")
        client.set_registered_model_alias(name, CHAMPION, challenger.version)


def _record(home: Home, partition: Partition, version: ModelVersion, verdict: Mapping[str, Any]) -> None:
    subject = version.tags[VERSION_TAG]
    home.store.save_verdict("lwf_checkpoint", partition, subject, RECORD, verdict)


def _version(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _checkpoint(partition: Partition) -> Cell:
    return Cell("lwf_checkpoint", partition)
