"""The LWF model of each cell in MLflow's registry: one registered model per cell, one version per checkpoint."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dagster_project.tracking.address import is_there, shown, tracking_uri
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.store.bases import base_in_store
from lwf_assets.store.home import Home
from lwf_assets.store.layout import seed_folder
from lwf_assets.store.manifest import Manifest
from lwf_assets.store.store import Artifact, Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
"""Alias of the newest version: what `lwf_checkpoint` now stands for."""


RECIPE_TAG, VERSION_TAG = "lwf.recipe", "lwf.data_version"
"""Tags of a model version, and of the MLflow run of an artifact: which artifact it is."""


def artifact_of(store: Store, tags: Mapping[str, str]) -> Manifest | None:
    """The manifest of the artifact that a model version or a run is of, by its tags; None if the store knows none."""
    tagged = (m for m in store.manifests() if m.recipe == tags.get(RECIPE_TAG))
    return next((m for m in tagged if m.version == tags.get(VERSION_TAG, m.version)), None)


def registered_name(study: str, cell: Cell) -> str:
    """Name of the registered model of a cell of the study of that name."""
    return f"{study}.{cell.partition.learning_task}.forgetting.{cell.partition.forgetting_task}"


def register(
    client: MlflowClient, uri: str, run_id: str, name: str, checkpoint: Artifact, store: Store, *, seed: int
) -> None:
    """Log the model of one seed, register it as `name`, and point `challenger` at it. A checkpoint that is registered
    already (it came from the store) only gets the alias. Of an adapter the model that it stands for is registered, with
    the adapter merged into the weights of its base, which is in `store`."""
    version = _version_of(client, name, checkpoint) or _log_model(uri, run_id, seed, name, checkpoint, store)
    client.set_model_version_tag(name, version, VERSION_TAG, checkpoint.version)
    client.set_model_version_tag(name, version, RECIPE_TAG, checkpoint.manifest.recipe)
    client.set_registered_model_alias(name, CHALLENGER, version)
    client.set_tag(run_id, "lwf.registered_model", f"{name}/{version}")


def _version_of(client: MlflowClient, name: str, checkpoint: Artifact) -> str | None:
    quoted = name.replace("'", "''")
    for version in client.search_model_versions(f"name = '{quoted}'"):
        if version.tags.get(VERSION_TAG) == checkpoint.version:
            return str(version.version)
    return None


def registered_recipes(home: Home, *, without_mlflow: bool) -> set[str]:
    """The recipe of every model version in the registry.

    Raises:
        LwfError: MLflow cannot be asked, and it was not said that this does not matter.
    """
    uri = tracking_uri(home)
    if not is_there(uri):
        if without_mlflow or not home.store.root.exists():
            return set()
        raise LwfError(
            f"{shown(uri)}: MLflow cannot be reached, so the registered models are unknown; "
            "add --without-mlflow to go on"
        )
    from mlflow.exceptions import MlflowException

    from dagster_project.tracking.client import open_client

    try:
        client = open_client(uri)
        recipes, token = set[str](), None
        while token != "":
            page = client.search_model_versions(page_token=token)
            recipes |= {version.tags[RECIPE_TAG] for version in page if RECIPE_TAG in version.tags}
            token = page.token or ""
    except MlflowException as error:
        if without_mlflow:
            return set()
        raise LwfError(
            f"{shown(uri)}: cannot list the registered models ({error}); add --without-mlflow to go on"
        ) from None
    return recipes


@contextlib.contextmanager
def _fluent_interface_at(uri: str) -> Iterator[None]:
    """MLflow's global interface pointed at `uri`, and back: it also writes the address into the environment, where the
    next study of this process would find it."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


def _log_model(uri: str, run_id: str, seed: int, name: str, checkpoint: Artifact, store: Store) -> str:
    # The fluent interface: the transformers flavor can be logged through no other.
    import mlflow
    import mlflow.transformers
    import torch
    import transformers

    from lwf_assets.engine.checkpoint import load_model, load_tokenizer

    folder, base = seed_folder(checkpoint.path, seed), base_in_store(store, checkpoint.manifest)
    quiet = contextlib.redirect_stderr(io.StringIO())  # it chats there
    with _fluent_interface_at(uri), mlflow.start_run(run_id=run_id), quiet:
        logged = mlflow.transformers.log_model(
            # A path would do, but MLflow 3.17 cannot read one with transformers 5.
            {"model": load_model(folder, base, merged=True).cpu(), "tokenizer": load_tokenizer(folder)},
            name="lwf_model",
            task="text-generation",
            registered_model_name=name,
            # Named here because MLflow would otherwise load the model in a second process to find them.
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"transformers=={transformers.__version__}"],
            metadata={VERSION_TAG: checkpoint.version, RECIPE_TAG: checkpoint.manifest.recipe},
        )
    return str(logged.registered_model_version)
