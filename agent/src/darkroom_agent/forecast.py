"""How long what comes next will take, learnt from what was. Pure.

The agent receives a message when the engine will soon need one: early enough to have it prepared by then, and no
earlier, so that no message waits with one agent while another agent's engine has nothing to do.
"""

import math
from collections import deque
from statistics import quantiles

from darkroom_agent.engines.base import Run

#: Before anything was prepared.
_FIRST_PREPARING_SECONDS = 0.5
#: What it takes to hand a prepared job to the engine, and to learn that it is time to.
_HANDING_SECONDS = 0.1
#: However slow inputs are: a message is not kept from other agents for longer than so.
_LONGEST_PREPARING_SECONDS = 5.0
_REMEMBERED = 64
#: Runs differ with what they are asked for: the fastest of so many tells how soon the next one may end.
_REMEMBERED_RUNS = 16


class Forecast:
    """Seconds, by experience. One thread at a time."""

    def __init__(self) -> None:
        self._receives: deque[float] = deque(maxlen=_REMEMBERED)
        self._preparations: deque[float] = deque(maxlen=_REMEMBERED)
        self._runs: deque[float] = deque(maxlen=_REMEMBERED_RUNS)
        self._preparing = _FIRST_PREPARING_SECONDS

    def received(self, seconds: float) -> None:
        """Learn how long a receive took that brought something."""
        self._receives.append(seconds)

    def prepared(self, seconds: float) -> None:
        """Learn how long it took from a message to a job that the engine can be sent."""
        self._preparations.append(seconds)
        if len(self._preparations) > 1:  # fewer have no quantiles
            self._preparing = quantiles(self._preparations, n=20, method="inclusive")[-1]

    def ran(self, seconds: float) -> None:
        """Learn how long the engine took for a job."""
        self._runs.append(seconds)

    @property
    def preparing(self) -> float:
        """How long at most (95 of 100 times) it takes to have another job ready for the engine.

        Most receives wait for a message to come; the fastest tells what the call itself takes.
        """
        return min(min(self._receives, default=0.0) + self._preparing + _HANDING_SECONDS, _LONGEST_PREPARING_SECONDS)

    @property
    def running(self) -> float:
        """How soon a job may be over that the engine begins; infinite while nothing is known."""
        return min(self._runs, default=math.inf)

    def rest(self, run: Run) -> float:
        """How soon a run may be over: by its own progress, or else by those before it."""
        if run.begun_at is None:
            return self.running
        by_progress = run.seconds_left
        return by_progress if by_progress < math.inf else max(0.0, run.begun_at + self.running - run.clock.now())
