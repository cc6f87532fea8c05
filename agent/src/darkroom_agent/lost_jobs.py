"""Jobs that no runtime will ever draw, since the queue with their messages is gone: find them, and answer them.

Only jobs with a ``request.json`` can be found; of those that clients published to SNS themselves nothing is kept. It
talks to S3, SQS and SNS. What becomes of a job without a result, and of one whose answer may not have been told
(``next_step``)::

    its queue is older than its last message ........... nothing
    its queue is gone, but will be back ................ nothing
    its queue is gone, but it was touched just now ..... later: it is in an agent's hands, or another janitor's
    its queue is gone, but an agent holds its lease .... later: the agent may finish it
    its queue is gone .................................. answer: answering.json, result.json, tell, no answering.json
    it has a result, and answering.json ................ tell, no answering.json: an earlier run ended in between
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby, islice
from typing import TYPE_CHECKING, TypeAlias

from darkroom_agent.aws import AWS_ERRORS, Clients
from darkroom_agent.delivery import publish
from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.names import JOBS_PREFIX, Bucket, JobFact, Names, split_job_key
from darkroom_contract.records import AnsweringRecord, Notification, RequestRecord, ResultRecord, StateRecord
from darkroom_contract.store import JobStore
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectTypeDef

log = logging.getLogger(__name__)

#: Until when messages are lost whose queue is gone: all of them.
_ALL = datetime.max.replace(tzinfo=UTC)
_WORKERS = 16
#: So many jobs are in hand at most, however many there are.
_BATCH = 512
_PROGRESS_JOBS = 50_000


def objects(s3: S3Client, bucket: str, prefix: str) -> Iterator[ObjectTypeDef]:
    """All objects of a bucket under a prefix, a page of a thousand at a time."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return (each for page in pages for each in page.get("Contents", []))


class Step(StrEnum):
    """What is to be done about a job."""

    NOTHING = "nothing"
    LATER = "later"
    ANSWER = "answer"
    TELL = "tell"
    #: AWS did not do it: to be tried again.
    FAILED = "failed"
    #: No run can do anything about it, since a record of the job is not what it has to be.
    UNREADABLE = "unreadable"


#: When each object of a job was written last, by its name.
Written: TypeAlias = Mapping[str, datetime]
#: What is written of a job whose message may be lost already. All else is written when a message is sent.
_AFTERWARDS = (JobFact.STATE, JobFact.CANCEL, JobFact.ANSWERING)


def next_step(written: Written, state: StateRecord | None, lost_before: datetime | None, quiet_since: datetime) -> Step:
    """What is to be done about a job with a request.

    ``lost_before``: messages from before then are gone, with the queue of the job's runtime; None when that is not
    known. ``quiet_since``: what was written later may be in somebody's hands.
    """
    touched = max(written.values())
    if JobFact.RESULT in written:
        if JobFact.ANSWERING not in written:
            return Step.NOTHING
        return Step.TELL if touched < quiet_since else Step.LATER
    sent = max(at for name, at in written.items() if name not in _AFTERWARDS)
    if state is not None:
        sent = max(sent, state.started_at)  # who took hold of it had its message from the queue of that time
    if lost_before is None or sent >= lost_before:
        return Step.NOTHING
    if touched >= quiet_since or (state is not None and state.lease_until > utcnow()):
        return Step.LATER
    return Step.ANSWER


@dataclass
class Queues:
    """Whether the runtimes' queues are there, and since when. Looked up once each."""

    clients: Clients
    names: Names
    registered: frozenset[str]
    _since: dict[str, datetime | None] = field(default_factory=dict)

    def since(self, runtime: str) -> datetime | None:
        """When a runtime's queue was made; None when there is none."""
        if runtime not in self._since:
            self._since[runtime] = self._look(runtime)
        return self._since[runtime]

    def lost_before(self, runtime: str) -> datetime | None:
        """Messages to a runtime from before then are gone; None when that is not known."""
        if since := self.since(runtime):
            return since
        # Without a queue, but in the registry: somebody is about to make it anew, or to take the entry away.
        return None if runtime in self.registered else _ALL

    def _look(self, runtime: str) -> datetime | None:
        url = self.names.queue_url(self.names.runtime_queue(runtime))
        try:
            answer = self.clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["CreatedTimestamp"])
        except self.clients.sqs.exceptions.QueueDoesNotExist:
            return None
        # Whole seconds, as S3 says them of objects: a job of the same second counts as younger.
        return datetime.fromtimestamp(int(float(answer["Attributes"]["CreatedTimestamp"])), UTC)


@dataclass
class Tally:
    """What came of the jobs that were read."""

    jobs: int = 0
    #: The jobs by what was done about them, or is to be, or why nothing was.
    steps: Counter[str] = field(default_factory=Counter)
    #: The runtimes of the jobs that are left for later.
    unsettled: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Listed:
    """A job as the listing of the bucket has it."""

    tenant: str
    job_id: str
    written: Written


class Sweep:
    """Reads all jobs once. A second one, and agents at work, do no harm: who records a result first answers the job."""

    def __init__(self, clients: Clients, names: Names, queues: Queues, quiet_since: datetime) -> None:
        self._clients = clients
        self._queues = queues
        #: What was written later may be in somebody's hands.
        self._quiet_since = quiet_since
        self._bucket = names.bucket(Bucket.JOBS)
        self._store = JobStore(clients.s3, self._bucket)
        self._topic = names.topic_arn(names.result_topic)
        self.tally = Tally()

    def run(self) -> Tally:
        """Answer what is lost. A job over which something fails does not keep the others."""
        unfinished = self._unfinished()
        with ThreadPoolExecutor(_WORKERS, "sweep") as pool:
            while batch := list(islice(unfinished, _BATCH)):
                for step, runtime in pool.map(self._attend, batch):
                    self.tally.steps[step] += 1
                    if step is Step.LATER:
                        self.tally.unsettled.add(runtime)
        return self.tally

    def _unfinished(self) -> Iterator[_Listed]:
        """The jobs that have a request, and no result or one that may not have been told."""
        keys = (
            (split_job_key(each["Key"]), each["LastModified"])
            for each in objects(self._clients.s3, self._bucket, JOBS_PREFIX)
        )
        parts = ((*split, written) for split, written in keys if split)
        for (tenant, job_id), facts in groupby(parts, key=lambda part: part[:2]):
            written = {name: at for _, _, name, at in facts}
            self.tally.jobs += 1
            if self.tally.jobs % _PROGRESS_JOBS == 0:
                log.info("reading jobs", extra={"jobs": self.tally.jobs, **self.tally.steps})
            if JobFact.REQUEST in written and (JobFact.RESULT not in written or JobFact.ANSWERING in written):
                yield _Listed(tenant, job_id, written)

    def _attend(self, listed: _Listed) -> tuple[Step, str]:
        """Do what is to be done about a job; what it was, and the job's runtime."""
        traits = {"job_id": listed.job_id, "tenant": listed.tenant}
        runtime = ""
        try:
            request = self._store.request(listed.tenant, listed.job_id)
            if request is None:  # it has expired since it was listed
                return Step.NOTHING, runtime
            runtime = request.job.runtime
            found = JobFact.STATE in listed.written and self._store.state(listed.tenant, listed.job_id)
            state = found[0] if found else None
            step = next_step(listed.written, state, self._queues.lost_before(runtime), self._quiet_since)
            if step is Step.ANSWER:
                step = self._answer(request, state, listed.written)
            elif step is Step.TELL:
                self._tell(request, self._store.result(listed.tenant, listed.job_id))
            if step not in (Step.NOTHING, Step.LATER):
                log.info(f"job {step}", extra={**traits, "runtime": runtime})
        except (*AWS_ERRORS, OSError):
            log.exception("job failed", extra={**traits, "runtime": runtime})
            step = Step.FAILED
        except Exception:
            log.warning("job unreadable", exc_info=True, extra={**traits, "runtime": runtime})
            step = Step.UNREADABLE
        return step, runtime

    def _answer(self, request: RequestRecord, state: StateRecord | None, written: Written) -> Step:
        """Record and tell that a job is not drawn, unless somebody has recorded a result or is about to."""
        tenant, job_id, runtime = request.job.tenant, request.job.job_id, request.job.runtime
        is_second_try = JobFact.ANSWERING in written
        if not is_second_try:
            own = AnsweringRecord(nonce=secrets.token_hex(8), begun_at=utcnow())
            if self._store.begin_answer(tenant, job_id, own).nonce != own.nonce:
                return Step.LATER
        error = JobError(
            code=JobErrorCode.RUNTIME_REMOVED,
            message=f"the runtime {runtime} was removed before it drew the job; send the job to another runtime",
        )
        is_cancelled = JobFact.CANCEL in written
        result = ResultRecord(
            status=JobStatus.CANCELLED if is_cancelled else JobStatus.FAILED,
            runtime=runtime,
            error=None if is_cancelled else error,
            starts=state.starts if state else 0,
            finished_at=utcnow(),
            nonce=secrets.token_hex(8),
        )
        kept = self._store.create_result(tenant, job_id, result)
        if kept.nonce == result.nonce or is_second_try:
            self._tell(request, kept)
            return Step.ANSWER
        self._store.end_answer(tenant, job_id)  # an agent was first: it tells its own result
        return Step.NOTHING

    def _tell(self, request: RequestRecord, result: ResultRecord | None) -> None:
        """Tell a recorded result. Whoever ends in between has not ended the answer: it is told again then."""
        if result is not None:
            publish(self._clients.sns, self._topic, Notification.of(request.job, result))
        self._store.end_answer(request.job.tenant, request.job.job_id)
