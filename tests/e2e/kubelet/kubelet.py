"""A stand-in for the kubelet: the pods of model runtimes as real processes of the machine, on nodes that kwok plays.

Environment, arguments, probes, order, SIGTERM and grace are the pod spec's; network, file system, user and privileges
are a pod's (``sandbox``, ``isolation``). It also plays, on all nodes, the part of the S3 CSI driver that is seen from
outside: a node that is ready loses the driver's startup taint. What is not played: limits of resources and of volumes,
NetworkPolicies, Services' addresses, names and variables, and what raises ``errors.Unsupported``.

It talks to the API server, needs root, and leaves nothing behind: everything ends with the process that it runs in.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

from tests.e2e.controlplane.api import Api, condition
from tests.e2e.controlplane.kubernetes import RUNTIMES
from tests.e2e.kubelet.container import Container
from tests.e2e.kubelet.image import Image
from tests.e2e.kubelet.objects import Object, Objects
from tests.e2e.kubelet.pod import Machine, Pod
from tests.e2e.kubelet.sandbox import Network
from tests.e2e.kubelet.status import ContainerStatus
from tests.e2e.threads import Threads

CSI_TAINT = "s3.csi.aws.com/agent-not-ready"
#: The claim that the pods have for the cluster's models.
MODELS_CLAIM = "models"
#: The kubelet's is 10 s.
BACKOFF_SECONDS = 0.5


class Kubelet:
    """The kubelets of all nodes; they run in threads, inside a ``with`` statement, which raises what went wrong.

    ``images`` says what image references stand for, and may grow meanwhile; ``models`` is the folder behind the claim
    ``models``; logs and volumes are kept under ``folder``.
    """

    def __init__(
        self,
        api: Api,
        *,
        images: Mapping[str, Image],
        models: Path,
        folder: Path,
        backoff_seconds: float = BACKOFF_SECONDS,
    ) -> None:
        self._models = models
        self._threads = Threads("kubelet")
        self._objects = Objects(api.kubeconfig)
        self._network = Network()
        self._machine = Machine(
            objects=self._objects,
            network=self._network,
            images=images,
            claims={MODELS_CLAIM: models},
            folder=folder,
            backoff_seconds=backoff_seconds,
            run=self._threads.run,
        )
        self._lock = threading.RLock()
        self._pods: dict[str, Pod] = {}
        #: Nodes whose machine is gone, while their objects are there.
        self._dead: set[str] = set()

    def __enter__(self) -> Self:
        self._models.chmod(0o755)  # as Mountpoint shows it to all users
        self._network.__enter__()
        self._threads.run("pods", self._follow_pods)
        self._threads.run("nodes", self._follow_nodes)
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        self.check()

    @property
    def host_address(self) -> str:
        """Where pods reach what listens on the machine."""
        return self._network.host_address

    def stop(self) -> None:
        """End all pods at once; their objects stay as they are."""
        self._threads.stopping.set()
        with self._lock:
            pods = list(self._pods.values())
        self._objects.close()
        for pod in pods:
            pod.kill()
        for pod in pods:
            pod.join()
        self._network.__exit__()

    def check(self) -> None:
        """Raise what went wrong in the stand-in itself, or what a pod has that it does not play."""
        self._threads.check()

    def log(self, pod: str, container: str) -> str:
        """What a container has written, in all its runs; "" when there is nothing."""
        path = self._machine.folder / "logs" / pod / f"{container}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def containers(self, pod: str) -> dict[str, ContainerStatus]:
        """How the containers of a pod fare, by their names, init containers first; raises ``LookupError``."""
        return {container.name: container.status for container in self._pod(pod).containers}

    def processes(self, pod: str, container: str) -> list[psutil.Process]:
        """What runs in a container, process 1 first; raises ``LookupError``."""
        return self._container(pod, container).processes

    def kill_node(self, name: str) -> None:
        """End a node as a Spot reclaim does: all that runs on it at once, then the objects of its pods and its own."""
        with self._lock:
            self._dead.add(name)
        self._lose(name)
        self._objects.remove_node(name)

    def _pod(self, name: str) -> Pod:
        with self._lock:
            for pod in reversed(self._pods.values()):
                if pod.name == name:
                    return pod
        raise LookupError(f"there is no pod {name}")

    def _container(self, pod: str, name: str) -> Container:
        for container in self._pod(pod).containers:
            if container.name == name:
                return container
        raise LookupError(f"pod {pod} has no container {name}")

    def _follow_pods(self) -> None:
        for event in self._objects.follow("Pod", RUNTIMES):
            if self._threads.stopping.is_set():
                return
            if isinstance(event, list):
                there = {item["metadata"]["uid"] for item in event}
                for uid in set(self._pods) - there:
                    self._forget(uid)
                for item in event:
                    self._note(item)
            elif event[0] == "DELETED":
                self._forget(event[1]["metadata"]["uid"])
            else:
                self._note(event[1])

    def _note(self, item: Object) -> None:
        node = item["spec"].get("nodeName")
        uid = item["metadata"]["uid"]
        with self._lock:
            if uid in self._pods:
                self._pods[uid].update(item)
            elif node and node not in self._dead and not self._threads.stopping.is_set():
                self._pods[uid] = Pod(item, self._machine)
                self._pods[uid].start()

    def _forget(self, uid: str) -> None:
        with self._lock:
            pod = self._pods.pop(uid, None)
        if pod:
            pod.vanish()

    def _follow_nodes(self) -> None:
        there: set[str] = set()
        for event in self._objects.follow("Node"):
            if self._threads.stopping.is_set():
                return
            if isinstance(event, list):
                named = {item["metadata"]["name"]: item for item in event}
                for name in there - set(named):
                    self._lose(name)
                there = set(named)
                for item in event:
                    self._register_csi_driver(item)
            elif event[0] == "DELETED":
                name = event[1]["metadata"]["name"]
                there.discard(name)
                self._lose(name)
                with self._lock:
                    self._dead.discard(name)  # a node of this name would be another one
            else:
                there.add(event[1]["metadata"]["name"])
                self._register_csi_driver(event[1])

    def _register_csi_driver(self, node: Object) -> None:
        taints = node["spec"].get("taints", ())
        if condition(node, "Ready") == "True" and any(taint["key"] == CSI_TAINT for taint in taints):
            self._objects.remove_taint(node, CSI_TAINT)

    def _lose(self, node: str) -> None:
        """A node's machine is gone: nothing runs on it, and its pods' objects go, as garbage collection has it."""
        with self._lock:
            lost = [pod for pod in self._pods.values() if pod.node == node]
        for pod in lost:
            pod.kill()
        for pod in lost:
            pod.join()
            self._objects.remove_pod(pod.item)
