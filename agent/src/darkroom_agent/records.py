"""Who runs a job, and how often it was begun: kept in ``state.json``, or, without records, told by the queue.

A claim is the agent's hold on one job. It talks to S3 through the job store alone, and raises botocore's errors as
they are.
"""

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import getLogger
from typing import Protocol

from darkroom_agent.clock import Clock
from darkroom_agent.transport import QueueMessage
from darkroom_contract.errors import JobError
from darkroom_contract.job import Api, Job
from darkroom_contract.message import ClaimedReference, NotAMessage, Received
from darkroom_contract.records import ResultRecord, StateRecord
from darkroom_contract.store import JobStore, StateConflict
from darkroom_contract.types import utcnow

log = getLogger(__name__)

#: How often at most the progress of a job is written.
_PROGRESS_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class HeldElsewhere:
    """Another agent runs the job; ``seconds`` until its lease ends unless it is renewed."""

    seconds: float


class Claim(Protocol):
    """The agent's hold on a job."""

    @property
    def starts(self) -> int:
        """How many times the engine began the job, this time included."""

    @property
    def started_at(self) -> datetime:
        """When this agent took hold of it."""

    @property
    def last_error(self) -> JobError | None:
        """Why the start before this one did not finish it."""

    @property
    def is_lost(self) -> bool:
        """Whether another agent may have taken the job over."""

    @property
    def stops_second_result(self) -> bool:
        """Whether ``finish`` takes one result of a job only, so that a finished run may always be delivered."""

    def is_cancelled(self) -> bool:
        """Whether the client wants the job no more."""

    def renew(self, progress: float, *, has_begun: bool) -> None:
        """Say that the job still is in hand; nothing once it was given back or finished."""

    def give_back(self, error: JobError | None, *, counts: bool) -> None:
        """End the hold without a result; ``counts`` says whether this start is one."""

    def finish(self, result: ResultRecord) -> ResultRecord:
        """Record the result, unless the job has one: the one that is kept then. Compare nonces to tell."""


class Records(Protocol):
    """Says what jobs are, and gives out claims."""

    def job(self, received: Received) -> Job:
        """The job that a message means; raises ``NotAMessage``."""

    def refuse(self, job: ClaimedReference, result: ResultRecord) -> ResultRecord | None:
        """Record the failure of a job whose message is not understood; None when that is not to be told."""

    def claim(self, job: Job, message: QueueMessage) -> Claim | ResultRecord | HeldElsewhere:
        """Take hold of a job; its result when it is finished; who holds it when another agent does."""


class NoRecords:
    """Without a bucket for jobs: a message is what it says, and its job was begun as often as it was received."""

    def job(self, received: Received) -> Job:
        """The job that the message carries."""
        job = received.message.to_job(received.message_id)
        if job is None:
            raise NotAMessage(
                "content is in request.json, and the agent has no bucket for jobs", received.message.reference
            )
        return job

    def refuse(self, job: ClaimedReference, result: ResultRecord) -> ResultRecord:  # noqa: ARG002 - as the protocol has it
        """Take the message's word for it."""
        return result

    def claim(self, job: Job, message: QueueMessage) -> Claim:  # noqa: ARG002 - as the protocol has it
        """Take hold of a job."""
        return _UnrecordedClaim(message, starts=message.receive_count, started_at=utcnow())


@dataclass(frozen=True)
class _UnrecordedClaim:
    """The hold on the message is all there is."""

    message: QueueMessage
    starts: int
    started_at: datetime
    last_error: JobError | None = None
    stops_second_result: bool = False

    @property
    def is_lost(self) -> bool:
        return self.message.is_lost

    def is_cancelled(self) -> bool:
        return False

    def renew(self, progress: float, *, has_begun: bool) -> None:
        pass

    def give_back(self, error: JobError | None, *, counts: bool) -> None:
        pass

    def finish(self, result: ResultRecord) -> ResultRecord:
        return result


class StoredRecords:
    """With a bucket for jobs: a lease in ``state.json``, changed by conditional writes only."""

    def __init__(self, store: JobStore, holder: str, lease_seconds: float, clock: Clock) -> None:
        self._store = store
        self._holder = holder
        self._lease = timedelta(seconds=lease_seconds)
        self._clock = clock
        self._direct = NoRecords()

    def job(self, received: Received) -> Job:
        """The job as the API recorded it: whoever may publish to the topic may say anything of a job of the API's."""
        own = received.message.metadata.darkroom
        if own is None:
            return self._direct.job(received)
        request = self._store.request(own.tenant, own.job_id)
        if request is None:
            raise NotAMessage("the job's request.json does not exist")
        if request.nonce != own.nonce:
            raise NotAMessage("the nonce is not that of the job's request.json")
        return request.job

    def refuse(self, job: ClaimedReference, result: ResultRecord) -> ResultRecord | None:
        """Record the failure, if the message is the API's own and nobody has begun the job."""
        request = self._store.request(job.tenant, job.job_id)
        if request is None or request.nonce != job.nonce or self._store.state(job.tenant, job.job_id):
            return None
        return self._store.create_result(job.tenant, job.job_id, result)

    def claim(self, job: Job, message: QueueMessage) -> Claim | ResultRecord | HeldElsewhere:  # noqa: ARG002
        """Take hold of a job: one call in the ordinary case, that of a job nobody has begun."""
        try:
            return self._hold(job, self._state(starts=0, last_error=None), None)
        except StateConflict:
            pass
        if result := self._store.result(job.tenant, job.job_id):
            return result
        return self._take_over(job)

    def _take_over(self, job: Job) -> Claim | HeldElsewhere:
        """Take hold of a job that was begun, unless its lease lasts."""
        found = self._store.state(job.tenant, job.job_id)
        if found is None:
            return HeldElsewhere(0)
        state, etag = found
        left = (state.lease_until - utcnow()).total_seconds()
        if left > 0:
            return HeldElsewhere(min(left, self._lease.total_seconds()))  # the other host's clock may be ahead
        try:
            return self._hold(job, self._state(starts=state.starts, last_error=state.last_error), etag)
        except StateConflict:
            return HeldElsewhere(0)

    def _state(self, starts: int, last_error: JobError | None) -> StateRecord:
        now = utcnow()
        return StateRecord(
            starts=starts,
            holder=self._holder,
            lease_until=now + self._lease,
            started_at=now,
            updated_at=now,
            last_error=last_error,
        )

    def _hold(self, job: Job, state: StateRecord, etag: str | None) -> Claim:
        """Write the state of a new hold; raises ``StateConflict`` when another was first."""
        try:
            etag = self._store.put_state(job.tenant, job.job_id, state, etag)
        except StateConflict:
            found = self._store.state(job.tenant, job.job_id)
            if found is None or not _same_hold(found[0], state):
                raise
            etag = found[1]  # the SDK repeated a write that had succeeded
        return _StoredClaim(self._store, job, state, etag, self._lease, self._clock)


class _StoredClaim:
    """Changed by one thread at a time: the heartbeat's while the job runs, and whoever ends it."""

    stops_second_result = True

    def __init__(
        self, store: JobStore, job: Job, state: StateRecord, etag: str, lease: timedelta, clock: Clock
    ) -> None:
        self._clock = clock
        #: By the agent's own clock: the host's may be set while the job runs.
        self._written_at = clock.now()
        #: How many times the job was begun before.
        self._starts = state.starts
        self._store = store
        self._job = job
        self._state = state
        self._etag = etag
        self._lease = lease
        self._changing = threading.Lock()
        self._is_over = False
        self.is_lost = False

    @property
    def starts(self) -> int:
        return self._starts + 1

    @property
    def started_at(self) -> datetime:
        return self._state.started_at

    @property
    def last_error(self) -> JobError | None:
        return self._state.last_error

    def is_cancelled(self) -> bool:
        # A job that did not come through the API has no client who could say so.
        return self._job.api is not Api.DIRECT and bool(self._store.cancel(self._job.tenant, self._job.job_id))

    def renew(self, progress: float, *, has_begun: bool) -> None:
        """Write the start, the progress when it changed, now and then, and the lease when a third of it is over."""
        with self._changing:
            age, starts = self._clock.now() - self._written_at, self._starts + has_begun
            is_news = progress != self._state.progress and age >= _PROGRESS_PAUSE_SECONDS
            is_news = is_news or starts != self._state.starts
            if not is_news and age < self._lease.total_seconds() / 3:
                return
            now = utcnow()
            lease_until = now + self._lease
            self._change({"lease_until": lease_until, "updated_at": now, "starts": starts, "progress": progress})

    def give_back(self, error: JobError | None, *, counts: bool) -> None:
        with self._changing:
            now = utcnow()
            starts = self._starts + counts
            last_error = error or self._state.last_error
            self._change({"lease_until": now, "updated_at": now, "starts": starts, "last_error": last_error})
            self._is_over = True

    def finish(self, result: ResultRecord) -> ResultRecord:
        kept = self._store.create_result(self._job.tenant, self._job.job_id, result)
        with self._changing:
            self._is_over = True
        return kept

    def _change(self, update: dict[str, object]) -> None:
        if self.is_lost or self._is_over:
            return
        changed = self._state.model_copy(update=update)
        try:
            self._put(changed)
        except StateConflict:
            # An earlier write of this claim's may have succeeded without an answer.
            found = self._store.state(self._job.tenant, self._job.job_id)
            if found is None or not _same_hold(found[0], self._state):
                self.is_lost = True
                log.warning("lease lost", extra={"job_id": self._job.job_id, "tenant": self._job.tenant})
                return
            self._etag = found[1]
            self._put(changed)

    def _put(self, state: StateRecord) -> None:
        asked_at = self._clock.now()
        self._etag = self._store.put_state(self._job.tenant, self._job.job_id, state, self._etag)
        self._state = state
        self._written_at = asked_at


def _same_hold(one: StateRecord, other: StateRecord) -> bool:
    return one.holder == other.holder and one.started_at == other.started_at
