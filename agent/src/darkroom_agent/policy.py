"""What becomes of a message, from its receive until the engine is through with its job.

The way of a job, and where it may end (the errors are those of errors.py; conclusions.py has the endings):

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
    AWS takes no answer              the lease ends, if that can be said           → released, later every time

Whatever is told was recorded before, and the result that was recorded first is the one that is told. The calls may
come from different threads, but those for one attempt come one after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from logging import getLogger
from typing import TypeAlias, TypeVar

from darkroom_agent.attempt import Attempt
from darkroom_agent.aws import AWS_ERRORS, Patience
from darkroom_agent.conclusions import PREFIX_FIELD, Conclusions
from darkroom_agent.endings import Ending, Release, backoff
from darkroom_agent.engines.base import Output, Run, RuntimeEngine
from darkroom_agent.engines.watch import EngineWatch
from darkroom_agent.errors import (
    AgentError,
    CancelledError,
    EngineFailedError,
    EngineLostError,
    EngineUnavailableError,
    ExhaustedError,
    HandedBackError,
    InvalidTaskError,
    RecordsUnavailableError,
    TimedOutError,
    UnexpectedError,
)
from darkroom_agent.inputs import Inputs
from darkroom_agent.lifecycle import Lifecycle
from darkroom_agent.records import HeldElsewhere, Records
from darkroom_agent.settings import Settings
from darkroom_agent.tracing import Tracing
from darkroom_agent.transport import QueueMessage
from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.inputs import input_fields
from darkroom_contract.job import FieldError, Job
from darkroom_contract.message import NotAMessage, receive
from darkroom_contract.records import ResultRecord

log = getLogger(__name__)

#: What is left to be done about a message that has no job to run.
Answer: TypeAlias = Callable[[], Ending]
_Value = TypeVar("_Value")
_PATIENT_RECEIVES = 10


@dataclass(frozen=True)
class Policy:
    """Decides over messages, and has the engine run their jobs."""

    settings: Settings
    engine: RuntimeEngine
    watch: EngineWatch
    inputs: Inputs
    records: Records
    conclusions: Conclusions
    lifecycle: Lifecycle
    tracing: Tracing

    def open(self, message: QueueMessage) -> Attempt | Answer:
        """Read a message and take hold of its job. Raises botocore's errors."""
        trace = self.tracing.start(message.id, message.body, message.attributes, message.trace_header)
        patience = Patience(self.lifecycle, lambda: not message.is_lost)
        try:
            job = self.records.job(receive(message.body, message.id))
        except NotAMessage as error:
            names = {"job_id": error.reference.job_id, "tenant": error.reference.tenant} if error.reference else {}
            log.warning("poison", extra={"reason": str(error), **names})
            return partial(self.conclusions.refuse, error, patience, trace)
        match self.records.claim(job, message):
            case ResultRecord() as result:
                log.info("job was finished before", extra=_names(job))
                return partial(self.conclusions.tell_again, job, result, patience, trace)
            case HeldElsewhere(seconds):
                log.info("job runs elsewhere", extra={"seconds": seconds, **_names(job)})
                self.conclusions.count(trace, "duplicate")
                return partial(Release, max(1.0, seconds, _patience_with_others(message.receive_count)))
            case claim:
                run = Run(self.lifecycle.clock, self.settings.job_timeout_seconds)
                may_deliver = Patience(self.lifecycle, lambda: claim.stops_second_result or not claim.is_lost)
                trace.of_job(job.tenant, job.job_id)
                return Attempt(message, job, claim, run, may_deliver, trace)

    def prepare(self, attempt: Attempt) -> AgentError | None:
        """Bring what the engine has to be sent; returns why that is not to be sent, if so."""
        with attempt.stage("fetch"):
            outcome = _outcome(lambda: self._prepare(attempt))
        # The engine takes inputs too, but has begun nothing by that.
        if isinstance(outcome, EngineFailedError | EngineLostError | TimedOutError):
            return EngineUnavailableError(outcome.message)
        return outcome

    def _prepare(self, attempt: Attempt) -> None:
        try:
            if attempt.claim.is_cancelled():
                raise CancelledError
        except AWS_ERRORS as error:
            raise RecordsUnavailableError("the job's records cannot be read now") from error
        self._check_tries(attempt)
        job = self._checked(attempt.job)
        request = self.inputs.attach(job, self.engine.attach, attempt.run.seconds_to_prepare)
        attempt.input_bytes = sum(len(field.value) for field in input_fields(job.task, request.content))
        attempt.request = request

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
            job.check(self.settings.tenants, prefix_field=PREFIX_FIELD, context_field="metadata.context")
        except FieldError as error:
            raise InvalidTaskError(error.message, field=error.field) from None
        return job

    def generate(self, attempt: Attempt) -> Output | AgentError:
        """Have the engine run the job; returns what it made, or why it made nothing."""
        outcome = _outcome(lambda: self._generate(attempt))
        if attempt.run.begun_at is not None:
            attempt.note_stage("generate", attempt.run.begun_at, self.lifecycle.clock.now())
        elif isinstance(outcome, EngineLostError | EngineFailedError):
            return EngineUnavailableError(outcome.message)
        return outcome

    def _generate(self, attempt: Attempt) -> Output:
        attempt.run.check()
        if self.lifecycle.is_stopping:
            raise HandedBackError
        if not self.watch.is_trusted:
            raise EngineUnavailableError("the engine fails job after job")
        with self.watch.generating(f"{attempt.job.tenant}/{attempt.job.job_id}"):
            return self.engine.generate(attempt.take_request(), attempt.run)


def _outcome(call: Callable[[], _Value]) -> _Value | AgentError:
    """What a call returns, or the error that it raises; a fault of the agent's own too."""
    try:
        return call()
    except AgentError as error:
        return error
    except Exception as error:
        log.exception("unexpected error")
        return UnexpectedError(f"the agent failed: {type(error).__name__}")


def _patience_with_others(receives: int) -> float:
    """Seconds to stay away from a job that has been found in other hands so often that SQS would soon move it."""
    return backoff(receives, patience=5).seconds if receives > _PATIENT_RECEIVES else 0.0


def _never_finished(attempt: Attempt) -> JobError:
    receives, starts = attempt.message.receive_count, attempt.claim.starts - 1
    message = f"the job was received {receives} times and begun {starts} times, and never came to an end"
    return JobError(code=JobErrorCode.INTERNAL, message=message, retryable=True)


def _names(job: Job) -> dict[str, str]:
    return {"job_id": job.job_id, "tenant": job.tenant}
