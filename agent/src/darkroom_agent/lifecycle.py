"""Whether the agent is to stop, how long it still may take, and whether its loop still turns. Touches nothing."""

import math
import threading

from darkroom_agent.clock import Clock


class Lifecycle:
    """Shared by the agent's threads. Do not call ``stop`` from a signal handler: it takes a lock."""

    def __init__(self, shutdown_budget_seconds: float, clock: Clock) -> None:
        self.clock = clock
        #: How long a shutdown may take, in seconds.
        self.budget = shutdown_budget_seconds
        self._stopping = threading.Event()
        self._deadline = math.inf
        self._last_beat = clock.now()

    def stop(self) -> None:
        """Ask the agent to stop. The budget runs from the first call."""
        if not self.is_stopping:
            self._deadline = self.clock.now() + self.budget
            self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether the agent is to stop."""
        return self._stopping.is_set()

    @property
    def seconds_left(self) -> float:
        """How much of the shutdown's budget is left; infinite until the agent is to stop."""
        return self._deadline - self.clock.now()

    @property
    def is_out_of_time(self) -> bool:
        """Whether the budget of the shutdown is used up."""
        return self.seconds_left <= 0

    def pause(self, seconds: float) -> None:
        """Wait, unless the agent is to stop."""
        self.clock.wait(self._stopping, seconds)

    def beat(self) -> None:
        """Say that the loop turns."""
        self._last_beat = self.clock.now()

    @property
    def seconds_since_beat(self) -> float:
        """How long the loop has not said that it turns."""
        return self.clock.now() - self._last_beat
