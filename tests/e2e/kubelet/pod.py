"""One pod as the kubelet plays it: sandbox, volumes, containers in their order, status, and the end.

Each pod has a thread of its own. Sizes and limits of resources are not enforced.
"""

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.e2e.kubelet import isolation
from tests.e2e.kubelet.changes import Changes
from tests.e2e.kubelet.container import Container, Role, Surroundings
from tests.e2e.kubelet.errors import NotStarted, Unsupported
from tests.e2e.kubelet.image import Image
from tests.e2e.kubelet.objects import Object, Objects
from tests.e2e.kubelet.program import Program, program
from tests.e2e.kubelet.sandbox import Holder, Network, sandbox
from tests.e2e.kubelet.status import PodFacts, now
from tests.e2e.kubelet.volumes import Volumes

_RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Machine:
    """What all pods have in common."""

    objects: Objects
    network: Network
    images: Mapping[str, Image]
    #: The folders of volume claims, by their names.
    claims: Mapping[str, Path]
    folder: Path
    backoff_seconds: float
    #: Starts a thread; what goes wrong in it is kept.
    run: Callable[[str, Callable[..., None]], threading.Thread]


class Pod:
    """A pod that is bound to a node."""

    def __init__(self, item: Object, machine: Machine) -> None:
        self._item = item
        self._machine = machine
        self._folder = machine.folder / "pods" / item["metadata"]["uid"]
        self._logs = machine.folder / "logs" / self.name
        self._volumes = Volumes(self._folder / "volumes", machine.objects, machine.claims)
        self._changes = Changes()
        self._sandbox: Holder | None = None
        self._address: str | None = None
        self._init: list[Container] = []
        self._main: list[Container] = []
        self._since = now()
        #: When its grace is over, by the monotonic clock, once it is to end.
        self._deadline: float | None = None
        #: Its deletion was asked for; its object is gone; its machine is gone; nothing of it runs any more.
        self._is_deleted = self._is_gone = self._is_killed = self._is_over = False
        self._conditions: list[Object] = item.get("status", {}).get("conditions", [])
        self._reported: Object = {}
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._item["metadata"]["name"])

    @property
    def node(self) -> str:
        """Its node's name."""
        return str(self._item["spec"]["nodeName"])

    @property
    def item(self) -> Object:
        """The object, with what its status says by now."""
        addresses = {"podIP": self._address, "podIPs": [{"ip": self._address}]} if self._address else {}
        status = {**self._item.get("status", {}), **addresses, "hostIP": self._machine.network.host_address}
        return {**self._item, "status": status}

    @property
    def containers(self) -> list[Container]:
        """All of them, init containers first."""
        return [*self._init, *self._main]

    def log(self, container: str) -> Path:
        """Where a container's output goes."""
        return self._logs / f"{container}.log"

    def start(self) -> None:
        """Begin."""
        self.update(self._item)
        self._thread = self._machine.run(f"pod {self.name}", self._live)

    def update(self, item: Object) -> None:
        """The object was changed: its deletion may be asked for, or be asked for sooner."""
        self._item = item
        metadata = item["metadata"]
        if "deletionTimestamp" in metadata:
            self._delete(metadata.get("deletionGracePeriodSeconds", 0))

    def vanish(self) -> None:
        """The object is gone: nobody waits for the pod any more."""
        self._is_gone = True
        self._delete(0)

    def kill(self) -> None:
        """End everything at once and for good, with no word of it in the status; ``join`` waits for it."""
        self._is_killed = True
        self._changes.note()

    def join(self) -> None:
        """Wait until it has ended."""
        if self._thread:
            self._thread.join()

    def _delete(self, grace: float) -> None:
        self._is_deleted = True
        self._end_within(grace)

    def _end_within(self, grace: float) -> None:
        deadline = time.monotonic() + max(grace, 1)
        self._deadline = min(deadline, self._deadline or deadline)
        self._changes.note()

    @property
    def _is_ending(self) -> bool:
        return self._is_killed or self._is_deleted

    def _live(self) -> None:
        try:
            if not self._is_ending and self._prepare():
                self._run()
            if not self._is_killed:
                self._end()
        finally:
            self._clean_up()
        if not self._is_killed:
            self._wait(lambda: self._is_ending)  # one that has ended by itself
        if not self._is_killed and not self._is_gone:
            self._machine.objects.remove_pod(self._item)

    def _prepare(self) -> bool:
        """Make what its containers need; whether it is to go on."""
        if unsupported := {"hostNetwork", "hostPID", "hostIPC", "readinessGates"} & self._item["spec"].keys():
            raise Unsupported(f"{', '.join(sorted(unsupported))} of pod {self.name}")
        self._logs.mkdir(parents=True, exist_ok=True)
        self._sandbox = sandbox(self._item["spec"].get("hostname", self.name))
        self._address = self._machine.network.connect(self._sandbox)
        spec = self._item["spec"]
        self._init = [self._container(each, _role(each)) for each in spec.get("initContainers", ())]
        self._main = [self._container(each, "main") for each in spec["containers"]]
        while not self._is_ending:
            self._report()
            try:
                self._volumes.make(self.item)
            except NotStarted:
                self._changes.wait_for(lambda: self._is_ending, _RETRY_SECONDS)
            else:
                return True
        return False

    def _run(self) -> None:
        """Start the containers in their order, and wait for the pod's end."""
        for container in self.containers:
            container.begin_probing()
        for container in self._init:
            container.start()
            self._wait(lambda each=container: self._is_ending or each.status.initialized or each.is_over)  # type: ignore[misc]
            if self._is_ending or not container.status.initialized:
                return
        for container in self._main:
            container.start()
        self._wait(lambda: self._is_ending or all(each.is_over for each in self._main))

    def _end(self) -> None:
        """End the containers: the main ones first, then the sidecars, the last one first."""
        if not self._is_deleted:  # it ends by itself
            self._end_within(self._item["spec"].get("terminationGracePeriodSeconds", 30))
        before: list[Container] = list(self._main)
        threads = [self._stop(each, ()) for each in self._main]
        for container in reversed(self._init):
            threads.append(self._stop(container, tuple(before) if container.status.sidecar else ()))
            before.append(container)
        self._wait(lambda: self._is_killed or all(not thread.is_alive() for thread in threads))
        self._is_over = True
        self._report()

    def _stop(self, container: Container, after: Sequence[Container]) -> threading.Thread:
        def stop() -> None:
            container.stop(lambda: self._deadline or 0, after)
            self._changes.note()

        return self._machine.run(f"stop {container.name}", stop)

    def _clean_up(self) -> None:
        for container in self.containers:
            container.kill()
        if self._sandbox:
            self._sandbox.stop()
        self._volumes.remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, until: Callable[[], bool]) -> None:
        """Wait until something is so, and report every change meanwhile."""
        while True:
            seen = self._changes.count
            self._report()
            if until():
                return
            self._changes.wait(seen)

    def _report(self) -> None:
        if self._is_killed or self._is_gone:
            return
        facts = PodFacts(
            init=[container.status for container in self._init],
            main=[container.status for container in self._main],
            host_ip=self._machine.network.host_address,
            ip=self._address,
            over=self._is_over,
        )
        status = facts.status(self._since, self._conditions)
        if status != self._reported:
            self._machine.objects.report(self._item, status)
            self._reported, self._conditions = status, status["conditions"]

    def _container(self, spec: Object, role: Role) -> Container:
        return Container(
            spec,
            role,
            partial(_restarts, self._item["spec"].get("restartPolicy", "Always"), role),
            Surroundings(
                address=self._address or "",
                grace_seconds=self._item["spec"].get("terminationGracePeriodSeconds", 30),
                backoff_seconds=self._machine.backoff_seconds,
                log=self.log(spec["name"]),
                changes=self._changes,
                program=lambda: program(spec, self.item, self._machine.images, self._machine.objects),
                start_command=lambda what: self._start_command(spec, what),
                run=self._machine.run,
            ),
        )

    def _start_command(self, spec: Object, what: Program) -> list[str]:
        assert self._sandbox
        root = self._folder / "roots" / spec["name"]
        root.mkdir(parents=True, exist_ok=True)
        read_only = spec.get("securityContext", {}).get("readOnlyRootFilesystem", False)
        return isolation.start(what, self._sandbox, root, self._volumes.mounts(spec), read_only=read_only)


def _role(init_container: Object) -> Role:
    return "sidecar" if init_container.get("restartPolicy") == "Always" else "init"


def _restarts(policy: str, role: Role, code: int) -> bool:
    """Whether a container is run again after an exit code, by its pod's policy."""
    if role == "init":
        return code != 0 and policy != "Never"
    return role == "sidecar" or policy == "Always" or (policy == "OnFailure" and code != 0)
