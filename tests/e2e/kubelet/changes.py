"""What changes in a pod is noted, so that whoever waits for it looks again. It touches nothing."""

import threading
from collections.abc import Callable


class Changes:
    """Counts changes; threads wait for the next one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        """How many there were."""
        return self._count

    def note(self) -> None:
        """Something changed."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, seen: int) -> None:
        """Wait until there were more changes than so many."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > seen)

    def wait_for(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is so, at most so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(holds, max(seconds, 0))
