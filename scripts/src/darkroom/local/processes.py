"""Child processes that stop when their parent does. It touches processes and the folder of their logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

#: What a child is given to end by itself before it is killed, in seconds.
STOP_SECONDS = 15.0


class ProcessFailed(Exception):  # noqa: N818 - it says what happened
    """A child process ended before it was ready; the message has the end of its log."""


class Child:
    """One Python module running as a process of its own; its output goes to a log file.

    A line of JSON with ``"event": "listening"`` on its standard output says that it is ready, and where.
    """

    def __init__(self, name: str, module: Iterable[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log_path = log
        self._listening: dict[str, Any] = {}
        self._announced = threading.Event()
        # A session of its own: Ctrl-C in the terminal reaches the parent alone, which then stops in order.
        self._process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", *module],
            env={**_inherited(), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._copy_output, name=f"{name} output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def url(self, timeout: float = 60) -> str:
        """Where it listens, once it does; raises ``ProcessFailed`` when it ends first or takes too long."""
        self._announced.wait(timeout)
        if "url" not in self._listening:
            raise ProcessFailed(f"{self.name} did not start:\n{self.log_tail()}")
        return str(self._listening["url"])

    def log_tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-lines:])

    def wait(self) -> int:
        """Wait until it ends, and return its exit code."""
        return self._process.wait()

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.running:
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to end, and end it when it does not."""
        self.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join()

    def _copy_output(self) -> None:
        output: IO[str] | None = self._process.stdout
        assert output is not None  # noqa: S101 - it was opened as a pipe
        with self._log_path.open("a") as log, output:
            for line in output:
                log.write(line)
                log.flush()
                if not self._announced.is_set() and '"listening"' in line:
                    self._listening = json.loads(line)
                    self._announced.set()
        self._announced.set()


def stop_all(children: Iterable[Child]) -> None:
    """Ask all to end at once, then see each of them out."""
    children = list(children)
    for child in children:
        child.terminate()
    for child in children:
        child.stop()


def _inherited() -> dict[str, str]:
    """Our environment without the user's AWS settings: nothing here may ever reach a real account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
