"""clusters/kuberay.yaml: against the CRD's fields, Ray's own autoscaler code, and our own idea of the node types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.autoscaler._private.kuberay import autoscaling_config
from support.cluster.rayjob import RayJob

from rungwise.engine.cluster import nodes as machines
from rungwise.trainable.resources import Resources, TrialResources

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def job() -> dict[str, Any]:
    text: dict[str, Any] = yaml.safe_load((ROOT / "clusters/kuberay.yaml").read_text())
    return text


def test_all_fields_are_the_crds(job: dict[str, Any]) -> None:
    RayJob.model_validate(job)


def head(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    return found


def container(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = head(job)["template"]["spec"]["containers"][0]
    return found


def workers(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    return found


MISTAKES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a misspelt field of the job": lambda job: job["spec"].update(shutdownAfterJobFinish=True),
    "a field in the wrong place": lambda job: job["spec"].update(enableInTreeAutoscaling=True),
    "a misspelt field of the cluster": lambda job: job["spec"]["rayClusterSpec"].update(autoscalerOption={}),
    "a misspelt field of a pod": lambda job: head(job)["template"]["spec"].update(serviceAccount_name="x"),
    "a misspelt field of a container": lambda job: container(job).update(imagePullPolice="Always"),
    "a number where Ray takes text": lambda job: head(job)["rayStartParams"].update({"num-cpus": 0}),
    "a number where the environment takes text": lambda job: container(job)["env"].append({"name": "A", "value": 1}),
    "text where a number belongs": lambda job: workers(job).update(maxReplicas="8"),
    "a negative number": lambda job: workers(job).update(minReplicas=-1),
    "no upper bound": lambda job: workers(job).pop("maxReplicas"),
    "a unit that there is not": lambda job: container(job)["resources"]["limits"].update(memory="8GB"),
    "another version of the API": lambda job: job.update(apiVersion="ray.io/v2"),
    "another mode of the token": lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="on"),
    "a name with capitals": lambda job: job["metadata"].update(name="MNIST"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_the_same_check_refuses(job: dict[str, Any], mistake: Callable[[dict[str, Any]], object]) -> None:
    mistake(job)
    with pytest.raises(ValidationError):
        RayJob.model_validate(job)


def test_it_runs_the_tested_ray_with_a_token_grows_to_eight_and_ends_by_itself(job: dict[str, Any]) -> None:
    spec = RayJob.model_validate(job).spec
    cluster = spec.ray_cluster_spec
    assert f"ray=={cluster.ray_version}\n" in (ROOT / "constraints.txt").read_text()
    assert spec.shutdown_after_job_finishes
    assert cluster.auth_options.mode == "token"
    assert cluster.enable_in_tree_autoscaling
    (group,) = cluster.worker_group_specs
    assert (group.min_replicas, group.max_replicas) == (0, 8)
    assert set(yaml.safe_load(spec.runtime_env_yaml)["env_vars"]) == {"RUNGWISE_ADDRESS", "RUNGWISE_MIRROR"}


def test_a_worker_has_an_account_of_its_own_and_no_token_for_kubernetes(job: dict[str, Any]) -> None:
    spec = RayJob.model_validate(job).spec.ray_cluster_spec
    head = spec.head_group_spec.template.spec
    accounts = {
        one["metadata"]["name"]: one
        for one in yaml.safe_load_all((ROOT / "clusters/kuberay-accounts.yaml").read_text())
        if one["kind"] == "ServiceAccount"
    }
    assert head.service_account_name in accounts
    assert head.automount_service_account_token is not False  # the autoscaler beside it asks Kubernetes
    for group in spec.worker_group_specs:
        pod = group.template.spec
        assert pod.service_account_name != head.service_account_name
        assert pod.automount_service_account_token is False
        assert accounts[pod.service_account_name]["automountServiceAccountToken"] is False


def test_no_account_gets_a_role_from_us() -> None:
    kinds = [one["kind"] for one in yaml.safe_load_all((ROOT / "clusters/kuberay-accounts.yaml").read_text())]
    assert set(kinds) == {"ServiceAccount"}


@pytest.fixture
def in_the_pod(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the head's pod sees it. The API server is what we have not got: it would answer with this RayCluster."""
    resource = {"metadata": {"name": "mnist-l2-x", "namespace": "lab"}, "spec": job["spec"]["rayClusterSpec"]}
    monkeypatch.setattr(
        autoscaling_config.AutoscalingConfigProducer, "_fetch_ray_cr_from_k8s_with_retries", lambda _: resource
    )
    monkeypatch.setattr(autoscaling_config.node_provider, "KubernetesHttpApiClient", dict)
    monkeypatch.setattr(machines, "CONFIGURATION", tmp_path / "none.yaml")
    monkeypatch.setattr(machines, "_reported", list)
    monkeypatch.setenv("RAY_CLUSTER_NAME", "mnist-l2-x")
    monkeypatch.setenv("RAY_CLUSTER_NAMESPACE", "lab")


@pytest.mark.usefixtures("in_the_pod")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rays_autoscaler_and_the_sweep_see_eight_machines_with_a_gpu_each() -> None:
    kinds, addresses = machines.configured()
    found = {kind.name: kind for kind in kinds}
    assert addresses == []
    assert found["headgroup"].resources == Resources(0, 0)
    assert (found["gpu"].resources, found["gpu"].least, found["gpu"].most) == (Resources(4, 1), 0, 8)
    assert sum(kind.most * TrialResources(1, 0.25).fits(kind.resources) for kind in kinds) == 8 * 4


@pytest.mark.usefixtures("in_the_pod")
def test_a_pod_that_may_not_ask_knows_no_node_types(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> dict[str, Any]:
        raise OSError("403 Client Error: Forbidden")

    monkeypatch.setattr(autoscaling_config.AutoscalingConfigProducer, "_fetch_ray_cr_from_k8s_with_retries", refused)
    assert machines.configured() == ([], [])
