"""``darkroom doctor`` on a real API server, by the real kubectl: statuses and events as the controllers write them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from darkroom.cluster_files import load_cluster
from darkroom.doctor import nodes, pods, scaling
from darkroom.doctor.chain import CHAIN, Examined, examine
from darkroom.doctor.context import Aws, Context
from darkroom.doctor.finding import Health
from darkroom.kubectl import Kubectl
from tests.charts.helm import APPS, CLUSTERS, one, render
from tests.e2e.controlplane import argocd, karpenter, keda
from tests.e2e.controlplane.api import Api, Object, Refused
from tests.e2e.controlplane.binaries import component
from tests.e2e.controlplane.cluster import Cluster

NAMESPACE = "darkroom"
NODE = "gpu-node"
FILES = load_cluster(CLUSTERS / "example")
IMAGES = {"images": {name: f"registry.example/{name}@sha256:{64 * '0'}" for name in ("agent", "sdwebui")}}
VALUES = (
    CLUSTERS / "example" / "cluster.yaml",
    IMAGES,
    {"name": "sdxl", "runtime": {"engine": "sdwebui", "checkpoint": "base.safetensors"}},
)
RUNTIME = render(APPS / "sd-runtime", *VALUES, name="sdxl")
POOL = one(render(APPS / "gpu-nodes", VALUES[0]), "NodePool", "gpu-g5")
#: Of Kubernetes alone.
LINKS = tuple(
    link for link in CHAIN if link.look in (scaling.scaler, scaling.deployment, nodes.nodes, pods.pods, pods.engine)
)


class World:
    """A runtime as its chart has it, whose controllers are this test."""

    def __init__(self, api: Api, kubectl: Kubectl) -> None:
        self.api = api
        self.kubectl = kubectl
        self.made: list[Object] = []

    def add(self, *objects: Object) -> None:
        self.made += objects
        for item in objects:
            status = item.get("status")
            self.api.apply({key: value for key, value in item.items() if key != "status"})
            if status:
                self.status(item["apiVersion"], item["kind"], item["metadata"], status)

    def status(self, api_version: str, kind: str, metadata: dict[str, Any], status: Object) -> None:
        self.api.patch(api_version, kind, metadata["name"], metadata.get("namespace"), {"status": status})

    def condition(self, item: Object, kind: str, status: str, reason: str = "Because", message: str = "") -> None:
        """As a controller writes it."""
        entry = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp()}
        self.status(item["apiVersion"], item["kind"], item["metadata"], {"conditions": [entry]})

    def pod(self, *, node: str | None = NODE, name: str = "sdxl-abc", **status: Any) -> None:
        template = one(RUNTIME, "Deployment")["spec"]["template"]
        metadata = {"name": name, "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
        spec = {**template["spec"], "nodeName": node} if node else template["spec"]
        self.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})

    def unscheduled_pod(self) -> None:
        """One that the scheduler has no node for."""
        entry = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": stamp()}
        self.pod(node=None, phase="Pending", conditions=[entry])

    def event(self, kind: str, name: str, reason: str, message: str, namespace: str = NAMESPACE) -> None:
        self.add(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{name}.{len(self.made)}", "namespace": namespace},
                "involvedObject": {"kind": kind, "name": name, "namespace": namespace},
                "reason": reason,
                "message": message,
                "type": "Warning",
                "lastTimestamp": stamp(),
            }
        )

    def examine(self) -> dict[str, Examined]:
        session = boto3.Session("test", "test", region_name=FILES.cluster.region)
        aws = Aws(session, "http://127.0.0.1:1")
        context = Context(FILES, Path("clusters/example"), "sdxl", aws, kubernetes=self.kubectl)
        return {each.name: each for each in examine([context], LINKS)}

    def clean(self) -> None:
        for item in reversed(self.made):
            namespace = item["metadata"].get("namespace")
            with suppress(Refused):
                self.api.delete(item["apiVersion"], item["kind"], item["metadata"]["name"], namespace, 0)
        self.made.clear()


def stamp(ago: timedelta = timedelta(0)) -> str:
    return (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def runtime(cluster: Cluster) -> Iterator[World]:
    """What stays the same in all tests: the kinds, the namespace, a node, and who may read."""
    api = cluster.api
    api.declare([*argocd.crds(), *keda.crds(), *karpenter.crds()])
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{component('kubectl') / 'bin'}:{path}"
    world = World(api, Kubectl(api.kubeconfig))
    world.add(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}},
    )
    kept, world.made = world.made[2:], []  # other tests have the first namespace too
    api.wait("v1", "ServiceAccount", "default", NAMESPACE, bool)
    try:
        yield world
    finally:
        world.made = kept
        world.clean()
        os.environ["PATH"] = path


@pytest.fixture
def world(runtime: World) -> Iterator[World]:
    """A runtime that is well, and has no pods."""
    scaled = one(RUNTIME, "ScaledObject")
    for item in (one(RUNTIME, "ServiceAccount"), one(RUNTIME, "Deployment"), scaled):
        item["metadata"]["namespace"] = NAMESPACE
    try:
        runtime.add(one(RUNTIME, "ServiceAccount"), one(RUNTIME, "Deployment"), scaled, POOL)
        runtime.condition(scaled, "Ready", "True")
        yield runtime
    finally:
        runtime.clean()


def container(name: str, state: Object, **said: Any) -> Object:
    return {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 1, "state": state, **said}


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def running(since: timedelta) -> Object:
    return {"running": {"startedAt": stamp(since)}}


def pause(world: World) -> None:
    annotations = {"annotations": {"autoscaling.keda.sh/paused": "true"}}
    world.api.patch("keda.sh/v1alpha1", "ScaledObject", "sdxl", NAMESPACE, {"metadata": annotations})


def deny_keda(world: World) -> None:
    world.condition(one(RUNTIME, "ScaledObject"), "Ready", "False", "TriggerError", "error: AccessDenied sqs")
    world.event("ScaledObject", "sdxl", "KEDAScalerFailed", "AccessDenied: not authorized to sqs:GetQueueAttributes")


def keda_without_identity(world: World) -> None:
    deny_keda(world)
    labels = {"app.kubernetes.io/name": "keda-operator"}
    metadata = {"name": "keda-operator-1", "namespace": "keda", "labels": labels}
    spec = {"containers": [{"name": "keda", "image": "keda"}], "nodeName": NODE}
    world.api.wait("v1", "ServiceAccount", "default", "keda", bool)
    world.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def refuse_pods(world: World) -> None:
    """By what Kubernetes itself refuses: without its service account no pod is made."""
    world.api.delete("v1", "ServiceAccount", "sdxl", NAMESPACE)
    world.api.patch("apps/v1", "Deployment", "sdxl", NAMESPACE, {"spec": {"replicas": 1}})

    def is_refused(item: Object) -> bool:
        return any(each["type"] == "ReplicaFailure" for each in item.get("status", {}).get("conditions") or ())

    world.api.wait("apps/v1", "Deployment", "sdxl", NAMESPACE, is_refused)


def drop_pool(world: World) -> None:
    world.api.delete("karpenter.sh/v1", "NodePool", "gpu-g5")


def break_node_class(world: World) -> None:
    world.condition(POOL, "Ready", "False", "UnhealthyDependents", "NodeClassReady=False")


def exhaust_pool(world: World) -> None:
    world.unscheduled_pod()
    world.status("karpenter.sh/v1", "NodePool", POOL["metadata"], {"resources": {"nvidia.com/gpu": "4"}})


def exhaust_pool_by_words(world: World) -> None:
    world.unscheduled_pod()
    said = "Failed to schedule pod, all available instance types exceed limits for nodepool (NodePool=gpu-g5)"
    world.event("Pod", "sdxl-abc", "FailedScheduling", said)


def no_capacity(code: str) -> Any:
    def refuse(world: World) -> None:
        world.unscheduled_pod()
        said = f"NodeClaim gpu-g5-x1 event: creating instance, insufficient capacity, {code}: no"
        world.event("NodeClaim", "gpu-g5-x1", "InsufficientCapacityError", said, "default")

    return refuse


def fail_launch(world: World) -> None:
    world.unscheduled_pod()
    spec = {**POOL["spec"]["template"]["spec"], "resources": {}}
    metadata = {"name": "gpu-g5-x2", "labels": {"karpenter.sh/nodepool": "gpu-g5"}}
    claim = {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": metadata}
    world.add({**claim, "spec": {key: spec[key] for key in ("nodeClassRef", "requirements", "resources")}})
    world.condition(claim, "Launched", "Unknown", "LaunchFailed", "UnauthorizedOperation: ec2:CreateFleet")


def no_node_fits(world: World) -> None:
    world.unscheduled_pod()
    said = (
        "Failed to schedule pod, no instance type has enough resources, requirements=karpenter.sh/nodepool In [gpu-g5]"
    )
    world.event("Pod", "sdxl-abc", "FailedScheduling", said)


def image_missing(world: World) -> None:
    said = waiting("ImagePullBackOff", 'Back-off pulling image "registry.example/sdwebui"')
    world.pod(phase="Pending", initContainerStatuses=[container("engine", said)])


def model_missing(world: World) -> None:
    said = "there is no such file or folder: /models/checkpoints/base.safetensors"
    ended = {"terminated": {"exitCode": 2, "reason": "Error", "message": said}}
    failing = container("read-ahead", waiting("CrashLoopBackOff", "back-off 40s"), lastState=ended)
    world.pod(phase="Pending", initContainerStatuses=[failing])


def out_of_memory(world: World) -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    failing = container("engine", waiting("CrashLoopBackOff"), lastState=ended)
    world.pod(phase="Pending", initContainerStatuses=[failing])


def mount_fails(world: World) -> None:
    world.pod(phase="Pending")
    world.event("Pod", "sdxl-abc", "FailedMount", "MountVolume.SetUp failed for volume models: Access Denied")


def engine_hangs(world: World) -> None:
    agent = container("agent", running(timedelta(minutes=5)))
    world.pod(phase="Running", containerStatuses=[agent])


def engine_killed(world: World) -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    engine = container("engine", running(timedelta(minutes=1)), lastState=ended)
    world.pod(phase="Running", initContainerStatuses=[engine])


def test_a_runtime_at_zero_pods_is_well(world: World) -> None:
    found = world.examine()
    assert {each.finding.health for name, each in found.items() if name != "engine"} == {Health.OK}
    assert found["nodes"].finding.words == "gpu-g5: 0 of 4 GPUs in use"
    assert found["pods"].finding.words.startswith("none:")
    assert found["engine"].finding.health is Health.ABSENT


def test_a_pod_that_is_new_is_on_its_way(world: World) -> None:
    world.unscheduled_pod()
    found = world.examine()
    assert not any(each.finding.is_wrong for each in found.values())
    assert found["nodes"].finding.words == "gpu-g5: a node is on its way"


@pytest.mark.parametrize(
    ("breaking", "link", "words", "remedy"),
    [
        (pause, "scaler", "it is paused", "annotate scaledobject sdxl autoscaling.keda.sh/paused-"),
        (deny_keda, "scaler", "not authorized to sqs:GetQueueAttributes", "logs deployment/keda-operator"),
        (keda_without_identity, "scaler", "keda-operator-1 of KEDA has no identity", "rollout restart deployment keda"),
        (refuse_pods, "deployment", "its pods are refused", "get podidentityassociations"),
        (drop_pool, "nodes", "there is no NodePool gpu-g5", "gpuNodes.pools"),
        (break_node_class, "nodes", "NodeClassReady=False", "kubectl describe ec2nodeclass gpu"),
        (exhaust_pool, "nodes", "has all the GPUs that it may: 4 of 4", "raise maxGpus of g5"),
        (exhaust_pool_by_words, "nodes", "gpu-g5 has all the GPUs", "raise maxGpus of g5"),
        (no_capacity("InsufficientInstanceCapacity"), "nodes", "EC2 has no such machine now", "set capacity: any"),
        (no_capacity("VcpuLimitExceeded"), "nodes", "the account's quota of GPU instances", "Running On-Demand G"),
        (no_capacity("MaxSpotInstanceCountExceeded"), "nodes", "quota", "All G and VT Spot Instance Requests"),
        (fail_launch, "nodes", "ec2:CreateFleet", "kubectl describe nodeclaim gpu-g5-x2"),
        (no_node_fits, "pods", "no node fits sdxl-abc", "see gpu, capacity and resources"),
        (image_missing, "pods", "the image of engine in sdxl-abc cannot be pulled", "darkroom pin clusters/example"),
        (model_missing, "pods", "/models/checkpoints/base.safetensors", "logs sdxl-abc -c read-ahead --previous"),
        (out_of_memory, "pods", "engine in sdxl-abc needs more memory", "raise resources.memory"),
        (mount_fails, "pods", "sdxl-abc cannot be set up: MountVolume.SetUp failed", "describe pod sdxl-abc"),
        (engine_hangs, "engine", "the agent of sdxl-abc takes no jobs", "logs sdxl-abc -c engine"),
        (engine_killed, "engine", "was killed 1 times, the last time by OOMKilled", "raise resources.memory"),
    ],
)
def test_what_is_broken_is_named_first_with_its_remedy(
    world: World, breaking: Any, link: str, words: str, remedy: str
) -> None:
    breaking(world)
    found = world.examine()
    assert [name for name, each in found.items() if each.is_cause] == [link], found
    assert words in found[link].finding.words
    assert any(remedy in each for each in found[link].finding.remedy), found[link].finding.remedy


class Nobody(Kubectl):
    """kubectl as somebody without any rights."""

    def run(self, *arguments: str, text: str | None = None) -> str:
        return super().run("--as=nobody", *arguments, text=text)


def test_who_may_not_look_is_told_what_is_missing(world: World, cluster: Cluster) -> None:
    world.kubectl, administrator = Nobody(cluster.api.kubeconfig), world.kubectl
    try:
        found = world.examine()
    finally:
        world.kubectl = administrator
    assert {each.finding.health for each in found.values()} == {Health.UNKNOWN}
    assert found["scaler"].finding.remedy == ("to be allowed to get scaledobjects.keda.sh or list pods or list events",)
