"""What becomes of a message: its job is run, answered, or left to another agent.

The way of a job, and where it may end (the errors are those of errors.py):

    message ──open──▶ attempt ──prepare──▶ ──generate──▶ ──conclude──▶ ending

    not a job                        its failure is told, if it is known whose     → dead letter
    finished before                  the stored result is told again               → deleted
    held by another agent            nothing                                       → released until its lease ends
    Output                           pictures, result `completed`, notification    → deleted
    CancelledError                   result `cancelled`, notification              → deleted
    PermanentError                   result `failed`, notification                 → deleted
    ExhaustedError, or a
      TransientError on the last try result `failed`, notification                 → dead letter
    TransientError                   the reason in the state                       → released, later every time
    HandedBackError                  the start is taken back                       → released at once
    AWS takes no answer              nothing                                       → released, or left to time out

Whatever is told was recorded before, and the result that was recorded first is the one that is told. The calls may
come from different threads, but those for one attempt come one after the other.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from logging import getLogger
from typing import TypeVar

from pydantic import JsonValue

from darkroom_agent.attempt import Attempt
from darkroom_agent.aws import Patience
from darkroom_agent.delivery import Delivery, Saved
from darkroom_agent.endings import DeadLetter, Delete, Ending, Release, backoff
from darkroom_agent.engines.base import Output, Run, RuntimeEngine
from darkroom_agent.engines.watch import EngineWatch
from darkroom_agent.errors import (
    AgentError,
    CancelledError,
    EngineLostError,
    EngineUnavailableError,
    ExhaustedError,
    HandedBackError,
    InvalidTaskError,
    JobFailedError,
    TransientError,
    UnexpectedError,
)
from darkroom_agent.formats import converted
from darkroom_agent.inputs import Inputs
from darkroom_agent.lifecycle import Lifecycle
from darkroom_agent.metrics import Metrics, Outcome
from darkroom_agent.records import HeldElsewhere, Records
from darkroom_agent.settings import Settings
from darkroom_agent.tracing import JobTrace, Tracing
from darkroom_agent.transport import QueueMessage
from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.inputs import input_fields
from darkroom_contract.job import FieldError, Job
from darkroom_contract.message import ClaimedReference, NotAMessage, receive
from darkroom_contract.records import ResultRecord
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus

log = getLogger(__name__)

_PREFIX_FIELD = "metadata.prefix"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Policy:
    """Decides over messages, and has done what it decides."""

    settings: Settings
    engine: RuntimeEngine
    watch: EngineWatch
    inputs: Inputs
    records: Records
    delivery: Delivery
    lifecycle: Lifecycle
    metrics: Metrics
    tracing: Tracing

    def open(self, message: QueueMessage) -> Attempt | Ending:
        """Read a message and take hold of its job; what becomes of the message when there is no job to run.

        Raises botocore's errors, and ``AwsUnavailableError`` when a result cannot be told.
        """
        patience = Patience(self.lifecycle, lambda: not message.is_lost)
        trace = self.tracing.start(message.id, message.body, message.attributes, message.trace_header)
        try:
            job = self.records.job(receive(message.body, message.id))
        except NotAMessage as error:
            log.warning("poison", extra={"message_id": message.id, "reason": str(error)})
            failure = JobError(code=JobErrorCode.INVALID_TASK, message=str(error))
            if error.reference is not None:
                self._refuse(error.reference, failure, patience)
            self._count(trace, "dead_lettered", failure)
            return DeadLetter(failure)
        match self.records.claim(job, message):
            case ResultRecord() as result:
                log.info("job was finished before", extra=_names(job))
                self._count(trace, "duplicate")
                return self._tell(job, result, patience, trace)
            case HeldElsewhere(seconds):
                log.info("job runs elsewhere", extra={"seconds": seconds, **_names(job)})
                self._count(trace, "duplicate")
                return Release(max(1.0, min(seconds, self.settings.visibility_timeout_seconds)))
            case claim:
                run = Run(self.lifecycle.clock, self.settings.job_timeout_seconds)
                may_deliver = Patience(self.lifecycle, lambda: claim.stops_second_result or not claim.is_lost)
                trace.of_job(job.tenant, job.job_id)
                return Attempt(message, job, claim, run, may_deliver, trace)

    def prepare(self, attempt: Attempt) -> AgentError | None:
        """Bring what the engine has to be sent; returns why that is not to be sent, if so."""

        def prepare() -> None:
            self._check_tries(attempt)
            if attempt.claim.is_cancelled():
                raise CancelledError
            job = self._checked(attempt.job)
            attempt.request = self.inputs.attach(job, self.engine.attach, attempt.run.seconds_to_prepare)
            attempt.input_bytes = sum(len(field.value) for field in input_fields(job.task, attempt.request.content))

        with _stage(attempt, "fetch"), attempt.trace.stage("fetch"):
            return _outcome(prepare)

    def generate(self, attempt: Attempt) -> Output | AgentError:
        """Have the engine run the job; returns what it made, or why it made nothing."""
        request, attempt.request = attempt.request or attempt.job, None

        def generate() -> Output:
            attempt.run.check()
            if self.lifecycle.is_stopping:
                raise HandedBackError
            log.info("job starts", extra={"task": attempt.job.task, "starts": attempt.claim.starts})
            with self.watch.generating(attempt.job.job_id):
                return self.engine.generate(request, attempt.run)

        outcome = _outcome(generate)
        if attempt.run.begun_at is not None:
            now = self.lifecycle.clock.now()
            attempt.seconds["generate"] = round(now - attempt.run.begun_at, 3)
            attempt.trace.add_stage("generate", attempt.run.begun_at, now)
        elif isinstance(outcome, EngineLostError):
            return EngineUnavailableError(outcome.message)
        return outcome

    def is_announced(self, attempt: Attempt) -> bool:
        """Whether somebody wants to know that the job runs."""
        return self.settings.notify_running or attempt.job.notify_running

    def announce(self, attempt: Attempt) -> None:
        """Tell that the job runs. The job does not wait for it."""
        self.delivery.notify_running(attempt.job, self.settings.runtime_name, attempt.trace.inject())

    def conclude(self, attempt: Attempt, outcome: Output | AgentError) -> Ending:
        """Record and tell what came of an attempt; what becomes of its message.

        Raises botocore's errors, and ``AwsUnavailableError`` when a result cannot be told.
        """
        if attempt.claim.is_lost and not attempt.claim.stops_second_result:
            outcome = HandedBackError()
        if isinstance(outcome, Output):
            try:
                with _stage(attempt, "upload"), attempt.trace.stage("upload"):
                    saved = self._save(attempt, outcome)
            except TransientError as failure:
                return self.conclude(attempt, failure)
            result = self._result(attempt, JobStatus.COMPLETED, saved)
        elif isinstance(outcome, CancelledError):
            result = self._result(attempt, JobStatus.CANCELLED)
        elif isinstance(outcome, JobFailedError) and not self._may_try_again(attempt, outcome):
            result = self._failed(attempt, outcome.error, outcome.reason)
        else:
            return self._give_back(attempt, outcome)
        return self._finish(attempt, result)

    def unfinished(self, message: QueueMessage) -> Ending:
        """What becomes of a message over which anything was raised: it comes again, unless SQS would take it away."""
        if message.receive_count < self.settings.max_receive_count:
            return backoff(message.receive_count)
        self.metrics.ended("dead_lettered")
        error = "nothing could be recorded or told of the job, however often it was received"
        return DeadLetter(JobError(code=JobErrorCode.AWS_UNAVAILABLE, message=error, retryable=True))

    def _refuse(self, job: ClaimedReference, error: JobError, patience: Patience) -> None:
        """Answer a job as failed whose message is not understood."""
        result = ResultRecord(
            status=JobStatus.FAILED,
            runtime=self.settings.runtime_name,
            error=error,
            finished_at=utcnow(),
            nonce=secrets.token_hex(8),
        )
        kept = patience(lambda: self.records.refuse(job, result))
        if kept is not None:
            self.delivery.notify(job, kept, patience)

    def _count(self, trace: JobTrace, outcome: Outcome | JobStatus, error: JobError | None = None) -> None:
        self.metrics.ended(outcome)
        trace.end(outcome, error)

    def _check_tries(self, attempt: Attempt) -> None:
        """Raises ``ExhaustedError`` over a job that was begun, or a message that was received, as often as may be."""
        # SQS moves a message that is received too often, and tells nobody: one receive is left for telling it.
        is_last = attempt.message.receive_count >= self.settings.max_receive_count - 1
        if attempt.claim.starts > self.settings.max_starts or is_last:
            raise ExhaustedError(attempt.claim.last_error or _never_finished(attempt))

    def _checked(self, job: Job) -> Job:
        """The job as the engine runs it, checked once more: a client's own message came past the API."""
        try:
            job = job.for_engine(self.settings.engine)
            job.check(self.settings.tenants, prefix_field=_PREFIX_FIELD, context_field="metadata.context")
        except FieldError as error:
            raise InvalidTaskError(error.message, field=error.field) from None
        return job

    def _may_try_again(self, attempt: Attempt, failure: JobFailedError) -> bool:
        if not isinstance(failure, TransientError):
            return False
        return not failure.counts or attempt.claim.starts < self.settings.max_starts

    def _give_back(self, attempt: Attempt, outcome: AgentError) -> Ending:
        """Leave a job to another attempt, of this agent's or of another's."""
        if isinstance(outcome, TransientError):
            log.warning("job failed, to be tried again", extra=_traits(outcome.error))
            self._count(attempt.trace, "retried", outcome.error)
            attempt.claim.give_back(outcome.error, counts=outcome.counts)
            return backoff(attempt.message.receive_count, outcome.patience)
        log.info("job handed back")
        self._count(attempt.trace, "handed_back")
        attempt.claim.give_back(None, counts=False)
        return Release(0)

    def _save(self, attempt: Attempt, output: Output) -> Saved:
        wanted, pictures = attempt.job.output, output.pictures
        if wanted is not None:
            pictures = tuple(converted(picture, wanted) for picture in pictures)
        return self.delivery.save(attempt.job, pictures, output.response, attempt.patience)

    def _failed(self, attempt: Attempt, error: JobError, reason: JsonValue) -> ResultRecord:
        saved = None
        # A job that asks for another tenant's folder leaves nothing there, not even its failure.
        if error.field != _PREFIX_FIELD:
            response = self.engine.failed_response(attempt.job, error, reason)
            saved = self.delivery.save(attempt.job, (), response, attempt.patience)
        return self._result(attempt, JobStatus.FAILED, saved, error)

    def _result(
        self, attempt: Attempt, status: JobStatus, saved: Saved | None = None, error: JobError | None = None
    ) -> ResultRecord:
        now, submitted_at = utcnow(), attempt.submitted_at
        attempt.seconds["wait"] = _seconds(attempt.claim.started_at - submitted_at)
        attempt.seconds["total"] = _seconds(now - submitted_at)
        return ResultRecord.model_validate(
            {
                "status": status,
                "runtime": self.settings.runtime_name,
                "images": saved.images if saved else (),
                "output": saved.output if saved else None,
                "error": error,
                "starts": attempt.claim.starts - (attempt.run.begun_at is None),
                "started_at": attempt.claim.started_at,
                "finished_at": now,
                "seconds": attempt.seconds,
                "nonce": secrets.token_hex(8),
            }
        )

    def _finish(self, attempt: Attempt, result: ResultRecord) -> Ending:
        """Record a result, and tell the one that was recorded first."""
        with attempt.trace.stage("record"):
            kept = attempt.patience(lambda: attempt.claim.finish(result))
        if kept.nonce != result.nonce:
            log.info("another run had finished first")
        for stage, seconds in result.seconds.items():
            self.metrics.stage(stage, seconds)
        log.info(f"job {kept.status}", extra={"seconds": kept.seconds, **_traits(kept.error)})
        ending = self._tell(attempt.job, kept, attempt.patience, attempt.trace)
        self._count(attempt.trace, kept.status, kept.error)
        return ending

    def _tell(self, job: Job, result: ResultRecord, patience: Patience, trace: JobTrace) -> Ending:
        """Notify a result. A job that might have worked, but whose starts are used up, is for people to look at."""
        with trace.stage("notify"):
            self.delivery.notify(job, result, patience, trace.inject())
        return DeadLetter(result.error) if result.error and result.error.retryable else Delete()


def _outcome(call: Callable[[], _Answer]) -> _Answer | AgentError:
    """What a call returns, or the error that it raises; a fault of the agent's own too."""
    try:
        return call()
    except AgentError as error:
        return error
    except Exception as error:
        log.exception("unexpected error")
        return UnexpectedError(f"the agent failed: {type(error).__name__}")


@contextmanager
def _stage(attempt: Attempt, name: str) -> Iterator[None]:
    """Take the time of a stage, in seconds."""
    began = time.monotonic()
    try:
        yield
    finally:
        attempt.seconds[name] = round(time.monotonic() - began, 3)


def _seconds(duration: timedelta) -> float:
    return max(0.0, round(duration.total_seconds(), 3))  # two hosts' clocks may differ


def _never_finished(attempt: Attempt) -> JobError:
    receives, starts = attempt.message.receive_count, attempt.claim.starts - 1
    message = f"the job was received {receives} times and begun {starts} times, and never came to an end"
    return JobError(code=JobErrorCode.INTERNAL, message=message, retryable=True)


def _names(job: Job) -> dict[str, str]:
    return {"job_id": job.job_id, "tenant": job.tenant}


def _traits(error: JobError | None) -> dict[str, str | None]:
    """What a log may say of an error. Its message may quote the content."""
    return {"error": error.code, "node": error.node, "field": error.field} if error else {}
