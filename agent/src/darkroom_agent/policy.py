"""What becomes of a message: its job is run, answered, or left to another agent. It talks to nothing by itself."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from typing import Literal

from pydantic import JsonValue

from darkroom_agent.aws import Patience
from darkroom_agent.delivery import Delivery, Saved
from darkroom_agent.endings import DeadLetter, Delete, Ending, Release, backoff
from darkroom_agent.engines.base import Run, RuntimeEngine
from darkroom_agent.engines.watch import EngineWatch
from darkroom_agent.errors import (
    AgentError,
    HandedBackError,
    InvalidTaskError,
    PermanentError,
    TransientError,
    UnexpectedError,
)
from darkroom_agent.inputs import Inputs
from darkroom_agent.lifecycle import Lifecycle, repeating
from darkroom_agent.logs import log_context
from darkroom_agent.records import Claim, HeldElsewhere, Records
from darkroom_agent.settings import Settings
from darkroom_agent.transport import QueueMessage
from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.job import FieldError, Job
from darkroom_contract.message import ClaimedReference, NotAMessage, receive
from darkroom_contract.records import ResultRecord
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus

log = getLogger(__name__)

#: How often at most the progress of a job is written.
_RENEW_SECONDS = 2.0
_PREFIX_FIELD = "metadata.prefix"


@dataclass
class Attempt:
    """One start of one job by this agent."""

    message: QueueMessage
    job: Job
    claim: Claim
    run: Run
    patience: Patience
    #: Whether the engine got the job.
    is_begun: bool = False
    #: What each stage took.
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Take the time of a stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 3)


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

    def handle(self, message: QueueMessage) -> Ending:
        """Do what a message asks for.

        Raises botocore's errors when AWS does not let it begin, ``AwsUnavailableError`` when a result cannot be told.
        """
        patience = Patience(self.lifecycle, lambda: message.is_held)
        try:
            job = self.records.job(receive(message.body, message.id))
        except NotAMessage as error:
            log.warning("poison", extra={"message_id": message.id, "reason": str(error)})
            failure = JobError(code=JobErrorCode.INVALID_TASK, message=str(error))
            if error.reference is not None:
                self._refuse(error.reference, failure, patience)
            return DeadLetter(failure)
        with log_context(job_id=job.job_id, tenant=job.tenant, api=job.api):
            match self.records.claim(job, message.receive_count):
                case ResultRecord() as result:
                    log.info("job was finished before")
                    return self._tell(job, result, patience)
                case HeldElsewhere(seconds):
                    log.info("job runs elsewhere", extra={"seconds": seconds})
                    return Release(max(1.0, min(seconds, self.settings.visibility_timeout_seconds)))
                case claim:
                    run = Run(
                        self.lifecycle, self.settings.job_timeout_seconds, lambda: message.is_lost or claim.is_lost
                    )
                    return self._carry_out(Attempt(message, job, claim, run, patience))

    def unfinished(self, message: QueueMessage) -> Ending:
        """What becomes of a message that ``handle`` raises over: it comes again, unless SQS would take it away."""
        if message.receive_count < self.settings.max_receive_count:
            return backoff(message.receive_count)
        error = "nothing could be recorded or told of the job, however often it was received"
        return DeadLetter(JobError(code=JobErrorCode.AWS_UNAVAILABLE, message=error, retryable=True))

    def _refuse(self, job: ClaimedReference, error: JobError, patience: Patience) -> None:
        """Answer a job as failed whose message is not understood."""
        result = self._ended(JobStatus.FAILED, error=error)
        kept = patience(lambda: self.records.refuse(job, result))
        if kept is not None:
            self.delivery.notify(job, kept, patience)

    def _carry_out(self, attempt: Attempt) -> Ending:
        claim = attempt.claim
        try:
            with repeating(_RENEW_SECONDS, lambda: claim.renew(attempt.run.progress)):
                result = self._finish(attempt)
        except HandedBackError:
            log.info("job handed back")
            claim.give_back(None, counts=False)
            return Release(0)
        except TransientError as failure:
            log.warning("job failed, to be tried again", extra=_traits(failure.error))
            claim.give_back(failure.error, counts=failure.counts)
            return backoff(attempt.message.receive_count, failure.patience)
        return self._tell(attempt.job, result, attempt.patience)

    def _finish(self, attempt: Attempt) -> ResultRecord:
        """Bring a job to its result and record that; the result that was recorded first."""
        result = self._result(attempt)
        kept = attempt.patience(lambda: attempt.claim.finish(result))
        if kept.nonce != result.nonce:
            log.info("another run had finished first")
        log.info(f"job {kept.status}", extra={"seconds": kept.seconds, **_traits(kept.error)})
        return kept

    def _tell(self, job: Job, result: ResultRecord, patience: Patience) -> Ending:
        """Notify a result. A job that might have worked, but whose starts are used up, is for people to look at."""
        self.delivery.notify(job, result, patience)
        return DeadLetter(result.error) if result.error and result.error.retryable else Delete()

    def _result(self, attempt: Attempt) -> ResultRecord:
        most = self.settings.max_starts
        # SQS moves a message that is received too often, and tells nobody: one receive is left for telling it.
        is_last = attempt.message.receive_count >= self.settings.max_receive_count - 1
        if attempt.claim.starts > most or is_last:
            return self._failed(attempt, attempt.claim.last_error or _never_finished(attempt))
        try:
            return self._completed(attempt)
        except PermanentError as failure:
            return self._failed(attempt, failure.error, failure.reason)
        except TransientError as failure:
            if attempt.claim.starts < most or not failure.counts:
                raise
            return self._failed(attempt, failure.error, failure.reason)

    def _completed(self, attempt: Attempt) -> ResultRecord:
        try:
            saved = self._make(attempt)
        except AgentError:
            raise
        except Exception as error:
            log.exception("unexpected error")
            raise UnexpectedError(f"the agent failed: {type(error).__name__}") from error
        return self._ended(JobStatus.COMPLETED, attempt, images=saved.images, output=saved.output)

    def _make(self, attempt: Attempt) -> Saved:
        job = self._checked(attempt.job)
        attempt.run.begin()
        with attempt.stage("fetch"):
            job = self.inputs.attach(job, self.engine.attach, attempt.run.seconds_to_prepare)
        log.info("job starts", extra={"task": job.task, "starts": attempt.claim.starts})
        if self.settings.notify_running:
            self.delivery.notify_running(job, self.settings.runtime_name)
        attempt.is_begun = True
        with attempt.stage("generate"), self.watch.generating(job.job_id):
            output = self.engine.generate(job, attempt.run)
        with attempt.stage("save"):
            return self.delivery.save(job, output.pictures, output.response, attempt.patience)

    def _checked(self, job: Job) -> Job:
        """The job as the engine runs it, checked once more: a client's own message came past the API."""
        try:
            job = job.for_engine(self.settings.engine)
            job.check(self.settings.tenants, prefix_field=_PREFIX_FIELD, context_field="metadata.context")
        except FieldError as error:
            raise InvalidTaskError(error.message, field=error.field) from None
        return job

    def _failed(self, attempt: Attempt, error: JobError, reason: JsonValue = None) -> ResultRecord:
        output = None
        # A job that asks for another tenant's folder leaves nothing there, not even its failure.
        if error.field != _PREFIX_FIELD:
            response = self.engine.failed_response(attempt.job, error, reason)
            output = self.delivery.save(attempt.job, (), response, attempt.patience).output
        return self._ended(JobStatus.FAILED, attempt, output=output, error=error)

    def _ended(
        self,
        status: Literal[JobStatus.COMPLETED, JobStatus.FAILED],
        attempt: Attempt | None = None,
        *,
        images: tuple[str, ...] = (),
        output: str | None = None,
        error: JobError | None = None,
    ) -> ResultRecord:
        return ResultRecord(
            status=status,
            runtime=self.settings.runtime_name,
            images=images,
            output=output,
            error=error,
            starts=attempt.claim.starts - (not attempt.is_begun) if attempt else 0,
            started_at=attempt.claim.started_at if attempt else None,
            finished_at=utcnow(),
            seconds=attempt.seconds if attempt else {},
            nonce=secrets.token_hex(8),
        )


def _never_finished(attempt: Attempt) -> JobError:
    receives, starts = attempt.message.receive_count, attempt.claim.starts - 1
    message = f"the job was received {receives} times and begun {starts} times, and never came to an end"
    return JobError(code=JobErrorCode.INTERNAL, message=message, retryable=True)


def _traits(error: JobError | None) -> dict[str, str | None]:
    """What a log may say of an error. Its message may quote the content."""
    return {"error": error.code, "node": error.node, "field": error.field} if error else {}
