"""What became of one job, by the facts that S3 has of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from darkroom.doctor.chain import Examined, Section
from darkroom.doctor.context import Context
from darkroom.doctor.finding import Finding, ok, unknown, wrong
from darkroom.doctor.results import is_there
from darkroom.trouble import UsageError
from darkroom_contract.names import split_s3_url
from darkroom_contract.records import RequestRecord, ResultRecord
from darkroom_contract.store import JobStore
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus

#: How long a request may be without the mark that SNS has it: longer than any function runs.
_PUBLISHING = timedelta(seconds=30)


class UnknownJob(UsageError):  # noqa: N818 - it says what is the matter
    """No tenant has such a job."""


@dataclass(frozen=True)
class Found:
    """A job, and what is recorded of its request."""

    tenant: str
    request: RequestRecord

    @property
    def job_id(self) -> str:
        """Its id."""
        return self.request.job.job_id

    @property
    def runtime(self) -> str:
        """The runtime that it was sent to."""
        return self.request.job.runtime or ""


def find(store: JobStore, tenants: list[str], job_id: str) -> Found:
    """A job of one of the tenants; raises ``UnknownJob`` and botocore's errors."""
    for tenant in tenants:
        if request := store.request(tenant, job_id):
            return Found(tenant, request)
    raise UnknownJob(
        f"there is no job {job_id}: the API did not take it, or it is older than what is kept (retention.jobs). A job "
        "of /v1alpha1 or /v1alpha2 has its id in the answer's header x-darkroom-job"
    )


def follow(it: Context, job: Found) -> Iterator[Examined]:
    """What S3 says of a job: from its request to its result."""
    for name, finding in _facts(it, job):
        yield Examined(name, finding, None, Section.JOB, is_cause=finding.is_wrong)


def _facts(it: Context, job: Found) -> Iterator[tuple[str, Finding]]:
    record = job.request
    words = (
        f"{job.job_id} of {job.tenant} for {job.runtime}, submitted at {record.job.submitted_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    yield "request", ok(words)
    result, state = it.store.result(job.tenant, job.job_id), it.store.state(job.tenant, job.job_id)
    if published := it.store.published(job.tenant, job.job_id):
        yield "message", ok(f"SNS has it as {published.message_id}")
    elif not result and not state and utcnow() - record.recorded_at > _PUBLISHING:
        words = (
            "SNS never got its message: the function ended too soon. The same request, with its id, is published then"
        )
        yield (
            "message",
            wrong(words, f"aws logs tail {it.names.api_log_group} --since 1h --filter-pattern {job.job_id}"),
        )
    if cancel := it.store.cancel(job.tenant, job.job_id):
        yield "cancel", ok(f"its client took it back at {cancel.requested_at:%H:%M:%S} UTC")
    if result:
        yield "result", _ended(it, job, result)
        yield from _pictures(it, result)
        return
    if state is None:
        yield "state", unknown("no agent has begun it: its message waits, or is lost on the way; see below")
        return
    held = state[0]
    error = f"; before that {held.last_error.code}: {held.last_error.message}" if held.last_error else ""
    if held.lease_until > utcnow():
        yield "state", ok(f"{held.holder} is at it, start {held.starts}, {held.progress:.0%} done{error}")
    else:
        words = f"{held.holder} was at it until {held.lease_until:%H:%M:%S} UTC and is gone, start {held.starts}{error}"
        yield "state", unknown(f"{words}; another agent gets it, if one is up")


def _ended(it: Context, job: Found, result: ResultRecord) -> Finding:
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items())
    if result.status is not JobStatus.FAILED:
        return ok(f"{result.status} at {result.finished_at:%H:%M:%S} UTC{f' ({took})' if took else ''}")
    error = result.error
    words = f"failed after {result.starts} starts" + (f": {error.code}: {error.message}" if error else "")
    again = it.command(f"runtime redrive {job.runtime} --id {job.job_id}")
    return wrong(words, again) if error and error.retryable else wrong(words, "send it anew, as its error wants it")


def _pictures(it: Context, result: ResultRecord) -> Iterator[tuple[str, Finding]]:
    if missing := [url for url in result.images if not is_there(it, *split_s3_url(url))]:
        days = it.files.cluster.retention.outputs
        after = f", by retention.outputs after {days} days, say" if days else ""
        yield "pictures", wrong(f"{len(missing)} of {len(result.images)} are not there any more{after}: {missing[0]}")
    elif result.images:
        yield "pictures", ok(", ".join(result.images))
