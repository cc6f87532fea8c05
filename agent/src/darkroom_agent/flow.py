"""What the agent has in hand, and how much more it may take: all its bounds are in this file. Touches nothing.

A message is *ahead* from its receive until the engine is through with its job, then it is *in delivery*. Nothing waits
in a queue without a bound: when deliveries are slow, the engine is sent nothing more; when the engine is sent nothing
more, nothing is received.

The memory that this bounds, beside the interpreter's own: the inputs of the jobs that are prepared, up to
``MAX_PREPARED_BYTES``, and those of the jobs that are being prepared (``MAX_AHEAD`` at most) or in the engine (two);
one answer for each job in the engine; and the pictures in delivery, up to ``MAX_DELIVERY_BYTES`` and those of the two
jobs that were in the engine when they became too many.
"""

import math
import threading
from collections import deque
from dataclasses import dataclass

from darkroom_agent.attempt import Attempt
from darkroom_agent.clock import Clock
from darkroom_agent.engines.base import Run, RuntimeEngine
from darkroom_agent.forecast import Forecast
from darkroom_agent.transport import QueueMessage

#: Messages whose jobs the engine has not ended.
MAX_AHEAD = 8
MAX_PREPARED_BYTES = 64 * 1024 * 1024
#: Jobs whose pictures are being delivered.
MAX_DELIVERIES = 8
MAX_DELIVERY_BYTES = 64 * 1024 * 1024
#: The engine's progress is looked at this often, to see how soon it will need another job.
_TICK_SECONDS = 0.25


@dataclass(eq=False)
class _Held:
    """A message in hand, and its job's attempt once there is one."""

    message: QueueMessage
    attempt: Attempt | None = None
    is_prepared: bool = False
    is_delivered: bool = False
    #: Of its inputs, then of its pictures, in bytes.
    size: int = 0

    @property
    def is_begun(self) -> bool:
        """Whether the engine has begun its job."""
        return self.attempt is not None and self.attempt.run.begun_at is not None


class Flow:
    """Shared by the agent's threads; every change wakes those that wait for one."""

    def __init__(self, engine: RuntimeEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._forecast = Forecast()
        self._changed = threading.Condition()
        self._held: dict[QueueMessage, _Held] = {}
        self._prepared: deque[Attempt] = deque()
        self._in_engine: list[Attempt] = []
        self._is_closed = False

    # What there is

    @property
    def is_empty(self) -> bool:
        """Whether no message is in hand."""
        return not self._held

    @property
    def is_engine_busy(self) -> bool:
        """Whether the engine has begun a job of this agent's."""
        with self._changed:
            return any(attempt.run.begun_at is not None for attempt in self._in_engine)

    @property
    def messages(self) -> list[QueueMessage]:
        """All messages in hand."""
        with self._changed:
            return list(self._held)

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts in hand."""
        with self._changed:
            return [one.attempt for one in self._held.values() if one.attempt]

    @property
    def ahead(self) -> list[Attempt]:
        """The attempts whose jobs the engine has not ended."""
        with self._changed:
            return [one.attempt for one in self._held.values() if one.attempt and not one.is_delivered]

    @property
    def prefetched(self) -> int:
        """How many messages are in hand whose job the engine has not begun."""
        with self._changed:
            return sum(not one.is_delivered and not one.is_begun for one in self._held.values())

    @property
    def bytes_in_delivery(self) -> int:
        """How many bytes of pictures wait for S3."""
        with self._changed:
            return sum(one.size for one in self._deliveries)

    def rest(self, run: Run) -> float:
        """How many seconds a run may still take; infinite while nothing is known."""
        with self._changed:
            return self._forecast.rest(run)

    # How much more may come

    def room(self) -> tuple[int, float]:
        """How many messages the engine will soon need; if none, after how many seconds to ask again."""
        with self._changed:
            ahead = [one for one in self._held.values() if not one.is_delivered]
            free = 0 if self._is_delivery_full or self._are_inputs_full else MAX_AHEAD - len(ahead)
            if free <= 0:
                return 0, _TICK_SECONDS
            if not ahead:
                return 1, 0.0
            needed = self._forecast.preparing
            # A job whose inputs are slow to come is no work for the engine yet.
            late = self._clock.now() - needed
            count = sum(one.is_prepared or one.message.received_at > late for one in ahead)
            spare = self._seconds_in_hand(count) - needed
            if spare > 0:
                return 0, min(spare, _TICK_SECONDS)
            # Of jobs so short that several are needed, twice as many are taken by half as many receives.
            missing = math.floor((needed - spare) / max(self._forecast.running, 0.001))
            return min(free, max(1, missing)), 0.0

    def _seconds_in_hand(self, jobs: int) -> float:
        """For how long so many jobs, those in the engine included, keep the engine busy."""
        begun = next((one.run for one in self._in_engine if one.run.begun_at is not None), None)
        others = jobs - (begun is not None)
        rest = self._forecast.rest(begun) if begun else 0.0
        return rest + others * self._forecast.running if others else rest

    @property
    def _deliveries(self) -> list[_Held]:
        return [one for one in self._held.values() if one.is_delivered]

    @property
    def _is_delivery_full(self) -> bool:
        deliveries = self._deliveries
        return len(deliveries) >= MAX_DELIVERIES or sum(one.size for one in deliveries) >= MAX_DELIVERY_BYTES

    @property
    def _are_inputs_full(self) -> bool:
        return sum(self._held[one.message].size for one in self._prepared) >= MAX_PREPARED_BYTES

    # A message's way

    def received(self, messages: list[QueueMessage], seconds: float) -> None:
        """Take messages in hand."""
        with self._changed:
            if messages:
                self._forecast.received(seconds)
            self._held.update((message, _Held(message)) for message in messages)
            self._changed.notify_all()

    def opened(self, attempt: Attempt) -> None:
        """Note a message's attempt. It waits while too many inputs do."""
        with self._changed:
            self._held[attempt.message].attempt = attempt
            while self._are_inputs_full and not self._is_closed:
                self._wait(_TICK_SECONDS)

    def prepared(self, attempt: Attempt, seconds: float) -> bool:
        """Put an attempt in the line for the engine. False when the line is closed."""
        with self._changed:
            self._forecast.prepared(seconds)
            held = self._held[attempt.message]
            held.is_prepared, held.size = True, attempt.input_bytes
            if not self._is_closed:
                self._prepared.append(attempt)
            self._changed.notify_all()
            return not self._is_closed

    def next(self) -> Attempt | None:
        """The next attempt for the engine, as soon as the engine may be sent it; None when there will be none."""
        with self._changed:
            while not self._is_closed:
                if self._prepared and len(self._in_engine) <= self._engine.ahead and not self._is_delivery_full:
                    self._in_engine.append(self._prepared.popleft())
                    return self._in_engine[-1]
                self._wait(_TICK_SECONDS)
            return None

    def generated(self, attempt: Attempt, *, succeeded: bool) -> None:
        """The engine is through with an attempt's job."""
        with self._changed:
            self._in_engine.remove(attempt)
            if attempt.run.begun_at is not None and succeeded:
                self._forecast.ran(self._clock.now() - attempt.run.begun_at)
            self._changed.notify_all()

    def delivering(self, message: QueueMessage, size: int = 0) -> None:
        """A message is on its way to its end; ``size`` of its job's pictures in bytes."""
        with self._changed:
            held = self._held[message]
            held.is_delivered, held.size = True, size
            self._changed.notify_all()

    def ended(self, message: QueueMessage) -> None:
        """A message is out of hand."""
        with self._changed:
            held = self._held.pop(message, None)
            if held and held.attempt in self._in_engine:  # what handed it to the engine broke
                self._in_engine.remove(held.attempt)
            self._changed.notify_all()

    def withdraw(self) -> list[Attempt]:
        """Take out of the line what the engine was not sent yet."""
        with self._changed:
            withdrawn = list(self._prepared)
            self._prepared.clear()
            return withdrawn

    def close(self) -> list[Attempt]:
        """Let nothing more come to the engine; returns what the engine was not sent."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        return self.withdraw()

    def wait(self, seconds: float) -> None:
        """Wait for a change, but no longer than so."""
        with self._changed:
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        self._clock.wait(self._changed, seconds)
