"""What becomes of a message: its job is run, answered, or left to another agent. Talks to nothing by itself."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from typing import Literal, TypeAlias

from pydantic import JsonValue

from darkroom_agent.aws import Patience
from darkroom_agent.delivery import Delivery, Saved
from darkroom_agent.engines.base import Run, RuntimeEngine
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
from darkroom_contract.job import Api, FieldError, Job
from darkroom_contract.message import NotAMessage, receive
from darkroom_contract.records import ResultRecord
from darkroom_contract.store import JobStore
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus

log = getLogger(__name__)

#: How often at most the progress of a job is written.
_RENEW_SECONDS = 2.0
_LONGEST_BACKOFF_SECONDS = 60
_PREFIX_FIELD = "metadata.prefix"


@dataclass(frozen=True)
class Delete:
    """The message is answered."""


@dataclass(frozen=True)
class Release:
    """The message comes again after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class DeadLetter:
    """The message is for people to look at."""

    error: JobError


Ending: TypeAlias = Delete | Release | DeadLetter


def backoff(tries: int) -> Release:
    """Wait longer after every try: 2, 4, 8 … 60 seconds."""
    return Release(min(2 ** min(tries, 10), _LONGEST_BACKOFF_SECONDS))


@dataclass
class Attempt:
    """One start of one job by this agent."""

    job: Job
    claim: Claim
    run: Run
    patience: Patience
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
    inputs: Inputs
    records: Records
    delivery: Delivery
    lifecycle: Lifecycle
    store: JobStore | None

    def handle(self, message: QueueMessage) -> Ending:
        """Do what a message asks for. Raises botocore's errors when AWS does not let it begin."""
        try:
            job = self._read(message)
        except NotAMessage as error:
            log.warning("poison", extra={"message_id": message.id, "reason": str(error)})
            return DeadLetter(JobError(code=JobErrorCode.INVALID_TASK, message=str(error)))
        patience = Patience(self.lifecycle, lambda: message.is_held)
        with log_context(job_id=job.job_id, tenant=job.tenant, api=job.api):
            match self.records.claim(job, message.receive_count):
                case ResultRecord() as result:
                    log.info("job was finished before")
                    return self._tell(job, result, patience)
                case HeldElsewhere(seconds):
                    log.info("job runs elsewhere", extra={"seconds": seconds})
                    return Release(max(1.0, min(seconds, self.settings.visibility_timeout_seconds)))
                case claim:
                    run = Run(self.lifecycle, self.settings.job_timeout_seconds)
                    return self._carry_out(Attempt(job, claim, run, patience))

    def _read(self, message: QueueMessage) -> Job:
        """The job of a message; raises ``NotAMessage``."""
        received = receive(message.body, message.id)
        job = received.message.to_job(received.message_id)
        if job is not None:
            return job
        claim_check = received.message.metadata.darkroom
        if self.store is None or claim_check is None:
            raise NotAMessage("content is in request.json, and the agent has no bucket for jobs")
        request = self.store.request(claim_check.tenant, claim_check.job_id)
        if request is None:
            raise NotAMessage("content is in request.json, which does not exist")
        return request.job

    def _carry_out(self, attempt: Attempt) -> Ending:
        claim = attempt.claim
        try:
            with repeating(_RENEW_SECONDS, lambda: claim.renew(attempt.run.progress)):
                return self._answer(attempt)
        except HandedBackError:
            log.info("job handed back")
            claim.give_back(None, counts=False)
            return Release(0)
        except TransientError as failure:
            log.warning("job failed, to be tried again", extra=_traits(failure.error))
            claim.give_back(failure.error, counts=failure.counts)
            return backoff(claim.starts)

    def _answer(self, attempt: Attempt) -> Ending:
        """Bring a job to its result, record that and tell it. The first result that is recorded is the one told."""
        result = self._result(attempt)
        kept = attempt.patience(lambda: attempt.claim.finish(result))
        if kept.nonce != result.nonce:
            log.info("another run had finished first")
        log.info(f"job {kept.status}", extra={"seconds": kept.seconds, **_traits(kept.error)})
        return self._tell(attempt.job, kept, attempt.patience)

    def _tell(self, job: Job, result: ResultRecord, patience: Patience) -> Ending:
        """Notify a result. A job that might have worked, but whose starts are used up, is for people to look at."""
        self.delivery.notify(job, result, patience)
        return DeadLetter(result.error) if result.error and result.error.retryable else Delete()

    def _result(self, attempt: Attempt) -> ResultRecord:
        most = self.settings.max_starts
        if attempt.claim.starts > most:
            return self._failed(attempt, attempt.claim.last_error or _never_finished(most))
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
        return self._record(attempt, JobStatus.COMPLETED, images=saved.images, output=saved.output)

    def _make(self, attempt: Attempt) -> Saved:
        job = self._checked(attempt.job)
        with attempt.stage("fetch"):
            job = self.inputs.attach(job, self._attach)
        if self.lifecycle.is_stopping:
            raise HandedBackError
        log.info("job starts", extra={"task": job.task, "starts": attempt.claim.starts})
        if self.settings.notify_running:
            self.delivery.notify_running(job, self.settings.runtime_name)
        with attempt.stage("generate"):
            attempt.run.begin()
            output = self.engine.generate(job, attempt.run)
        with attempt.stage("save"):
            return self.delivery.save(job, output.pictures, output.response, attempt.patience)

    def _attach(self, picture: bytes) -> str:
        self.lifecycle.beat()
        return self.engine.attach(picture)

    def _checked(self, job: Job) -> Job:
        """The job as the engine runs it. The API checked its own jobs; those that came past it are checked here."""
        try:
            job = job.for_engine(self.settings.engine)
            if job.api is Api.DIRECT:
                job.check(self.settings.tenants, prefix_field=_PREFIX_FIELD, content_field="content")
        except FieldError as error:
            raise InvalidTaskError(error.message, field=error.field) from None
        return job

    def _failed(self, attempt: Attempt, error: JobError, reason: JsonValue = None) -> ResultRecord:
        output = None
        # A job that asks for another tenant's folder leaves nothing there, not even its failure.
        if error.field != _PREFIX_FIELD:
            response = self.engine.failed_response(attempt.job, error, reason)
            output = self.delivery.save(attempt.job, (), response, attempt.patience).output
        return self._record(attempt, JobStatus.FAILED, output=output, error=error)

    def _record(
        self,
        attempt: Attempt,
        status: Literal[JobStatus.COMPLETED, JobStatus.FAILED],
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
            starts=min(attempt.claim.starts, self.settings.max_starts),
            started_at=attempt.claim.started_at,
            finished_at=utcnow(),
            seconds=attempt.seconds,
            nonce=secrets.token_hex(8),
        )


def _never_finished(starts: int) -> JobError:
    message = f"the job was begun {starts} times, and none of them came to an end"
    return JobError(code=JobErrorCode.INTERNAL, message=message, retryable=True)


def _traits(error: JobError | None) -> dict[str, str | None]:
    """What a log may say of an error. Its message may quote the content."""
    return {"error": error.code, "node": error.node, "field": error.field} if error else {}
