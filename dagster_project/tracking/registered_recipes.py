"""Which checkpoints MLflow's model registry refers to."""

from __future__ import annotations

from dagster_project.tracking.address import is_there, tracking_uri
from dagster_project.tracking.registry import RECIPE_TAG
from lwf_assets.errors import LwfError
from lwf_assets.store.home import Home


def registered_recipes(home: Home, *, without_mlflow: bool) -> set[str]:
    """The recipe of every model version in the registry.

    Raises:
        LwfError: MLflow cannot be asked, and it was not said that this does not matter.
    """
    uri = tracking_uri(home)
    if not is_there(uri):
        if without_mlflow or not home.store.root.exists():
            return set()
        raise LwfError(f"{uri}: MLflow is not there to say which models are registered; --without-mlflow goes on")
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
        raise LwfError(f"{uri}: cannot say which models are registered ({error}); --without-mlflow goes on") from None
    return recipes
