"""Time that runs faster: for the agent, for the facts that it writes, and for the emulated AWS."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from threading import Condition, Event

import pytest

from darkroom_agent.clock import Clock


class FastClock(Clock):
    """A clock on which so many seconds pass in one second."""

    def __init__(self, times: float) -> None:
        self._times = times
        self._began = time.monotonic()
        self._began_at = datetime.now(UTC)

    def now(self) -> float:
        return self._began + (time.monotonic() - self._began) * self._times

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self._times)

    def wait(self, event: Event | Condition, seconds: float) -> bool:
        return event.wait(seconds / self._times)

    def utcnow(self) -> datetime:
        """The time of day."""
        return self._began_at + timedelta(seconds=self.now() - self._began)


@contextmanager
def fast_world(times: float) -> Iterator[FastClock]:
    """Let leases and the emulator's visibility timeouts go by the same fast clock as the agents that are given it."""
    clock = FastClock(times)

    class FastDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return clock.utcnow().astimezone(tz)

    with pytest.MonkeyPatch.context() as patch:
        # The agent's own pauses: those of the other tests would be too short here for the emulator.
        patch.setattr("darkroom_agent.endings._LONGEST_PAUSE_SECONDS", times)
        patch.setattr("darkroom_agent.worker._RENEW_SECONDS", 1)
        patch.setattr("darkroom_agent.records._PROGRESS_PAUSE_SECONDS", 2)
        patch.setattr("darkroom_contract.types.datetime", FastDatetime)
        patch.setattr("moto.core.utils.utcnow", lambda: clock.utcnow().replace(tzinfo=None))
        yield clock
