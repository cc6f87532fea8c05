"""Pods for the tests of the stand-in of the kubelet: made of scripts, and what there is to see of them."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from tests.e2e.controlplane.api import Api, Object, is_gone, is_true
from tests.e2e.kubelet.kubelet import Kubelet

NAMESPACE, NODE = "kubelet", "gpu-node"
#: An image whose program is a shell; the argument is its script.
SHELL = "shell"
_NUMBERS = count()


class PodOf:
    """A pod on a node."""

    def __init__(self, api: Api, kubelet: Kubelet, spec: Object, node: str = NODE) -> None:
        self.api = api
        self.kubelet = kubelet
        self.name = f"pod-{next(_NUMBERS)}"
        defaults = {"nodeName": node, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 5}
        metadata = {"name": self.name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "sd-runtime"}}
        api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**defaults, **spec}})

    def wait(self, until: Callable[[Object], bool]) -> Object:
        def is_so(item: Object) -> bool:
            self.kubelet.check()
            return until(item)

        return self.api.wait("v1", "Pod", self.name, NAMESPACE, is_so)

    def ready(self) -> Object:
        return self.wait(is_true("Ready"))

    def delete(self) -> None:
        self.api.delete("v1", "Pod", self.name, NAMESPACE)

    def gone(self) -> None:
        self.wait(is_gone)

    def log(self, container: str = "main") -> str:
        return self.kubelet.log(self.name, container)


def shell(script: str, name: str = "main", **fields: Any) -> Object:
    return {"name": name, "image": SHELL, "args": [script], **fields}


def sidecar(script: str, name: str, **fields: Any) -> Object:
    return shell(script, name, restartPolicy="Always", **fields)


SHARED: Object = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
SHARED_VOLUME = [{"name": "shared", "emptyDir": {}}]
#: A folder that outlives the pod.
KEPT: Object = {"volumeMounts": [{"name": "models", "mountPath": "/shared", "subPath": "shared"}]}
MODELS_VOLUME = [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}]
#: Stays until SIGTERM, and says that it came.
STAYS = 'trap "echo terminated; exit 0" TERM; echo running; while :; do sleep 0.05; done'


def noting(name: str, on_end: str = "") -> str:
    """A script that notes when it starts and ends, and stays until SIGTERM."""
    note = f"{on_end}echo -{name} >> /shared/notes; exit 0"
    return f'trap "{note}" TERM; echo +{name} >> /shared/notes; while :; do sleep 0.05; done'


def state(item: Object, container: str) -> Object:
    statuses = item.get("status", {})
    entries = statuses.get("initContainerStatuses", []) + statuses.get("containerStatuses", [])
    return next((entry for entry in entries if entry["name"] == container), {})


def waiting(item: Object) -> Object:
    """Why the main container does not run."""
    found: Object = state(item, "main").get("state", {}).get("waiting", {})
    return found


def exec_probe(command: str, **fields: int) -> Object:
    return {"exec": {"command": ["sh", "-c", command]}, "periodSeconds": 1, **fields}


def touch(pod: PodOf, container: str, path: str) -> None:
    """Make a file in a running container, as its user might."""
    root = Path(f"/proc/{pod.kubelet.processes(pod.name, container)[0].pid}/root")
    (root / path.lstrip("/")).touch()


def said(pod: PodOf, *lines: str, container: str = "main") -> None:
    """Wait for the last of these lines, and see that these are all."""
    eventually(pod, lambda: len(pod.log(container).splitlines()) >= len(lines))
    assert pod.log(container).splitlines() == list(lines)


def eventually(pod: PodOf, holds: Callable[[], Any]) -> None:
    """Wait for something that no status tells."""
    deadline = time.monotonic() + 30
    while not holds():
        pod.kubelet.check()
        assert time.monotonic() < deadline, pod.log()
        time.sleep(0.05)
