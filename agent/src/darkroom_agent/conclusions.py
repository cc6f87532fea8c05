"""How a message ends: its job's result is recorded and told, or the job is left to another attempt.

The table in policy.py says which. It talks to S3 and SNS through the records and the delivery alone.
"""

import logging
import secrets
import threading
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import JsonValue

from darkroom_agent.attempt import Attempt
from darkroom_agent.aws import Patience
from darkroom_agent.delivery import Delivery, Saved
from darkroom_agent.endings import DeadLetter, Delete, Ending, Release, backoff
from darkroom_agent.engines.base import Output, RuntimeEngine
from darkroom_agent.errors import AgentError, CancelledError, HandedBackError, JobFailedError, TransientError
from darkroom_agent.formats import converted
from darkroom_agent.metrics import Metrics, Outcome
from darkroom_agent.records import Records
from darkroom_agent.settings import Settings
from darkroom_agent.tracing import JobTrace
from darkroom_agent.transport import QueueMessage
from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.job import Job
from darkroom_contract.message import NotAMessage
from darkroom_contract.records import ResultRecord
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus

log = logging.getLogger(__name__)

PREFIX_FIELD = "metadata.prefix"
#: A picture that is converted takes a few times its bitmap's memory.
_CONVERSIONS = 2


@dataclass(frozen=True)
class Conclusions:
    """Ends messages. Raises botocore's errors, and ``AwsUnavailableError`` when a result cannot be told."""

    settings: Settings
    engine: RuntimeEngine
    records: Records
    delivery: Delivery
    metrics: Metrics
    _converting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_CONVERSIONS))

    def conclude(self, attempt: Attempt, outcome: Output | AgentError) -> Ending:
        """Record and tell what came of an attempt; what becomes of its message."""
        if attempt.is_anothers:
            outcome = HandedBackError()
        if isinstance(outcome, Output):
            try:
                with attempt.stage("upload"):
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
        # Between the first picture and the last, minutes may have gone by.
        return self._give_back(attempt, HandedBackError()) if attempt.is_anothers else self._finish(attempt, result)

    def is_announced(self, attempt: Attempt) -> bool:
        """Whether somebody wants to know when the job begins."""
        return self.settings.notify_running or attempt.job.notify_running

    def announce(self, attempt: Attempt) -> None:
        """Tell that the job has begun. The job does not wait for it."""
        self.delivery.notify_running(attempt.job, self.settings.runtime_name, attempt.trace.inject())

    def tell_again(self, job: Job, result: ResultRecord, patience: Patience, trace: JobTrace) -> Ending:
        """Tell the stored result of a job that was finished before."""
        ending = self._tell(job, result, patience, trace)
        self.count(trace, "duplicate")
        return ending

    def refuse(self, poison: NotAMessage, patience: Patience, trace: JobTrace) -> Ending:
        """Answer a message that is not understood; the job that it was to be has failed, if it is known which."""
        error = JobError(code=JobErrorCode.INVALID_TASK, message=str(poison))
        if (job := poison.reference) is not None:
            result = ResultRecord(
                status=JobStatus.FAILED,
                runtime=self.settings.runtime_name,
                error=error,
                finished_at=utcnow(),
                nonce=secrets.token_hex(8),
            )
            kept = patience(lambda: self.records.refuse(job, result))
            if kept is not None:
                self.delivery.notify(job, kept, patience, trace.inject())
        trace.end("dead_lettered", error)
        return DeadLetter(error)

    def leave(self, attempt: Attempt) -> Ending:
        """End an attempt over which anything was raised. The next one need not wait for its lease, if S3 takes that."""
        try:
            attempt.claim.give_back(None, counts=attempt.run.begun_at is not None)
        except Exception as error:  # noqa: BLE001 - the lease ends by itself
            log.warning("lease not ended", extra={"error": type(error).__name__})
        self.count(attempt.trace, "retried")
        return self.unfinished(attempt.message)

    def unfinished(self, message: QueueMessage) -> Ending:
        """What becomes of a message over which anything was raised: it comes again, unless SQS would take it away."""
        if message.receive_count < self.settings.max_receive_count:
            return backoff(message.receive_count)
        error = "nothing could be recorded or told of the job, however often it was received"
        return DeadLetter(JobError(code=JobErrorCode.AWS_UNAVAILABLE, message=error, retryable=True))

    def count(self, trace: JobTrace, outcome: Outcome | JobStatus, error: JobError | None = None) -> None:
        """Note what became of a message."""
        self.metrics.ended(outcome)
        trace.end(outcome, error)

    def _may_try_again(self, attempt: Attempt, failure: JobFailedError) -> bool:
        if not isinstance(failure, TransientError):
            return False
        return not failure.counts or attempt.claim.starts < self.settings.max_starts

    def _give_back(self, attempt: Attempt, outcome: AgentError) -> Ending:
        """Leave a job to another attempt, of this agent's or of another's."""
        if isinstance(outcome, TransientError):
            log.warning("job failed, to be tried again", extra=_traits(outcome.error))
            attempt.claim.give_back(outcome.error, counts=outcome.counts)
            self.count(attempt.trace, "retried", outcome.error)
            return backoff(attempt.message.receive_count, outcome.patience)
        log.info("job handed back")
        attempt.claim.give_back(None, counts=False)
        self.count(attempt.trace, "handed_back")
        return Release(0)

    def _save(self, attempt: Attempt, output: Output) -> Saved:
        wanted, pictures = attempt.job.output, output.pictures
        if wanted is not None:
            with self._converting:
                pictures = tuple(converted(picture, wanted) for picture in pictures)
        return self.delivery.save(attempt.job, pictures, output.response, attempt.patience)

    def _failed(self, attempt: Attempt, error: JobError, reason: JsonValue) -> ResultRecord:
        saved = None
        # A job that asks for another tenant's folder leaves nothing there, not even its failure.
        if error.field != PREFIX_FIELD:
            response = self.engine.failed_response(attempt.job, error, reason)
            saved = self.delivery.save(attempt.job, (), response, attempt.patience)
        return self._result(attempt, JobStatus.FAILED, saved, error)

    def _result(
        self, attempt: Attempt, status: JobStatus, saved: Saved | None = None, error: JobError | None = None
    ) -> ResultRecord:
        now, submitted_at, begun_at = utcnow(), attempt.submitted_at, attempt.begun_at
        wait = _seconds((begun_at or attempt.claim.started_at) - submitted_at)
        return ResultRecord.model_validate(
            {
                "status": status,
                "runtime": self.settings.runtime_name,
                "images": saved.images if saved else (),
                "output": saved.output if saved else None,
                "error": error,
                "starts": attempt.claim.starts - (attempt.run.begun_at is None),
                "started_at": begun_at,
                "finished_at": now,
                "seconds": {"wait": wait, **attempt.seconds, "total": _seconds(now - submitted_at)},
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
        level = logging.WARNING if kept.status is JobStatus.FAILED else logging.INFO
        log.log(level, f"job {kept.status}", extra={"seconds": kept.seconds, **_traits(kept.error)})
        ending = self._tell(attempt.job, kept, attempt.patience, attempt.trace)
        self.count(attempt.trace, kept.status, kept.error)
        return ending

    def _tell(self, job: Job, result: ResultRecord, patience: Patience, trace: JobTrace) -> Ending:
        """Notify a result. A job that might have worked, but whose starts are used up, is for people to look at."""
        with trace.stage("notify"):
            self.delivery.notify(job, result, patience, trace.inject())
        return DeadLetter(result.error) if result.error and result.error.retryable else Delete()


def _seconds(duration: timedelta) -> float:
    return max(0.0, round(duration.total_seconds(), 3))  # two hosts' clocks may differ


def _traits(error: JobError | None) -> dict[str, str | None]:
    """What a log may say of an error. Its message may quote the content."""
    return {"error": error.code, "node": error.node, "field": error.field} if error else {}
