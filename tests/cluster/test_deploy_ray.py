"""`deploy/ray`: the environment that every machine has sets what is read, and the instance keeps no secret itself."""

from __future__ import annotations

import yaml
from places import ROOT

from dagster_project.builds.on_ray.setup import RECORDS
from dagster_project.runs.instance import INSTANCE_SETTINGS, POSTGRES_VARIABLE
from lwf_assets.store.home import HOME_VARIABLE, REMOTE_VARIABLE, STUDY_VARIABLE
from lwf_assets.store.shared.cache import VARIABLE as CACHE_VARIABLE

DEPLOY = ROOT / "deploy" / "ray"


def test_the_environment_has_what_a_node_is_asked_for() -> None:
    lines = (DEPLOY / "environment").read_text().splitlines()
    set_there = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert {HOME_VARIABLE, STUDY_VARIABLE, REMOTE_VARIABLE, CACHE_VARIABLE, *RECORDS} <= set_there
    settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    assert settings["run_launcher"]["config"]["ray"]["address"]["env"] in set_there
    assert settings["storage"]["postgres"]["postgres_url"] == {"env": POSTGRES_VARIABLE}
    assert settings["local_artifact_storage"]["config"]["base_dir"] == {"env": HOME_VARIABLE}


def test_runs_are_watched_and_retried_as_on_one_machine() -> None:
    ours, usual = yaml.safe_load((DEPLOY / "dagster.yaml").read_text()), yaml.safe_load(INSTANCE_SETTINGS)
    assert ours["run_retries"] == usual["run_retries"]
    assert ours["run_monitoring"].items() >= usual["run_monitoring"].items()
    assert "pools" not in ours["concurrency"]  # no limit on how many compute at once
