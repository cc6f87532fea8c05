"""The facts that are kept of a job in S3, each with one writer, and the notification made of them. Pure."""

from typing import Annotated, Literal, Self

from pydantic import Field

from darkroom_contract import names
from darkroom_contract.errors import JobError
from darkroom_contract.job import Job, JobReference
from darkroom_contract.types import Context, Fact, Identifier, S3Url, Seconds, TenantName, Timestamp
from darkroom_contract.v1 import JobStatus

#: SNS takes 256 KiB with the attributes.
MAX_NOTIFICATION_BYTES = 200 * 1024


class RequestRecord(Fact):
    """``request.json``, written once by the API: the job, and what tells a repeat from another request."""

    job: Job
    #: Of the request that v1 clients sent; None where ids are only labels.
    fingerprint: str | None = None
    #: Random: tells whether the one that was stored first is the writer's own.
    nonce: str
    recorded_at: Timestamp


class PublishedRecord(Fact):
    """``published.json``, written by the API once SNS has the message: a repeat need not publish it again."""

    message_id: str
    published_at: Timestamp


class CancelRecord(Fact):
    """``cancel``, written once by the API: the client wants the job to stop."""

    requested_at: Timestamp


class StateRecord(Fact):
    """``state.json``, the only fact that changes; written by the agent that holds the job."""

    #: How many times a GPU began the job.
    starts: Annotated[int, Field(ge=0)] = 0
    #: The agent that runs it, by pod name.
    holder: str
    #: Until when the holder may be believed to run it.
    lease_until: Timestamp
    started_at: Timestamp
    updated_at: Timestamp
    progress: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: Why the last start did not finish it.
    last_error: JobError | None = None


class AnsweringRecord(Fact):
    """``answering.json``, there while the janitor answers a job in place of a runtime that is gone."""

    #: Random: tells whether the one that was stored first is the writer's own.
    nonce: str
    begun_at: Timestamp


class ResultRecord(Fact):
    """``result.json``, written once by the agent that finished first, or by the janitor: what the client is told."""

    status: Literal[JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED]
    #: The runtime that finished it, by its own name.
    runtime: str
    images: tuple[S3Url, ...] = ()
    output: S3Url | None = None
    error: JobError | None = None
    starts: int = 0
    started_at: Timestamp | None = None
    finished_at: Timestamp
    seconds: Seconds = {}
    #: Random: tells whether the one that was stored first is the writer's own.
    nonce: str


class Notification(Fact):
    """What the result topic says of a job: the AWS guidance's fields, then Darkroom's."""

    runtime: str
    id: Identifier
    result: bool | None = None
    status: JobStatus
    image_url: tuple[S3Url, ...] | None = None
    output_url: S3Url | None = None
    context: Context = {}
    job_id: Identifier
    tenant: TenantName
    seconds: Seconds = {}
    error: JobError | None = None

    @classmethod
    def of(cls, job: JobReference, result: ResultRecord) -> Self:
        """The notification of a finished job.

        It fits SNS, whatever the job: without the list of its pictures if that is too long, and without a context that
        is larger than a job's may be.
        """
        whole = cls(
            runtime=result.runtime,
            id=job.label,
            result=result.status is JobStatus.COMPLETED,
            status=result.status,
            image_url=result.images,
            output_url=result.output,
            context={} if job.has_large_context else job.context,
            job_id=job.job_id,
            tenant=job.tenant,
            seconds=result.seconds,
            error=result.error,
        )
        fits = len(whole.to_json().encode()) <= MAX_NOTIFICATION_BYTES
        return whole if fits else whole.model_copy(update={"image_url": None})

    @classmethod
    def running(cls, job: JobReference, runtime: str) -> Self:
        """The notification of a job that a runtime begins, for those who ask for it."""
        return cls(
            runtime=runtime,
            id=job.label,
            status=JobStatus.RUNNING,
            context=job.context,
            job_id=job.job_id,
            tenant=job.tenant,
        )

    @property
    def attributes(self) -> dict[str, str]:
        """The SNS message attributes, for subscribers' filters."""
        return {"runtime": self.runtime, "status": self.status, "tenant": self.tenant}


def output_location(bucket: str, job: Job) -> str:
    """The folder of a job's pictures, as every API version answers it."""
    return names.s3_url(bucket, job.folder)
