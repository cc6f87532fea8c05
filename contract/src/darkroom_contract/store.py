"""The facts of jobs, in S3. It talks to S3 through the client that it is given, and to nothing else.

Every fact but the state is written once, by conditional PUT: the first writer wins, and learns whether it was first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from darkroom_contract.names import JobFact, archived_result_key, job_key
from darkroom_contract.records import (
    AnsweringRecord,
    CancelRecord,
    PublishedRecord,
    RequestRecord,
    ResultRecord,
    StateRecord,
)
from darkroom_contract.types import Fact, utcnow
from darkroom_contract.v1 import JobStatus

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_JSON = "application/json"
_Record = TypeVar("_Record", bound=Fact)
_Written = TypeVar("_Written", RequestRecord, CancelRecord, AnsweringRecord, ResultRecord)


class StateConflict(Exception):  # noqa: N818 - a conflict is what it is
    """Another writer changed the fact first."""


class JobStore:
    """The facts of the jobs in one bucket. Raises botocore's errors as they are."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def create_request(self, record: RequestRecord) -> RequestRecord:
        """Record a request, unless the job has one: the one that is kept then. Compare nonces to tell."""
        return self._create(record.job.tenant, record.job.job_id, JobFact.REQUEST, record)

    def request(self, tenant: str, job_id: str) -> RequestRecord | None:
        """The job's request."""
        return self._read(tenant, job_id, JobFact.REQUEST, RequestRecord)

    def mark_published(self, tenant: str, job_id: str, message_id: str) -> None:
        """Record that SNS has the job's message."""
        record = PublishedRecord(message_id=message_id, published_at=utcnow())
        self._put(tenant, job_id, JobFact.PUBLISHED, record)

    def published(self, tenant: str, job_id: str) -> PublishedRecord | None:
        """When SNS got the job's message, if that is known."""
        return self._read(tenant, job_id, JobFact.PUBLISHED, PublishedRecord)

    def create_cancel(self, tenant: str, job_id: str) -> CancelRecord:
        """Record that the client wants the job no more, unless it said so before: what is kept then."""
        return self._create(tenant, job_id, JobFact.CANCEL, CancelRecord(requested_at=utcnow()))

    def cancel(self, tenant: str, job_id: str) -> CancelRecord | None:
        """The client's wish to stop the job."""
        return self._read(tenant, job_id, JobFact.CANCEL, CancelRecord)

    def state(self, tenant: str, job_id: str) -> tuple[StateRecord, str] | None:
        """The job's state and the ETag to change it with."""
        found = self._get(tenant, job_id, JobFact.STATE)
        return (StateRecord.model_validate_json(found[0]), found[1]) if found else None

    def put_state(self, tenant: str, job_id: str, state: StateRecord, etag: str | None) -> str:
        """Change the state that has this ETag (None: there is none yet) and return the new ETag.

        Raises ``StateConflict`` when another writer was first.
        """
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with self._conflicts():
            return self._put(tenant, job_id, JobFact.STATE, state, **condition)

    def begin_answer(self, tenant: str, job_id: str, record: AnsweringRecord) -> AnsweringRecord:
        """Record that the janitor answers the job, unless one does: the record that is kept then."""
        return self._create(tenant, job_id, JobFact.ANSWERING, record)

    def end_answer(self, tenant: str, job_id: str) -> None:
        """Record that the job is answered, and that its client was told."""
        self._s3.delete_object(Bucket=self._bucket, Key=job_key(tenant, job_id, JobFact.ANSWERING))

    def create_result(self, tenant: str, job_id: str, record: ResultRecord) -> ResultRecord:
        """Record the result, unless the job has one: the one that is kept then. Compare nonces to tell."""
        return self._create(tenant, job_id, JobFact.RESULT, record)

    def result(self, tenant: str, job_id: str) -> ResultRecord | None:
        """The job's result, once it has one."""
        return self._read(tenant, job_id, JobFact.RESULT, ResultRecord)

    def archive_result(self, tenant: str, job_id: str, nonce: str) -> None:
        """Set the result with this nonce aside, under a name made of it, so that the job may be run again.

        Raises ``StateConflict`` when the job has another result, or none. Repeated, it goes on where it ended.
        """
        found = self._get(tenant, job_id, JobFact.RESULT)
        if found is None or ResultRecord.model_validate_json(found[0]).nonce != nonce:
            raise StateConflict
        body, etag = found
        try:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=archived_result_key(tenant, job_id, nonce),
                Body=body,
                ContentType=_JSON,
                IfNoneMatch="*",
            )
        except self._s3.exceptions.ClientError as error:
            if _status(error) != 412:  # else it was archived before: the key has its nonce
                raise
        with self._conflicts():
            self._s3.delete_object(Bucket=self._bucket, Key=job_key(tenant, job_id, JobFact.RESULT), IfMatch=etag)

    @contextmanager
    def _conflicts(self) -> Iterator[None]:
        """Call a write ``StateConflict`` whose condition is not met."""
        try:
            yield
        except self._s3.exceptions.ClientError as error:
            if _status(error) in (404, 409, 412):
                raise StateConflict from error
            raise

    def _create(self, tenant: str, job_id: str, fact: JobFact, record: _Written) -> _Written:
        try:
            self._put(tenant, job_id, fact, record, IfNoneMatch="*")
        except self._s3.exceptions.ClientError as error:
            # 409: two conditional writes at once; S3 asks to try again, and by then one of them is there.
            if _status(error) not in (409, 412):
                raise
            kept = self._read(tenant, job_id, fact, type(record))
            return self._create(tenant, job_id, fact, record) if kept is None else kept
        return record

    def _read(self, tenant: str, job_id: str, fact: JobFact, model: type[_Record]) -> _Record | None:
        found = self._get(tenant, job_id, fact)
        return model.model_validate_json(found[0]) if found else None

    def _get(self, tenant: str, job_id: str, fact: JobFact) -> tuple[bytes, str] | None:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=job_key(tenant, job_id, fact))
        except self._s3.exceptions.NoSuchKey:
            return None
        return answer["Body"].read(), answer["ETag"]

    def _put(self, tenant: str, job_id: str, fact: JobFact, record: Fact, **condition: Any) -> str:
        answer = self._s3.put_object(
            Bucket=self._bucket,
            Key=job_key(tenant, job_id, fact),
            Body=record.to_json().encode(),
            ContentType=_JSON,
            **condition,
        )
        return answer["ETag"]


def job_status(result: ResultRecord | None, cancel: CancelRecord | None, state: StateRecord | None) -> JobStatus:
    """Where a job with a request stands. The result decides; a state counts while its lease lasts."""
    if result is not None:
        return result.status
    if cancel is not None:
        return JobStatus.CANCELLED
    if state is not None and state.lease_until > utcnow():
        return JobStatus.RUNNING
    return JobStatus.ACCEPTED


def _status(error: Any) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
