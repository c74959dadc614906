"""`deploy/kubernetes/`: what Dagster's launcher makes of the values, checked by the schemas of Dagster and Kubernetes.

There is no cluster and no Helm here: the few lines that the chart turns into `dagster.yaml` are turned here.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from places import ROOT

dagster_k8s = pytest.importorskip("dagster_k8s")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

DEPLOY = ROOT / "deploy" / "kubernetes"
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "values.yaml").read_text())
KUBERNETES = "1.34"
IMAGE = "REGISTRY/lwf:VERSION"

TAG = {
    "container_config": {
        "resources": {"requests": {"cpu": "2", "memory": "12000000000"}, "limits": {"nvidia.com/gpu": 1}},
    }
}
"""What a run says that it needs (`dagster-k8s/config`)."""


def launcher_config() -> dict[str, Any]:
    """What the chart writes into `dagster.yaml` from `runLauncher`, and from its own names."""
    launcher = VALUES["runLauncher"]
    assert launcher["type"] == "K8sRunLauncher"
    given = launcher["config"]["k8sRunLauncher"]
    raw = given["runK8sConfig"]
    return {
        "load_incluster_config": True,
        "job_namespace": "lwf",
        "service_account_name": "lwf-dagster",
        "instance_config_map": "lwf-dagster-instance",
        "dagster_home": "/opt/dagster/dagster_home",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
        "image_pull_policy": given["imagePullPolicy"],
        "env_secrets": [secret["name"] for secret in given["envSecrets"]],
        "volumes": given["volumes"],
        "volume_mounts": given["volumeMounts"],
        "run_k8s_config": {re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", key): raw[key] for key in raw},
    }


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The Kubernetes Job that the launcher would create for a run with that tag."""
    from dagster_k8s import K8sRunLauncher, launcher
    from kubernetes.client import ApiClient

    config = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), launcher_config())
    assert config.success, config.errors
    monkeypatch.setattr(launcher, "load_kubernetes_config", lambda **arguments: None)
    batch = MagicMock()

    @dg.job
    def make() -> None:
        """A cell."""

    with dg.instance_for_test() as instance:
        run_launcher = K8sRunLauncher(**config.value, k8s_client_batch_api=batch, k8s_client_core_api=MagicMock())
        run_launcher.register_instance(instance)
        origin = JobPythonOrigin("make", RepositoryPythonOrigin(sys.executable, ModuleCodePointer("m", "make"), IMAGE))
        tags = {"dagster-k8s/config": json.dumps(TAG)}
        run = instance.create_run_for_job(make, tags=tags, job_code_origin=origin)
        run_launcher.launch_run(LaunchRunContext(run, workspace=None))
    body = batch.create_namespaced_job.call_args.kwargs["body"]
    made: dict[str, Any] = ApiClient().sanitize_for_serialization(body)
    return made


def test_the_pod_of_a_run_is_valid_and_has_what_the_cell_needs(job: dict[str, Any]) -> None:
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == IMAGE
    assert container["resources"] == {
        "requests": {"cpu": "2", "memory": "12000000000"},
        "limits": {"nvidia.com/gpu": "1"},
    }
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert {source["secretRef"]["name"] for source in container["envFrom"]} == {"lwf"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    names = [volume["name"] for volume in spec["volumes"]]
    assert len(names) == len(set(names))
    assert {mount["name"] for mount in container["volumeMounts"]} == set(names)
    assert spec["restartPolicy"] == "Never"
    container["volumeMount"] = container.pop("volumeMounts")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, KUBERNETES, strict=True)


def test_the_image_and_the_pods_agree(job: dict[str, Any]) -> None:
    """Who owns the home, where it is, and where the study is."""
    image = (DEPLOY / "Containerfile").read_text()
    spec = job["spec"]["template"]["spec"]
    places = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert f"USER {spec['securityContext']['runAsUser']}\n" in image
    assert f"LWF_HOME={places['home']} " in image
    (study,) = re.findall(r"LWF_STUDY=(\S+)", image)
    assert Path(study).parent == Path(places["study"])
    for name in re.findall(r"^COPY (.+) \S+$", image, re.MULTILINE):
        assert all((ROOT / path).exists() for path in name.split())
    (extras,) = re.findall(r"'\.\[(.+)\]'", image)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def test_code_server_and_runs_have_the_same_and_no_secret_is_written_down() -> None:
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    for key in ("envSecrets", "volumes", "volumeMounts"):
        assert deployment[key] == launcher[key]
    assert deployment["includeConfigInLaunchedRuns"] == {"enabled": False}
    text = (DEPLOY / "values.yaml").read_text() + (DEPLOY / "Containerfile").read_text()
    assert not re.findall(r"(?i)(password|secret|token|key)\w*\s*[:=]\s*['\"]?[A-Za-z0-9/+]{16,}", text)
    assert VALUES["generatePostgresqlPasswordSecret"] is False
    assert "postgresqlPassword" not in VALUES["postgresql"]


def test_the_instance_takes_what_the_values_add(tmp_path: Path) -> None:
    """`additionalInstanceConfig` is written into `dagster.yaml` as it is."""
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(VALUES["additionalInstanceConfig"]))
    instance = dg.DagsterInstance.from_config(str(tmp_path))
    assert instance.run_retries_enabled
    assert instance.get_settings("run_retries")["retry_on_asset_or_op_failure"] is False
    assert not VALUES["dagsterDaemon"]["runRetries"]["enabled"]  # the chart would write the key a second time
