"""One run of a container's program, as processes of the machine. It ends with the thread that started it."""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.e2e.kubelet.errors import StandInFailed
from tests.e2e.kubelet.sandbox import ENVIRONMENT


class ContainerProcess:
    """A container's process 1, and the one that holds its namespaces."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start it by ``isolation.start``, and wait for its program to begin; raises ``StandInFailed``."""
        reading, writing = os.pipe()
        try:
            with log.open("ab") as output:
                self._holder = subprocess.Popen(
                    command, env=ENVIRONMENT, stdin=writing, stdout=output, stderr=output, start_new_session=True
                )
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb") as begun:
            if not begun.readline():
                self._holder.wait()
                raise StandInFailed(f"a container cannot be isolated: {_tail(log)}")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        #: Of process 1, as the machine sees it; None when it has ended already.
        self.pid = int(children[0]) if children else None
        #: Whether it has ended.
        self.is_over = False
        self._lock = threading.Lock()
        self._handle: int | None = None
        with suppress(ProcessLookupError):
            self._handle = os.pidfd_open(self.pid) if self.pid else None

    def wait(self) -> int:
        """Wait for its end; its exit code, or 128 and the number of the signal that ended it."""
        code = self._holder.wait() % 256
        self.is_over = True
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is not None:
                os.close(handle)
        return code

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with self._lock, suppress(ProcessLookupError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, number)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
