"""One container of a pod: its program, run again when it ends as its policy says, its probes and its end.

Follows ``pkg/kubelet/kuberuntime`` of Kubernetes 1.35, with a shorter back-off. ``postStart`` is not played.
"""

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psutil

from tests.e2e.kubelet import isolation
from tests.e2e.kubelet.changes import Changes
from tests.e2e.kubelet.errors import NotStarted, Unsupported
from tests.e2e.kubelet.objects import Object
from tests.e2e.kubelet.probes import KINDS, Kind, Worker, ask
from tests.e2e.kubelet.process import ContainerProcess
from tests.e2e.kubelet.program import Program
from tests.e2e.kubelet.sandbox import ENVIRONMENT
from tests.e2e.kubelet.status import ContainerStatus, Running, Terminated, Waiting, now

#: An init container is run to its end, a sidecar is one that stays, and the main ones follow.
Role: TypeAlias = Literal["init", "sidecar", "main"]

#: How soon a container that could not be started is tried again.
_RETRY_SECONDS = 0.5
#: What a container is given to end at least (``minimumGracePeriodInSeconds``).
_LEAST_GRACE_SECONDS = 2.0
#: The kubelet's back-off of 10 s goes up to 5 minutes, and is forgotten after 10 minutes, in units of the first one.
_LONGEST_BACKOFF, _FORGET_BACKOFF = 30, 60


@dataclass(frozen=True)
class Surroundings:
    """What a container has of its pod."""

    address: str
    #: The pod's grace, for restarts.
    grace_seconds: float
    backoff_seconds: float
    log: Path
    changes: Changes
    #: What to run, or why not: raises ``NotStarted``.
    program: Callable[[], Program]
    #: The command that starts it.
    start_command: Callable[[Program], Sequence[str]]
    #: Where threads are told to run: what goes wrong in them is kept.
    run: Callable[[str, Callable[..., None]], threading.Thread]


class Container:
    """A container; ``restarts`` says whether it is run again after an exit code."""

    def __init__(self, spec: Object, role: Role, restarts: Callable[[int], bool], place: Surroundings) -> None:
        if "postStart" in spec.get("lifecycle", {}):
            raise Unsupported(f"postStart of container {spec['name']}")
        self.spec = spec
        self._role = role
        self._place = place
        self._restarts = restarts
        self._lock = threading.RLock()
        self._status = ContainerStatus(spec["name"], spec["image"], role == "sidecar")
        self._process: ContainerProcess | None = None
        self._program: Program | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._runs = itertools.count(1)
        self._workers = {kind: Worker(kind, spec[kind], self) for kind in KINDS if kind in spec}
        #: Whether nothing of it will run any more.
        self.is_over = False

    @property
    def name(self) -> str:
        """Its name."""
        return self._status.name

    @property
    def status(self) -> ContainerStatus:
        """How it fares."""
        return self._status

    @property
    def is_ending(self) -> bool:
        """Whether its pod is being ended."""
        return self._ending.is_set()

    @property
    def processes(self) -> list[psutil.Process]:
        """What runs in it, process 1 first."""
        process = self._process
        with suppress(psutil.NoSuchProcess):
            if process and process.pid and isinstance(self._status.state, Running):
                first = psutil.Process(process.pid)
                return [first, *first.children(recursive=True)]
        return []

    def begin_probing(self) -> None:
        """Start the workers of its probes, as the kubelet does when it first sees the pod."""
        for kind, worker in self._workers.items():
            self._place.run(f"{self.name} {kind}", worker.work)

    def start(self) -> None:
        """Start it; it is started again as its policy says, until it is stopped."""
        self._thread = self._place.run(self.name, self._live)

    def stop(self, deadline: Callable[[], float], after: Sequence["Container"]) -> None:
        """End it for good once ``after`` are over; ``deadline`` (monotonic) may come nearer meanwhile."""
        with self._lock:  # it runs now, or it never will
            self._ending.set()
        if self._process is None:
            self._finish()
            return
        self._pre_stop(deadline)
        while not self.is_over and not all(other.is_over for other in after) and time.monotonic() < deadline():
            self._place.changes.wait_for(lambda: all(other.is_over for other in after), 0.5)
        self._end(self._process, deadline)
        self._place.changes.wait_for(lambda: self.is_over, _LEAST_GRACE_SECONDS)

    def kill(self) -> None:
        """End it at once and for good."""
        with self._lock:
            self._ending.set()
        if self._process:
            self._process.kill()
        if self._thread:
            self._thread.join()
        self._finish()

    def act(self, handler: Object, seconds: float) -> bool:
        """Do what a probe or hook says; whether it went well."""
        if "exec" in handler:
            return self._execute(handler["exec"]["command"], seconds)
        if "sleep" in handler:
            self._place.changes.wait_for(lambda: self.is_over, min(handler["sleep"]["seconds"], seconds))
            return True
        return ask(handler, self.spec, self._place.address, seconds)

    def report(self, kind: Kind, run: str, *, good: bool) -> None:
        """What a probe has found out of a run."""
        if kind == "readinessProbe":
            self._update(run, ready=good)
        elif not good:
            self._restart(kind, run)
        elif kind == "startupProbe":
            self._set_started(run)

    def _live(self) -> None:
        failures = 0
        while not self._ending.is_set():
            began = time.monotonic()
            if not self._run_once():
                break
            lasted = time.monotonic() - began
            failures = 1 if lasted > _FORGET_BACKOFF * self._place.backoff_seconds else failures + 1
            self._back_off(failures)
        self._finish()

    def _run_once(self) -> bool:
        """Run the program to its end; whether it is to be run again."""
        process = self._start()
        if process is None:
            return False
        code = process.wait()
        state = self._status.state
        assert isinstance(state, Running)
        ended = Terminated(state.run, state.since, now(), code)
        self._update(state.run, state=ended, started=False, ready=code == 0 and self._role == "init")
        return not self._ending.is_set() and self._restarts(code)

    def _start(self) -> ContainerProcess | None:
        """Start the program, as soon as that is possible; None when it is not to be started any more."""
        while True:
            with self._lock:
                if self._ending.is_set():
                    return None
                try:
                    self._program = self._place.program()
                    self._process = ContainerProcess(self._place.start_command(self._program), self._place.log)
                except NotStarted as reason:
                    self._update(None, state=Waiting(reason.reason, str(reason)))
                else:
                    self._note_run()
                    return self._process
            self._ending.wait(_RETRY_SECONDS)

    def _note_run(self) -> None:
        number = next(self._runs)
        before = self._status.state
        last = before if isinstance(before, Terminated) else self._status.last
        state = Running(f"darkroom://{self.name}-{number}", now(), time.monotonic())
        self._update(None, state=state, last=last, restarts=number - 1, started=False, ready=False)
        if "startupProbe" not in self._workers:
            self._set_started(state.run)

    def _set_started(self, run: str) -> None:
        self._update(run, started=True, ready="readinessProbe" not in self._workers and self._role != "init")
        if "readinessProbe" in self._workers:
            self._workers["readinessProbe"].trigger()

    def _back_off(self, failures: int) -> None:
        """Wait before the next run; the first one comes at once."""
        if failures < 2:
            return
        seconds = self._place.backoff_seconds * min(2 ** (failures - 2), _LONGEST_BACKOFF)
        state = self._status.state
        message = f"back-off {seconds:g}s restarting failed container={self.name}"
        last = state if isinstance(state, Terminated) else self._status.last
        self._update(None, state=Waiting("CrashLoopBackOff", message), last=last)
        self._ending.wait(seconds)

    def _restart(self, why: Kind, run: str) -> None:
        with self._lock:
            process, state = self._process, self._status.state
        if process is None or not isinstance(state, Running) or state.run != run or self._ending.is_set():
            return
        grace = self.spec[why].get("terminationGracePeriodSeconds", self._place.grace_seconds)
        deadline = time.monotonic() + grace
        self._pre_stop(lambda: deadline)
        self._end(process, lambda: deadline)

    def _pre_stop(self, deadline: Callable[[], float]) -> None:
        hook = self.spec.get("lifecycle", {}).get("preStop")
        if hook and isinstance(self._status.state, Running):
            self.act(hook, max(deadline() - time.monotonic(), 0))

    def _end(self, process: ContainerProcess, deadline: Callable[[], float]) -> None:
        """Ask a run to end, and end it when its time is over."""
        least = time.monotonic() + _LEAST_GRACE_SECONDS
        process.terminate()
        while (left := max(deadline(), least) - time.monotonic()) > 0:
            if self._place.changes.wait_for(lambda: process.is_over, min(left, 0.5)):
                return
        process.kill()

    def _execute(self, command: Sequence[str], seconds: float) -> bool:
        process, program = self._process, self._program
        if process is None or program is None or process.pid is None:
            return False
        try:
            done = subprocess.run(
                isolation.beside(program, process.pid, command),
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _finish(self) -> None:
        for worker in self._workers.values():
            worker.stop()
        self.is_over = True
        self._place.changes.note()

    def _update(self, run: str | None, **fields: Any) -> None:
        """Note how it fares; what is about a run that is no more is not noted."""
        with self._lock:
            state = self._status.state
            if run is not None and (not isinstance(state, Running) or state.run != run):
                return
            self._status = replace(self._status, **fields)
        self._place.changes.note()
