"""The control plane that Git drives: each of its components does its work."""

import pytest

from darkroom.local.processes import Child
from tests.e2e.controlplane import argocd
from tests.e2e.controlplane.api import Object, Refused, is_gone
from tests.e2e.controlplane.cluster import GitOpsCluster
from tests.e2e.gitops import is_synced_and_healthy
from tests.e2e.world import REGION, aws_at

GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}


def test_a_folder_in_git_is_an_application_as_long_as_it_is_there(gitops_cluster: GitOpsCluster) -> None:
    api, repository = gitops_cluster.api, gitops_cluster.repository
    api.apply(applications("greetings", repository.url))
    repository.commit("Greet", chart("greetings/hello", "good morning"))
    api.wait("argoproj.io/v1alpha1", "Application", "hello", argocd.NAMESPACE, is_synced_and_healthy)
    assert greeting(gitops_cluster) == "good morning"

    repository.commit("Greet later", chart("greetings/hello", "good evening"))
    api.wait("v1", "ConfigMap", "hello", "default", lambda item: item["data"]["greeting"] == "good evening")

    repository.commit("Greet no more", dict.fromkeys(chart("greetings/hello", "")))
    api.wait("v1", "ConfigMap", "hello", "default", is_gone)
    api.wait("argoproj.io/v1alpha1", "Application", "hello", argocd.NAMESPACE, is_gone)
    api.delete("argoproj.io/v1alpha1", "ApplicationSet", "greetings", argocd.NAMESPACE)


def test_a_queue_scales_a_deployment_from_nothing_and_back(gitops_cluster: GitOpsCluster, emulator: Child) -> None:
    api, sqs = gitops_cluster.api, aws_at(emulator.url()).client("sqs")
    queue = sqs.create_queue(QueueName="keda")["QueueUrl"]
    api.apply(deployment("worker"), authentication(), scaled_object("worker", queue, emulator.url()))
    for number in range(9):
        sqs.send_message(QueueUrl=queue, MessageBody=f"{number}")
    api.wait("apps/v1", "Deployment", "worker", "default", lambda item: item["spec"]["replicas"] == 3)
    sqs.purge_queue(QueueUrl=queue)
    api.wait("apps/v1", "Deployment", "worker", "default", lambda item: item["spec"]["replicas"] == 0)

    with pytest.raises(Refused, match="is already managed by"):
        api.apply(scaled_object("second", queue, emulator.url(), target="worker"))
    api.delete("keda.sh/v1alpha1", "ScaledObject", "worker", "default")
    api.delete("keda.sh/v1alpha1", "TriggerAuthentication", "aws", "default")
    api.delete("apps/v1", "Deployment", "worker", "default")


def test_pods_that_want_gpus_get_nodes_for_as_long_as_they_are_there(gitops_cluster: GitOpsCluster) -> None:
    api = gitops_cluster.api
    api.apply(*node_pool("gpus"))
    api.apply(pod("played"), pod("runtime", **{"app.kubernetes.io/name": "sd-runtime"}))
    played = api.wait("v1", "Pod", "played", "default", lambda item: item.get("status", {}).get("phase") == "Running")
    bound = api.wait("v1", "Pod", "runtime", "default", lambda item: bool(item.get("spec", {}).get("nodeName")))
    nodes = [played["spec"]["nodeName"], bound["spec"]["nodeName"]]
    node = api.find("v1", "Node", nodes[0])
    assert node
    claims = api.list("karpenter.sh/v1", "NodeClaim")
    assert node["spec"]["providerID"] in {claim["status"].get("providerID") for claim in claims}
    assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "g5.xlarge"

    api.delete("v1", "Pod", "played", "default")
    api.wait("v1", "Pod", "played", "default", is_gone)
    # As long as nobody runs it, nobody ends it.
    left = api.find("v1", "Pod", "runtime", "default")
    assert left
    assert left["status"]["phase"] == "Pending"
    api.delete("v1", "Pod", "runtime", "default", grace_seconds=0)
    for name in nodes:
        api.wait("v1", "Node", name, None, is_gone, seconds=120)
    api.delete("karpenter.sh/v1", "NodePool", "gpus")


def greeting(cluster: GitOpsCluster) -> str:
    found = cluster.api.find("v1", "ConfigMap", "hello", "default")
    assert found
    return str(found["data"]["greeting"])


def chart(folder: str, text: str) -> dict[str, str | None]:
    template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hello}\ndata: {greeting: {{ .Values.greeting }}}\n"
    return {
        f"{folder}/Chart.yaml": "{apiVersion: v2, name: hello, version: 0.0.0}\n",
        f"{folder}/values.yaml": f"greeting: {text}\n",
        f"{folder}/templates/configmap.yaml": template,
    }


def applications(folder: str, repository: str) -> Object:
    """One Application for each folder in a folder."""
    source = {"repoURL": repository, "targetRevision": "main", "path": "{{.path.path}}"}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "metadata": {"name": folder, "namespace": argocd.NAMESPACE},
        "spec": {
            "goTemplate": True,
            "generators": [
                {"git": {"repoURL": repository, "revision": "main", "directories": [{"path": f"{folder}/*"}]}}
            ],
            "template": {
                "metadata": {
                    "name": "{{.path.basename}}",
                    "finalizers": ["resources-finalizer.argocd.argoproj.io"],
                },
                "spec": {
                    "project": "default",
                    "source": source,
                    "destination": {"server": "https://kubernetes.default.svc", "namespace": "default"},
                    "syncPolicy": {"automated": {"prune": True, "selfHeal": True}},
                },
            },
        },
    }


def deployment(name: str) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "worker.invalid/worker"}]},
            },
        },
    }


def authentication() -> Object:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": {"name": "aws", "namespace": "default"},
        "spec": {"podIdentity": {"provider": "aws"}},
    }


def scaled_object(name: str, queue: str, endpoint: str, target: str | None = None) -> Object:
    trigger = {"queueURL": queue, "queueLength": "3", "awsRegion": REGION, "awsEndpoint": endpoint}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"name": target or name},
            "minReplicaCount": 0,
            "maxReplicaCount": 5,
            "pollingInterval": 1,
            "cooldownPeriod": 1,
            "triggers": [{"type": "aws-sqs-queue", "metadata": trigger, "authenticationRef": {"name": "aws"}}],
        },
    }


def node_pool(name: str) -> tuple[Object, Object]:
    types = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["g5.xlarge", "g5.2xlarge"]}
    node_class = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": name}
    return (
        {"apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass", "metadata": {"name": name}},
        {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodePool",
            "metadata": {"name": name},
            "spec": {
                "template": {"spec": {"nodeClassRef": node_class, "requirements": [types]}},
                "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "1s"},
            },
        },
    )


def pod(name: str, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": [{"name": "engine", "image": "engine.invalid/engine", **GPU}]},
    }
