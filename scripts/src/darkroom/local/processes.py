"""Child processes that end when their parent does. It touches processes and the folder of their logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from darkroom.local.child import STOP_SECONDS
from darkroom.trouble import Trouble


class ProcessFailed(Trouble):
    """A child process did not start, or ended for good; the message has the end of its log."""


class Child:
    """One Python module running as a process of its own; its output goes to a log file.

    A JSON object with ``"event": "listening"`` as a line of its standard output says that it is ready, and where.
    """

    def __init__(self, name: str, module: Iterable[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        #: The file that its output goes to.
        self.log_path = log
        self._listening: dict[str, Any] = {}
        self._announced = threading.Event()
        # A session of its own: Ctrl-C in the terminal reaches the parent alone, which then stops in order.
        self._process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", "darkroom.local.child", *module],
            env={**_inherited(), **env},
            stdin=subprocess.PIPE,  # its end tells the child that we are gone
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
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
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

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
        process = self._process
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - they were opened as pipes
        with self.log_path.open("a", encoding="utf-8") as log, process.stdin, process.stdout as output:
            for line in output:
                log.write(line)
                log.flush()
                if not self._announced.is_set() and (announcement := _announcement(line)):
                    self._listening = announcement
                    self._announced.set()
        self._announced.set()


def stop_all(children: Iterable[Child]) -> None:
    """Ask all to end at once, then see each of them out."""
    children = list(children)
    for child in children:
        child.terminate()
    for child in children:
        child.stop()


def _announcement(line: str) -> dict[str, Any] | None:
    """The line's object when it says where the child listens."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.get("event") == "listening" else None


def _inherited() -> dict[str, str]:
    """Our environment without the user's AWS settings: nothing here may ever reach a real account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
