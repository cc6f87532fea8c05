"""Probes: what is asked, when, and what follows. It talks to what is probed.

Follows ``pkg/kubelet/prober/worker.go`` of Kubernetes 1.35: a worker lives as long as its pod, and its ticks begin with
it. gRPC is not played.
"""

import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from tests.e2e.kubelet.errors import Unsupported
from tests.e2e.kubelet.objects import Object
from tests.e2e.kubelet.status import ContainerStatus, Running

Kind: TypeAlias = Literal["startupProbe", "livenessProbe", "readinessProbe"]
KINDS: tuple[Kind, ...] = ("startupProbe", "livenessProbe", "readinessProbe")


class Probed(Protocol):
    """What a probe needs of its container."""

    @property
    def status(self) -> ContainerStatus:
        """How it fares."""

    @property
    def is_ending(self) -> bool:
        """Whether its pod is being ended."""

    def act(self, handler: Object, seconds: float) -> bool:
        """Ask; whether the answer is good."""

    def report(self, kind: Kind, run: str, *, good: bool) -> None:
        """What a probe has found out of a run."""


class Worker:
    """One probe of a container."""

    def __init__(self, kind: Kind, spec: Object, container: Probed) -> None:
        self._kind = kind
        self._spec = spec
        self._container = container
        self._wake = threading.Event()
        self._stopped = False
        self._run = ""
        #: How often in a row it was so.
        self._good, self._times = True, 0
        self._on_hold = False

    def work(self) -> None:
        """Probe until it is stopped."""
        period = self._spec["periodSeconds"]
        tick = time.monotonic()
        while not self._stopped:
            self._probe()
            tick += period
            while tick <= time.monotonic():  # a tick that nobody waited for is lost
                tick += period
            if self._wake.wait(tick - time.monotonic()):
                self._wake.clear()
                tick = time.monotonic()

    def trigger(self) -> None:
        """Probe now, and in periods from now."""
        self._wake.set()

    def stop(self) -> None:
        """Probe no more."""
        self._stopped = True
        self._wake.set()

    def _probe(self) -> None:
        status = self._container.status
        if not isinstance(status.state, Running):
            return
        if status.state.run != self._run:
            self._run, self._times, self._on_hold = status.state.run, 0, False
        if self._on_hold or not self._is_due(status, status.state):
            return
        good = self._container.act(self._spec, self._spec["timeoutSeconds"])
        self._times = self._times + 1 if good == self._good and self._times else 1
        self._good = good
        if self._times < self._spec["successThreshold" if good else "failureThreshold"]:
            return
        if self._kind != "readinessProbe" and not good:
            self._on_hold = True  # until there is another run
        self._container.report(self._kind, self._run, good=good)

    def _is_due(self, status: ContainerStatus, state: Running) -> bool:
        if self._container.is_ending and self._kind != "readinessProbe":
            return False
        if time.monotonic() - state.began < self._spec.get("initialDelaySeconds", 0):
            return False
        return status.started != (self._kind == "startupProbe")


def ask(handler: Object, container: Object, address: str, seconds: float) -> bool:
    """Ask by ``httpGet`` or ``tcpSocket``; whether the answer is good. Raises ``Unsupported``."""
    if "httpGet" in handler:
        return _is_answered(handler["httpGet"], container, address, seconds)
    if "tcpSocket" in handler:
        wanted = handler["tcpSocket"]
        return _succeeds(lambda: _connect(wanted.get("host") or address, _port(wanted["port"], container), seconds))
    raise Unsupported(f"a probe or hook of container {container['name']}: {', '.join(handler)}")


def _is_answered(wanted: Object, container: Object, address: str, seconds: float) -> bool:
    if wanted.get("scheme", "HTTP") != "HTTP":
        raise Unsupported(f"a probe or hook of container {container['name']} by {wanted['scheme']}")
    headers = {entry["name"]: entry["value"] for entry in wanted.get("httpHeaders", ())}
    connection = http.client.HTTPConnection(
        wanted.get("host") or address, _port(wanted["port"], container), timeout=seconds
    )

    def get() -> bool:
        connection.request("GET", wanted.get("path") or "/", headers={"User-Agent": "kube-probe/1.35", **headers})
        return 200 <= connection.getresponse().status < 400

    try:
        return _succeeds(get)
    finally:
        connection.close()


def _connect(host: str, port: int, seconds: float) -> bool:
    with socket.create_connection((host, port), seconds):
        return True


def _succeeds(ask_it: Callable[[], bool]) -> bool:
    try:
        return ask_it()
    except (OSError, http.client.HTTPException):
        return False


def _port(wanted: int | str, container: Object) -> int:
    """A port by its number or name."""
    if isinstance(wanted, int):
        return wanted
    named = {entry.get("name"): entry["containerPort"] for entry in container.get("ports", ())}
    if wanted not in named:
        raise Unsupported(f"a probe or hook of container {container['name']} asks {wanted}, which is no port of it")
    port: int = named[wanted]
    return port
