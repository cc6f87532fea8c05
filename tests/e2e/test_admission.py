"""What the API server refuses by the policies of the chart ``apps/platform``."""

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from tests.charts.helm import APPS, one, render
from tests.e2e.controlplane.api import Api, Object, Refused
from tests.e2e.controlplane.cluster import Cluster

NAMESPACE = "darkroom"
LOCATION = {"name": "studio", "account": "111122223333", "region": "eu-west-1", "eksName": "studio-eks"}
IMAGES = dict.fromkeys(
    ("agent", "api", "function", "sdwebui", "comfyui"), f"registry.example/darkroom@sha256:{64 * '0'}"
)
VALUES = {"cluster": LOCATION, "images": IMAGES}
PLATFORM = render(APPS / "platform", VALUES)
RUNTIME = render(APPS / "sd-runtime", {**VALUES, "name": "sdxl", "runtime": {"engine": "sdwebui"}})
#: What EKS' webhook (aws/amazon-eks-pod-identity-webhook, pkg/handler/testdata) adds for an association.
IDENTITY = [
    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
    {
        "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "value": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
    },
]
NO_IDENTITY = "EKS gave this pod no identity in AWS"


def pod(template: Object, container: str, environment: list[dict[str, str]], namespace: str = NAMESPACE) -> Object:
    """A pod of a template, after the webhook."""
    spec = deepcopy(template["spec"])
    (found,) = (each for each in spec["containers"] if each["name"] == container)
    found["env"] += environment
    metadata = {"name": "admitted", "namespace": namespace, "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "serviceAccountName": "default"}}


AGENT = one(RUNTIME, "Deployment")["spec"]["template"], "agent"
JANITOR = one(PLATFORM, "CronJob")["spec"]["jobTemplate"]["spec"]["template"], "janitor"
UNIDENTIFIED = pod(*AGENT, [])
MISPLACED = {**one(PLATFORM, "Storage")}
MISPLACED["metadata"] = {**MISPLACED["metadata"], "namespace": "default"}


def is_refused(api: Api, manifest: Object) -> bool:
    try:
        api.check(manifest)
    except Refused:
        return True
    return False


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    """A cluster's, as long as its policies are in force there."""
    api = cluster.api
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for namespace in (NAMESPACE, "default"):
        api.wait("v1", "ServiceAccount", "default", namespace, bool)
    policies = [item for item in PLATFORM if item["kind"].startswith("ValidatingAdmissionPolicy")]
    try:
        api.apply(*policies)
        in_force(api, wanted=True)
        yield api
    finally:
        for policy in policies:
            api.delete(policy["apiVersion"], policy["kind"], policy["metadata"]["name"])
        in_force(api, wanted=False)


def in_force(api: Api, *, wanted: bool) -> None:
    """Wait until what is refused by the policies is, or is not: the API server looks at them now and then."""
    deadline = time.monotonic() + 60
    while not all(is_refused(api, each) is wanted for each in (UNIDENTIFIED, MISPLACED)):
        assert time.monotonic() < deadline, "the policies are not in force" if wanted else "the policies are not gone"
        time.sleep(0.2)


@pytest.mark.parametrize("of", [AGENT, JANITOR], ids=["agent", "janitor"])
def test_a_pod_that_needs_aws_is_refused_without_an_identity(api: Api, of: tuple[Any, str]) -> None:
    with pytest.raises(Refused, match=NO_IDENTITY):
        api.check(pod(*of, []))
    api.check(pod(*of, IDENTITY))


def test_a_pod_with_a_web_identity_is_taken(api: Api) -> None:
    api.check(pod(*AGENT, [{"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/token"}]))


def test_an_identity_of_the_engine_alone_is_not_enough(api: Api) -> None:
    given = pod(*AGENT, [])
    engine = next(each for each in given["spec"]["initContainers"] if each["name"] == "engine")
    engine["env"] += IDENTITY
    with pytest.raises(Refused, match=NO_IDENTITY):
        api.check(given)


def test_other_pods_and_namespaces_are_left_alone(api: Api) -> None:
    api.check(pod(*AGENT, [], namespace="default"))
    other = pod(*AGENT, [])
    other["metadata"]["labels"] = {"app.kubernetes.io/name": "debugging"}
    api.check(other)


def test_a_deployment_says_why_it_has_no_pods(api: Api) -> None:
    deployment = deepcopy(one(RUNTIME, "Deployment"))
    deployment["metadata"]["namespace"] = NAMESPACE
    deployment["spec"]["replicas"] = 1
    deployment["spec"]["template"]["spec"]["serviceAccountName"] = "default"
    api.apply(deployment)
    try:
        found = api.wait("apps/v1", "Deployment", "sdxl", NAMESPACE, lambda item: bool(failures(item)))
        (said,) = failures(found)
        assert f"{NO_IDENTITY}: the Pod Identity association of the service account default is not there yet" in said
    finally:
        api.delete("apps/v1", "Deployment", "sdxl", NAMESPACE)


def failures(deployment: Object) -> list[str]:
    """Why pods of a deployment could not be made."""
    conditions = deployment.get("status", {}).get("conditions") or ()
    return [each["message"] for each in conditions if each["type"] == "ReplicaFailure" and each["status"] == "True"]


def test_a_composite_is_taken_in_its_namespace_alone_and_for_its_cluster_alone(api: Api) -> None:
    api.check(one(PLATFORM, "Storage"))
    with pytest.raises(Refused, match="Darkroom's objects live in the namespace darkroom"):
        api.check(MISPLACED)
    other = deepcopy(one(PLATFORM, "Storage"))
    other["metadata"]["name"] = other["spec"]["cluster"]["name"] = "other"
    with pytest.raises(Refused, match="this cluster is called studio"):
        api.check(other)
