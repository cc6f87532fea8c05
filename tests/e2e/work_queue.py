"""A work queue as controllers have one: each key at most once, now or later, and by one worker at a time."""

import threading
import time
from typing import Generic, TypeVar

_Key = TypeVar("_Key")


class WorkQueue(Generic[_Key]):
    """Keys to be worked on."""

    def __init__(self) -> None:
        self._due: dict[_Key, float] = {}
        self._taken: set[_Key] = set()
        self._closed = False
        self._changed = threading.Condition()

    def add(self, key: _Key, after: float = 0.0) -> None:
        """Have a key worked on after so many seconds, or earlier if it is to be earlier already."""
        with self._changed:
            due = time.monotonic() + after
            self._due[key] = min(due, self._due.get(key, due))
            self._changed.notify()

    def take(self) -> _Key | None:
        """Wait for a key that is due; None once the queue is closed. Who takes it says when it is ``done``."""
        with self._changed:
            while not self._closed:
                free = {key: due for key, due in self._due.items() if key not in self._taken}
                key = min(free, key=free.__getitem__, default=None)
                if key is not None and free[key] <= time.monotonic():
                    del self._due[key]
                    self._taken.add(key)
                    return key
                self._changed.wait(None if key is None else free[key] - time.monotonic())
            return None

    def done(self, key: _Key) -> None:
        """A key is not worked on any more."""
        with self._changed:
            self._taken.discard(key)
            self._changed.notify()

    def join(self) -> None:
        """Wait until no key is due or worked on."""
        with self._changed:
            while self._taken or any(due <= time.monotonic() for due in self._due.values()):
                self._changed.wait(0.1)

    def close(self) -> None:
        """Let nobody take anything any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
