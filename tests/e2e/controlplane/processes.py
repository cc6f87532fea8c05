"""Programs of the control plane as processes that end with ours. It touches processes and their logs."""

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from tests.e2e.controlplane.certificates import Certificate

#: Kubernetes' components answer within a second or two; on a busy machine, the first start takes longer.
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0


class ComponentFailed(Exception):  # noqa: N818 - it says what happened
    """A component did not start, or ended; the message has the end of its log."""


class Process:
    """One program. The kernel ends it when the thread that started it ends, however that comes about."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        self.name = log.stem
        #: Where its output goes.
        self.log = log
        with log.open("a") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
                env=dict(environment),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait for it to be ready; raises ``ComponentFailed``."""
        deadline = time.monotonic() + _START_SECONDS
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise ComponentFailed(f"{self.name} is not ready after {_START_SECONDS:.0f} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def wait(self) -> None:
        """Wait until it has done what it is for; raises ``ComponentFailed``."""
        if self._process.wait(_START_SECONDS):
            self.check()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise ``ComponentFailed`` when it has ended."""
        code = self._process.poll()
        if code is not None:
            raise ComponentFailed(f"{self.name} ended with code {code}:\n{self.log_tail()}")

    def log_tail(self, lines: int = 10) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def memory(self) -> int:
        """Its resident set, in bytes."""
        size: int = psutil.Process(self._process.pid).memory_info().rss
        return size

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has taken, with that of what it ran and that has ended."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    def stop(self) -> None:
        """Ask it to end, and end it when it does not."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Processes:
    """The processes of one control plane, with their logs in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Those that run, or have run, by name: the latest of each.
        self.named: dict[str, Process] = {}

    def run(self, name: str, *command: str | Path, environment: Mapping[str, str] | None = None) -> Process:
        """Start a process; one of the same name that runs is stopped."""
        if name in self.named:
            self.named[name].stop()
        # Neither the user's cluster nor the user's AWS account.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "KUBE"))}
        process = Process(command, self.folder / f"{name}.log", {**inherited, **(environment or {})})
        self.named[name] = process
        return process

    @property
    def memory(self) -> int:
        """The resident sets of those that run, in bytes."""
        return sum(process.memory for process in self.named.values() if process.runs)

    def stop(self) -> None:
        """Stop them, the last one first."""
        for process in reversed(self.named.values()):
            process.stop()


def answers(url: str, client: Certificate | None = None) -> Callable[[], bool]:
    """Whether a component says at a URL that it is well; ``client`` is who asks, and whom to trust."""
    context = ssl.create_default_context(cafile=str(client.authority) if client else None)
    if client:
        context.load_cert_chain(client.certificate, client.key)
    else:  # controllers make their serving certificates themselves
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    http = httpx.Client(verify=context, timeout=5, trust_env=False)

    def healthy() -> bool:
        try:
            return http.get(url).is_success
        except httpx.HTTPError:
            return False

    return healthy


def listens(host: str, port: int) -> Callable[[], bool]:
    """Whether something listens at an address."""

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, port)) == 0

    return listening
