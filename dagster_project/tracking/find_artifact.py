"""Finds artifacts by names that MLflow knows: its runs, and versions of registered models."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dagster_project.tracking.address import is_there, shown, tracking_uri
from dagster_project.tracking.registry import RECIPE_TAG, artifact_of
from lwf_assets.errors import LwfError
from lwf_assets.lineage.find import find_manifest
from lwf_assets.store.home import Home
from lwf_assets.store.manifest import Manifest

_RUN = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"(models:/)?(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[\w-]+))")


def find_artifact(home: Home, name: str) -> Manifest:
    """The manifest of what a person calls `name`: whatever `lwf_assets.lineage.find` knows, an MLflow run, or a
    registered model by version (`NAME/3`) or alias (`NAME@champion`), with or without `models:/`.

    Raises:
        LwfError: no such artifact, or MLflow, which alone knows the name, is not there.
    """
    if _RUN.fullmatch(name):
        return _of_run(home, name)
    model = _MODEL.fullmatch(name)
    if model is not None and not (home.root / name).exists() and not name.startswith((".", "/", "~")):
        return _of_model(home, model)
    return find_manifest(home.store, name)


def _of_run(home: Home, run: str) -> Manifest:
    """By the manifests, which name the run that made them; by MLflow, if the run only took it from the store."""
    made = [m for m in home.store.manifests() if m.provenance.get("mlflow_run") == run]
    if made:
        return made[0]
    tags = _tags_of_run(home, run)
    if RECIPE_TAG not in tags:
        raise LwfError(f"{run}: this MLflow run did not produce an artifact; give one of its nested runs")
    return _of_tags(home, tags, f"the MLflow run {run}")


def _tags_of_run(home: Home, run: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    from dagster_project.tracking.client import open_client

    uri = tracking_uri(home)
    try:
        return dict(open_client(uri).get_run(run).data.tags) if is_there(uri) else {}
    except MlflowException:
        raise LwfError(f"{run}: neither the store nor MLflow at {shown(uri)} has a run of this id") from None


def _of_model(home: Home, model: re.Match[str]) -> Manifest:
    from mlflow.exceptions import MlflowException

    from dagster_project.tracking.client import open_client

    uri = tracking_uri(home)
    if not is_there(uri):
        raise LwfError(
            f"{model[0]}: only MLflow knows registered models, and {shown(uri)} cannot be reached; give the version"
        )
    client = open_client(uri)
    try:
        if model["version"] is not None:
            tags = client.get_model_version(model["name"], model["version"]).tags
        else:
            tags = client.get_model_version_by_alias(model["name"], model["alias"]).tags
    except MlflowException as error:
        raise LwfError(f"{model[0]}: {error.message}") from None
    if RECIPE_TAG not in tags:
        raise LwfError(f"{model[0]}: this model version was not registered by this project")
    return _of_tags(home, tags, f"the model {model[0]}")


def _of_tags(home: Home, tags: Mapping[str, str], what: str) -> Manifest:
    manifest = artifact_of(home.store, tags)
    if manifest is None:
        recipe = tags[RECIPE_TAG]
        raise LwfError(f"{what} is the artifact of recipe {recipe}, which {home.store.root} does not have")
    return manifest
