"""The control plane itself: it does with pods what a cluster does, but for running something in them."""

import pytest

from tests.e2e.controlplane.api import Object
from tests.e2e.controlplane.cluster import Cluster

NODE: Object = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "gpu"},
    "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "10", "nvidia.com/gpu": "1"}},
}
POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "runtime", "namespace": "default"},
    "spec": {
        "containers": [
            {"name": "engine", "image": "engine.invalid/engine", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
        ]
    },
}


def test_a_pod_runs_on_the_node_that_has_what_it_asks_for(cluster: Cluster) -> None:
    if cluster.processes is None or cluster.aws_url:
        pytest.skip("the cluster has nodes of its own")
    api = cluster.api
    api.wait("v1", "ServiceAccount", "default", "default", bool)
    api.apply(NODE)
    api.patch("v1", "Node", "gpu", None, {"status": NODE["status"]})
    api.apply(POD)
    running = api.wait("v1", "Pod", "runtime", "default", lambda pod: pod.get("status", {}).get("phase") == "Running")
    assert running["spec"]["nodeName"] == "gpu"
    for kind, name, namespace in (("Pod", "runtime", "default"), ("Node", "gpu", None)):
        api.delete("v1", kind, name, namespace)
