"""What the kubelet writes into a pod's status, from what it knows of the containers. It touches nothing.

Follows ``pkg/kubelet/status/generate.go`` and ``kubelet_pods.go`` of Kubernetes 1.35.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Waiting:
    """A container that does not run yet, or not now."""

    reason: str = "PodInitializing"
    message: str = ""

    @property
    def manifest(self) -> Object:
        """As the status has it."""
        return {"waiting": {"reason": self.reason, **({"message": self.message} if self.message else {})}}


@dataclass(frozen=True)
class Running:
    """A container that runs."""

    run: str
    since: str
    #: By the monotonic clock.
    began: float

    @property
    def manifest(self) -> Object:
        """As the status has it."""
        return {"running": {"startedAt": self.since}}


@dataclass(frozen=True)
class Terminated:
    """A container that ended; of one that a signal ended, the exit code is 128 and the signal's number."""

    run: str
    since: str
    until: str
    exit_code: int

    @property
    def manifest(self) -> Object:
        """As the status has it."""
        return {
            "terminated": {
                "containerID": self.run,
                "exitCode": self.exit_code,
                "reason": "Error" if self.exit_code else "Completed",
                "startedAt": self.since,
                "finishedAt": self.until,
            }
        }


@dataclass(frozen=True)
class ContainerStatus:
    """How a container fares."""

    name: str
    image: str
    #: Whether it is an init container that stays.
    sidecar: bool = False
    state: Waiting | Running | Terminated = Waiting()
    last: Terminated | None = None
    restarts: int = 0
    #: Whether its startup probe, if it has one, has succeeded since it runs.
    started: bool = False
    ready: bool = False

    @property
    def exit_code(self) -> int | None:
        """With what it ended, if it did."""
        return self.state.exit_code if isinstance(self.state, Terminated) else None

    @property
    def initialized(self) -> bool:
        """Of an init container: whether the next one may start."""
        return self.started if self.sidecar else self.exit_code == 0

    @property
    def manifest(self) -> Object:
        """As the status has it."""
        run = "" if isinstance(self.state, Waiting) else self.state.run
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image,
            "containerID": run,
            "state": self.state.manifest,
            "lastState": self.last.manifest if self.last else {},
            "restartCount": self.restarts,
            "started": self.started,
            "ready": self.ready,
        }


@dataclass(frozen=True)
class PodFacts:
    """All that the status of a pod is made of."""

    init: Sequence[ContainerStatus]
    main: Sequence[ContainerStatus]
    host_ip: str
    #: None while there is no sandbox.
    ip: str | None
    #: Whether nothing will be started any more.
    over: bool

    @property
    def phase(self) -> str:
        """The pod's phase."""
        codes = [container.exit_code for container in self.main]
        if self.over:
            return "Succeeded" if all(code == 0 for code in codes) else "Failed"
        initialized = all(container.initialized for container in self.init)
        begun = any(not isinstance(c.state, Waiting) or c.last for c in self.main)
        return "Running" if begun or (initialized and not self.main) else "Pending"

    def status(self, started: str, known: Sequence[Object]) -> Object:
        """The status; conditions keep the times of ``known`` ones where they are as they were."""
        addresses = {"podIP": self.ip, "podIPs": [{"ip": self.ip}]} if self.ip else {}
        return {
            "phase": self.phase,
            "startTime": started,
            "hostIP": self.host_ip,
            "hostIPs": [{"ip": self.host_ip}],
            **addresses,
            "conditions": [_dated(entry, known) for entry in self._conditions()],
            "initContainerStatuses": [container.manifest for container in self.init],
            "containerStatuses": [container.manifest for container in self.main],
        }

    def _conditions(self) -> list[Object]:
        ready = self._ready()
        return [
            {"type": "PodScheduled", "status": "True"},
            {"type": "PodReadyToStartContainers", "status": "True" if self.ip else "False"},
            {"type": "Initialized", **self._initialized()},
            {"type": "ContainersReady", **ready},
            {"type": "Ready", **ready},
        ]

    def _initialized(self) -> Object:
        incomplete = [container.name for container in self.init if not container.initialized]
        begun = any(not isinstance(container.state, Waiting) or container.last for container in self.main)
        if not incomplete or begun:
            return {"status": "True"}
        return _false("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")

    def _ready(self) -> Object:
        if self.phase in {"Succeeded", "Failed"}:
            return _false({"Succeeded": "PodCompleted", "Failed": "PodFailed"}[self.phase])
        lasting = [container for container in self.init if container.sidecar] + list(self.main)
        unready = [container.name for container in lasting if not container.ready]
        if not unready:
            return {"status": "True"}
        return _false("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")


def _false(reason: str, message: str = "") -> Object:
    return {"status": "False", "reason": reason, "message": message}


def _dated(entry: Object, known: Sequence[Object]) -> Object:
    before: Object = next((each for each in known if each["type"] == entry["type"]), {})
    since = before.get("lastTransitionTime") if before.get("status") == entry["status"] else None
    # A merged condition keeps what is not said: what is no more is unsaid.
    return {"reason": None, "message": None, **entry, "lastTransitionTime": since or now()}
