"""The time that the agent goes by, so that its tests can let minutes pass in seconds. Touches nothing."""

import threading
import time


class Clock:
    """The host's monotonic clock; all times and pauses are in seconds."""

    def now(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        time.sleep(seconds)

    def wait(self, event: threading.Event | threading.Condition, seconds: float) -> bool:
        """Wait for an event, or for a condition that the caller holds, but no longer than so; whether it came."""
        return event.wait(seconds)
