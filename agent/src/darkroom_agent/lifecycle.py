"""Whether the agent is to stop, how long it still may take, and whether its loop still turns. Touches nothing."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger

log = getLogger(__name__)


class Lifecycle:
    """Shared by the agent's threads. Do not call ``stop`` from a signal handler: it takes a lock."""

    def __init__(self, shutdown_budget_seconds: float) -> None:
        self._budget = shutdown_budget_seconds
        self._stopping = threading.Event()
        self._deadline = math.inf
        self._last_beat = time.monotonic()

    def stop(self) -> None:
        """Ask the agent to stop. The budget runs from the first call."""
        if not self.is_stopping:
            self._deadline = time.monotonic() + self._budget
            self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether the agent is to stop."""
        return self._stopping.is_set()

    @property
    def is_out_of_time(self) -> bool:
        """Whether the budget of the shutdown is used up."""
        return time.monotonic() >= self._deadline

    def pause(self, seconds: float) -> None:
        """Wait, unless the agent is to stop."""
        self.beat()
        self._stopping.wait(seconds)

    def beat(self) -> None:
        """Say that the loop turns."""
        self._last_beat = time.monotonic()

    @property
    def seconds_since_beat(self) -> float:
        """How long the loop has not said that it turns."""
        return time.monotonic() - self._last_beat


@contextmanager
def repeating(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call something regularly, in a thread, for as long as the context lasts. When it raises, that is logged."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            try:
                call()
            except Exception:
                log.exception("heartbeat failed")

    thread = threading.Thread(target=repeat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
