"""The agent's threads, and the loop that feeds them.

The loop receives what the engine will soon need (flow.py says how much). A pool prepares the jobs; two lanes hand them
to the engine, the second one ahead of its time; another pool delivers. All three work at once on different jobs. Beside
them three heartbeats: of the messages, of the leases on jobs, and one that looks whether a run has to end.

To stop: nothing more is received. What the engine was not sent goes back at once, what waits in the engine is taken
back, and the running job is finished if it fits the shutdown's budget, or else interrupted and given back. What is
finished is delivered. A receive that waits meanwhile is awaited, and what it brings goes back untouched.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from logging import getLogger

from darkroom_agent.attempt import Attempt
from darkroom_agent.aws import AWS_ERRORS
from darkroom_agent.conclusions import Conclusions
from darkroom_agent.endings import DeadLetter, Delete, Ending, Release
from darkroom_agent.engines.base import Output, Run
from darkroom_agent.engines.watch import EngineWatch
from darkroom_agent.errors import AgentError, AwsUnavailableError, CancelledError, HandedBackError
from darkroom_agent.flow import MAX_AHEAD, MAX_DELIVERIES, Flow
from darkroom_agent.lifecycle import Lifecycle
from darkroom_agent.logs import log_context
from darkroom_agent.metrics import Metrics
from darkroom_agent.policy import Policy
from darkroom_agent.threads import repeating, running
from darkroom_agent.transport import QueueMessage, RuntimeQueue

log = getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_WATCH_SECONDS = 0.25
#: How often leases are looked after, and cancellations looked for.
_RENEW_SECONDS = 1.0
#: One job runs, and one waits in the engine.
_LANES = 2
_MOST_FAILED_RECEIVES = 3
#: Of the shutdown's budget, at most: for interrupting a run, and for delivering what is finished.
_RESERVE_SECONDS = 15.0


class Worker:
    """Takes messages off the queue until it is stopped."""

    def __init__(
        self,
        queue: RuntimeQueue,
        flow: Flow,
        watch: EngineWatch,
        policy: Policy,
        conclusions: Conclusions,
        lifecycle: Lifecycle,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._flow = flow
        self._watch = watch
        self._policy = policy
        self._conclusions = conclusions
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._pause = _FIRST_PAUSE_SECONDS
        self._is_aws_well = True
        self._failed_receives = 0

    @property
    def is_receiving(self) -> bool:
        """Whether SQS lets messages be received."""
        return self._failed_receives < _MOST_FAILED_RECEIVES

    def run(self) -> None:
        """Work until the agent is to stop, and has nothing in hand any more."""
        clock, flow = self._lifecycle.clock, self._flow
        with ExitStack() as stack:
            stack.enter_context(repeating("heartbeat", clock, self._queue.heartbeat_seconds, self._keep_messages))
            stack.enter_context(repeating("lease heartbeat", clock, _RENEW_SECONDS, self._renew_claims))
            self._preparing = stack.enter_context(ThreadPoolExecutor(MAX_AHEAD, "prepare"))
            self._delivering = stack.enter_context(ThreadPoolExecutor(MAX_DELIVERIES, "deliver"))
            # What is handed back does not wait for deliveries.
            self._returning = stack.enter_context(ThreadPoolExecutor(_LANES, "give back"))
            for _ in range(_LANES):
                stack.enter_context(running("lane", self._feed_engine))
            stack.enter_context(repeating("run watch", clock, _WATCH_SECONDS, self._end_runs))
            stack.callback(self._drain)
            while not self._lifecycle.is_stopping:
                self._lifecycle.beat()
                room, seconds = flow.room()
                if not self._watch.look(is_busy=flow.is_engine_busy):
                    self._hand_back(flow.withdraw())
                    self._rest()
                elif room:
                    self._receive(room)
                else:
                    flow.wait(seconds)

    def _drain(self) -> None:
        """End what is in hand; whatever it was that ended the loop."""
        self._lifecycle.stop()
        self._hand_back(self._flow.close())
        while not self._flow.is_empty:
            self._lifecycle.beat()
            self._flow.wait(_WATCH_SECONDS)

    # From the queue to the engine

    def _receive(self, most: int) -> None:
        asked_at = self._lifecycle.clock.now()
        try:
            messages = self._queue.receive(most)
        except AWS_ERRORS as error:
            log.warning("receive failed", extra={"reason": str(error), "queue": self._queue.url})
            self._failed_receives += 1
            self._rest()
            return
        self._failed_receives = 0
        self._flow.received(messages, self._lifecycle.clock.now() - asked_at)
        for message in messages:
            self._preparing.submit(self._prepare, message)
        if self._is_aws_well:
            self._pause = _FIRST_PAUSE_SECONDS
        else:
            self._rest()

    def _rest(self) -> None:
        """Wait, longer every time."""
        self._lifecycle.pause(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    def _prepare(self, message: QueueMessage) -> None:
        with log_context(message_id=message.id), self._ending_what_breaks(message):
            if self._lifecycle.is_stopping:
                self._end(message, Release(0))
                return
            began = self._lifecycle.clock.now()
            try:
                opened = self._policy.open(message)
            except AWS_ERRORS:
                self._is_aws_well = False
                raise
            self._is_aws_well = True
            if isinstance(opened, Attempt):
                self._prepare_attempt(opened, began)
            else:
                self._flow.delivering(message)
                self._delivering.submit(self._answer, message, opened)

    def _prepare_attempt(self, attempt: Attempt, began: float) -> None:
        now = self._lifecycle.clock.now
        opening = now() - began
        with _logging(attempt):
            self._flow.opened(attempt)
            began = now()
            if error := self._policy.prepare(attempt):
                self._deliver(attempt, error)
            elif not self._flow.prepared(attempt, opening + now() - began):
                self._deliver(attempt, HandedBackError())

    def _feed_engine(self) -> None:
        while attempt := self._flow.next():
            leave = partial(self._conclusions.leave, attempt)
            with _logging(attempt), self._ending_what_breaks(attempt.message, leave):
                attempt.run.on_begin = partial(self._begin, attempt)
                outcome = self._policy.generate(attempt)
                self._flow.generated(attempt, succeeded=isinstance(outcome, Output))
                if attempt.run.begun_at is not None:
                    now = self._lifecycle.clock.now()
                    self._metrics.generated(attempt.message.received_at, attempt.run.begun_at, now)
                self._deliver(attempt, outcome)

    def _begin(self, attempt: Attempt) -> None:
        """Say that a job has begun. The engine's client calls it, under a lock: it neither waits nor raises."""
        with _logging(attempt), suppress(RuntimeError):  # no thread to be had
            log.info("job starts", extra={"task": attempt.job.task, "starts": attempt.claim.starts})
            if self._conclusions.is_announced(attempt):
                self._delivering.submit(self._conclusions.announce, attempt)

    def _hand_back(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            self._deliver(attempt, HandedBackError())

    # From the engine to the client

    def _deliver(self, attempt: Attempt, outcome: Output | AgentError) -> None:
        self._flow.delivering(attempt.message, outcome.size if isinstance(outcome, Output) else 0)
        pool = self._returning if isinstance(outcome, HandedBackError) else self._delivering
        pool.submit(self._conclude, attempt, outcome)

    def _conclude(self, attempt: Attempt, outcome: Output | AgentError) -> None:
        with _logging(attempt), self._ending_what_breaks(attempt.message, partial(self._conclusions.leave, attempt)):
            self._end(attempt.message, self._conclusions.conclude(attempt, outcome))

    def _answer(self, message: QueueMessage, answer: Callable[[], Ending]) -> None:
        with log_context(message_id=message.id), self._ending_what_breaks(message):
            self._end(message, answer())

    @contextmanager
    def _ending_what_breaks(self, message: QueueMessage, leave: Callable[[], Ending] | None = None) -> Iterator[None]:
        """Let no message stay in hand, whatever is raised over it."""
        try:
            yield
        except (*AWS_ERRORS, AwsUnavailableError) as error:
            log.warning("AWS call failed", extra={"reason": str(error)})
        except Exception:
            log.exception("unexpected error")
        else:
            return
        self._end(message, leave() if leave else self._conclusions.unfinished(message))

    def _end(self, message: QueueMessage, ending: Ending) -> None:
        """Tell SQS. Should that fail, the message comes again when its visibility timeout is over."""
        try:
            match ending:
                case Delete():
                    self._queue.delete(message)
                case Release(seconds) if not message.is_lost:  # another agent may have it
                    self._queue.release(message, seconds)
                case DeadLetter(error) if not message.is_lost:
                    self._queue.dead_letter(message, error)
                    self._metrics.ended("dead_lettered")
                    log.warning("message dead-lettered", extra={"message_id": message.id, "error": error.code})
        except AWS_ERRORS as error:
            log.warning("message not acknowledged", extra={"reason": str(error), "ending": type(ending).__name__})
        finally:
            self._flow.ended(message)

    # Beside all that

    def _keep_messages(self) -> None:
        self._queue.keep(self._flow.messages)

    def _renew_claims(self) -> None:
        ahead, now = self._flow.ahead, self._lifecycle.clock.now()
        for attempt in self._flow.attempts:
            try:
                attempt.claim.renew(attempt.run.progress, has_begun=attempt.run.begun_at is not None)
                is_new = now - attempt.message.received_at < _RENEW_SECONDS
                if attempt in ahead and not is_new and attempt.claim.is_cancelled():
                    attempt.run.abort(CancelledError())
            except Exception as error:  # noqa: BLE001 - one job's trouble is none of the others'
                extra = {"job_id": attempt.job.job_id, "error": type(error).__name__}
                log.warning("a job's lease or cancellation could not be looked after", extra=extra)

    def _end_runs(self) -> None:
        """End the runs of jobs that are another agent's now, and those that the agent has no time for."""
        if self._lifecycle.is_stopping:
            self._watch.stop()
            self._hand_back(self._flow.close())
        for attempt in self._flow.attempts:
            if attempt.claim.is_lost or not self._fits(attempt.run):
                attempt.run.abort(HandedBackError())

    def _fits(self, run: Run) -> bool:
        """Whether a run may go on: when the agent is to stop, one that has begun and may end within the budget."""
        if not self._lifecycle.is_stopping:
            return True
        left = self._lifecycle.seconds_left
        left -= min(_RESERVE_SECONDS, self._lifecycle.budget / 4)
        rest = self._flow.rest(run)
        return run.begun_at is not None and left > 0 and (rest <= left or rest == math.inf)


@contextmanager
def _logging(attempt: Attempt) -> Iterator[None]:
    """Let every line of the log say which job it is about."""
    job = attempt.job
    ids = {"message_id": attempt.message.id, "job_id": job.job_id, "tenant": job.tenant, "api": job.api}
    with log_context(**ids, **attempt.trace.ids):
        yield
