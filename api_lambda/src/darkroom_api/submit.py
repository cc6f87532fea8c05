"""Taking a job: it is checked against its runtime, recorded in S3, published to SNS and marked as published.

A request that is recorded but not marked may belong to an invocation that is still at it, or that ended in between.
Once the function's timeout has passed it is the latter, and a repeat of the request publishes the job.
"""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom_api.errors import AWS_ERRORS, RETRY_SECONDS, Refused, is_passing, unavailable
from darkroom_api.registry import Registry
from darkroom_api.requests import FIELDS, JobRequest
from darkroom_api.settings import Settings
from darkroom_api.status import JobFacts, Jobs
from darkroom_api.telemetry import logger
from darkroom_api.trace import TRACEPARENT
from darkroom_contract.errors import ErrorCode
from darkroom_contract.job import Api, FieldError, Job
from darkroom_contract.message import MAX_INLINE_BYTES, Message
from darkroom_contract.records import RequestRecord
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.store import JobStore
from darkroom_contract.types import Engine, utcnow
from darkroom_contract.workflows import Workflow

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Accepted:
    """A job that will be answered."""

    facts: JobFacts
    #: Whether it was published now, and not by an earlier request of which this is a repeat.
    published: bool


class Submissions:
    """Takes jobs. Raises ``Refused``, ``FieldError``, and botocore's errors as they are."""

    def __init__(
        self, settings: Settings, sns: SNSClient, registry: Registry | None, store: JobStore | None, jobs: Jobs
    ) -> None:
        self._settings = settings
        self._sns = sns
        self._registry = registry
        self._store = store
        self._jobs = jobs

    def submit(self, request: JobRequest, patience: float, traceparent: str | None) -> Accepted:
        """Take a job; the repeat of one waits ``patience`` seconds at most for the invocation that is at it."""
        try:
            runtime = self._runtime(request.job)
        except Refused as refusal:
            # What was accepted stays so, though its runtime takes nothing more: the client may have lost the answer.
            store, kept = self._earlier(request, refusal)
            return self._repeat(store, kept, patience, traceparent, refusal)
        try:
            job = self._prepared(request, runtime)
        except (Refused, FieldError) as refusal:
            # So it does though its workflow is another now: the record has what the workflow was.
            store, kept = self._earlier(request, refusal)
            return self._repeat(store, kept, patience, traceparent)
        record = RequestRecord(
            job=job,
            fingerprint=request.fingerprint,
            nonce=secrets.token_hex(16),
            recorded_at=utcnow(),
        )
        body = self._message(record)
        kept = self._store.create_request(record) if self._store else record
        # The nonce tells, not the order: the SDK may have sent the record twice, and met its own.
        if self._store and kept.nonce != record.nonce:
            if kept.fingerprint != record.fingerprint:
                message = f"the id {record.job.job_id} is another request's; a new request needs a new id"
                raise Refused(ErrorCode.ID_IN_USE, message, field="id")
            return self._repeat(self._store, kept, patience, traceparent)
        self._publish(record, body, traceparent)
        return Accepted(JobFacts(record), published=True)

    def _earlier(self, request: JobRequest, refusal: Exception) -> tuple[JobStore, RequestRecord]:
        """The record of the same request, if it was sent before; raises ``refusal`` if it was not."""
        if self._store is None or request.fingerprint is None:
            raise refusal
        kept = self._store.request(request.job.tenant, request.job.job_id)
        if kept is None or kept.fingerprint != request.fingerprint:
            raise refusal
        return self._store, kept

    def _runtime(self, job: Job) -> RegistryEntry | None:
        """The runtime that the job is for; None when there is no registry to know it from."""
        if self._registry is None:
            return None
        if job.api is Api.V1ALPHA1:
            runtime, wanted = self._registry.by_checkpoint(job.checkpoint or ""), f"runtime for {job.checkpoint}"
        else:
            runtime, wanted = self._registry.by_name(job.runtime), f"runtime {job.runtime}"
        if runtime is None:
            raise Refused(ErrorCode.UNKNOWN_RUNTIME, f"there is no {wanted}", field=FIELDS[job.api].runtime)
        if not runtime.accepting:
            message = f"the runtime {runtime.name} takes no new jobs"
            raise Refused(ErrorCode.RUNTIME_NOT_ACCEPTING, message, field=FIELDS[job.api].runtime)
        return runtime

    def _prepared(self, request: JobRequest, runtime: RegistryEntry | None) -> Job:
        """The job as its runtime runs it."""
        if request.workflow is None:
            return self._checked(request.job, runtime)
        workflow = self._workflow(request.workflow, runtime)
        job = request.job.model_copy(update={"content": workflow.filled(request.inputs)})
        try:
            return self._checked(job, runtime)
        except FieldError as error:
            if not error.field.startswith("content"):
                raise
            # The client has written no content. What is wrong outside of the inputs, the workflow's author has to mend.
            raise FieldError(workflow.input_at(error.field) or "workflow", error.message) from None

    def _workflow(self, name: str, runtime: RegistryEntry | None) -> Workflow:
        """The runtime's workflow of a name."""
        if self._registry is None or runtime is None:
            raise FieldError("workflow", "this API knows no runtimes, and so no workflows: send a content")
        if runtime.engine is not Engine.COMFYUI:
            raise FieldError("workflow", f"the runtime's engine is {runtime.engine}, which has none: send a content")
        workflow = self._registry.workflow(runtime.name, name)
        if workflow is None:
            known = f"there are {', '.join(runtime.workflows)}" if runtime.workflows else "it has none"
            message = f"the runtime {runtime.name} has no workflow {name}; {known}"
            raise Refused(ErrorCode.UNKNOWN_WORKFLOW, message, field="workflow")
        return workflow

    def _checked(self, job: Job, runtime: RegistryEntry | None) -> Job:
        """The job as its engine takes it, with its seed."""
        fields = FIELDS[job.api]
        if runtime is not None:
            # A v1alpha1 job too goes by the name: SNS takes minutes to filter by a checkpoint that has just changed.
            job = job.for_engine(runtime.engine, field=fields.content).model_copy(update={"runtime": runtime.name})
        job.check(
            self._settings.tenants,
            prefix_field=fields.prefix,
            context_field=fields.context,
            content_field=fields.content,
        )
        return job.with_pinned_seed()

    def _message(self, record: RequestRecord) -> str:
        """What is published of a job: the whole of it, or what finds the whole in its record."""
        message = Message.of(record.job, record.nonce)
        body = message.to_body() if self._store else message.to_text()
        if len(body) > MAX_INLINE_BYTES:
            advice = "the request is too large; pass pictures by their https:// or s3:// URL"
            raise Refused(ErrorCode.TOO_LARGE, advice)
        return body

    def _repeat(
        self,
        store: JobStore,
        kept: RequestRecord,
        patience: float,
        traceparent: str | None,
        refusal: Refused | None = None,
    ) -> Accepted:
        """Answer a request that was recorded before, once it is sure that its message was published.

        Where it was not, it is published now, or refused with ``refusal`` if there is one.
        """
        give_up = time.monotonic() + patience
        facts = self._jobs.facts(kept)
        while not (facts.has_reached_agent or store.published(kept.job.tenant, kept.job.job_id)):
            left = self._seconds_left(kept)
            if left <= 0:
                if refusal is not None:
                    raise refusal
                self._publish(kept, self._message(kept), traceparent)
                return Accepted(facts, published=True)
            if time.monotonic() + _POLL_SECONDS > give_up:
                raise unavailable(math.ceil(left))
            time.sleep(_POLL_SECONDS)
        return Accepted(facts, published=False)

    def _publish(self, record: RequestRecord, body: str, traceparent: str | None) -> None:
        """Publish a job's message, and mark it as published where the request may be repeated."""
        job = record.job
        attributes = dict([job.route])
        if traceparent is not None:
            attributes[TRACEPARENT] = traceparent
        try:
            answer = self._sns.publish(
                TopicArn=self._settings.prompt_topic_arn,
                Message=body,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )
        except AWS_ERRORS as error:
            if record.fingerprint is None or not is_passing(error):
                raise
            raise unavailable(max(RETRY_SECONDS, math.ceil(self._seconds_left(record)))) from error
        if self._store is None or record.fingerprint is None:
            return
        try:
            self._store.mark_published(job.tenant, job.job_id, answer["MessageId"])
        except AWS_ERRORS:
            # A repeat may then publish it a second time, which agents bear.
            logger.warning("published, but not marked so", extra={"job_id": job.job_id}, exc_info=True)

    def _seconds_left(self, record: RequestRecord) -> float:
        """How long the invocation that made the record may still be at it."""
        return self._settings.timeout_seconds - (utcnow() - record.recorded_at).total_seconds()
