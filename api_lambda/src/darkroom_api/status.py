"""Where jobs stand, from the facts that are kept of them, and the end of what nobody wants any more. It talks to S3."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from darkroom_api.errors import Refused
from darkroom_contract.errors import ErrorCode
from darkroom_contract.names import split_s3_url
from darkroom_contract.records import CancelRecord, RequestRecord, ResultRecord, StateRecord, output_location
from darkroom_contract.store import JobStore, job_status
from darkroom_contract.v1 import Image, JobStatus, JobView

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: How long a picture's URL works, in seconds; less when the function's own credentials end before.
URL_SECONDS = 3600


@dataclass(frozen=True)
class JobFacts:
    """What is known of a job."""

    request: RequestRecord
    result: ResultRecord | None = None
    cancel: CancelRecord | None = None
    state: StateRecord | None = None

    @property
    def has_reached_agent(self) -> bool:
        """Whether an agent had the job's message: then it was published."""
        return self.result is not None or self.state is not None


class Jobs:
    """The jobs that are kept in one store, none when there is no store."""

    def __init__(self, store: JobStore | None, s3: S3Client, output_bucket: str) -> None:
        self._store = store
        self._s3 = s3
        self._output_bucket = output_bucket

    def find(self, tenant: str, job_id: str) -> JobFacts:
        """What is known of a tenant's job; raises ``Refused`` when there is none."""
        request = self._store.request(tenant, job_id) if self._store else None
        if request is None:
            raise Refused(ErrorCode.UNKNOWN_JOB, f"there is no job {job_id}, or its records have expired")
        return self.facts(request)

    def cancel(self, tenant: str, job_id: str) -> JobFacts:
        """Record that the client wants a job no more, unless it has ended or that is known; raises as ``find``."""
        facts = self.find(tenant, job_id)
        if self._store is None or facts.result or facts.cancel:
            return facts
        return replace(facts, cancel=self._store.create_cancel(tenant, job_id))

    def facts(self, request: RequestRecord) -> JobFacts:
        """What is known of a job; a result says it all."""
        tenant, job_id = request.job.tenant, request.job.job_id
        if self._store is None:
            return JobFacts(request)
        if result := self._store.result(tenant, job_id):
            return JobFacts(request, result)
        state = self._store.state(tenant, job_id)
        return JobFacts(request, None, self._store.cancel(tenant, job_id), state[0] if state else None)

    def view(self, facts: JobFacts) -> JobView:
        """What the client is told."""
        job, result, state = facts.request.job, facts.result, facts.state
        status = job_status(result, facts.cancel, state)
        running = state if status is JobStatus.RUNNING else None
        begun = result or running
        return JobView(
            id=job.job_id,
            status=status,
            runtime=result.runtime if result else job.runtime,
            task=job.task,
            output_location=output_location(self._output_bucket, job),
            submitted_at=job.submitted_at,
            started_at=begun.started_at if begun else None,
            finished_at=result.finished_at if result else None,
            seconds=result.seconds if result else {},
            progress=running.progress if running else None,
            images=tuple(Image(location=url, url=self._download_url(url)) for url in result.images) if result else (),
            output=result.output if result else None,
            error=result.error if result else None,
        )

    def _download_url(self, location: str) -> str:
        bucket, key = split_s3_url(location)
        return self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=URL_SECONDS
        )
