"""Darkroom's own request version: submit a job under an id of the client's, and ask for its status. Pure."""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from darkroom_contract.errors import JobError
from darkroom_contract.job import Api, Job, new_job_id
from darkroom_contract.rules import within
from darkroom_contract.types import (
    IF_ANY,
    Context,
    Fact,
    Identifier,
    JsonObject,
    Model,
    NotifyRunning,
    Output,
    Prefix,
    RuntimeName,
    S3Url,
    Seconds,
    Task,
    Timestamp,
    utcnow,
)


class SubmitRequest(Model):
    """A body for ``POST /v1/jobs``: with the engine's own request, or with the name of a workflow and its inputs."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["content"]}, {"required": ["workflow"]}]})

    #: Makes the request safe to repeat: the same id with the same body is one job, with another body it is refused.
    id: Identifier | None = None
    runtime: RuntimeName
    task: Task = Task.TEXT_TO_IMAGE
    prefix: Prefix | None = None
    context: Context = {}
    output: Output = None
    notify_running: NotifyRunning = False
    content: JsonObject | None = None
    #: One of the runtime's named workflows, in place of the content.
    workflow: Annotated[RuntimeName | None, IF_ANY] = None
    inputs: Annotated[JsonObject, IF_ANY] = {}

    @model_validator(mode="after")
    def _says_what_to_run(self) -> Self:
        if self.workflow is None and self.content is None:
            raise within(
                "content", "content is missing: it must be an object, the engine's own request; or name a workflow"
            )
        if self.workflow is not None and self.content is not None:
            raise within("workflow", "there is a content, too: leave one of them out")
        if self.workflow is None and self.inputs:
            raise within("inputs", "they are a workflow's: name it, or leave them out")
        return self

    def fingerprint(self) -> str:
        """The SHA-256 of the request's meaning: key order and white space do not count."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_job(self, *, tenant: str) -> Job:
        """The job that the request asks for; its content is empty until its workflow is filled in."""
        job_id = self.id or new_job_id()
        return Job(
            api=Api.V1,
            job_id=job_id,
            tenant=tenant,
            label=job_id,
            runtime=self.runtime,
            task=self.task,
            prefix=self.prefix,
            context=self.context,
            content=self.content or {},
            output=self.output,
            notify_running=self.notify_running,
            submitted_at=utcnow(),
        )


class JobStatus(StrEnum):
    """Where a job stands."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (JobStatus.ACCEPTED, JobStatus.RUNNING)


class Image(Fact):
    """A picture: where it is, and a URL by which anyone may download it for a while."""

    location: S3Url
    url: str


class JobView(Fact):
    """A job as its client sees it: the answer to a submission, a question and a cancellation."""

    id: Identifier
    status: JobStatus
    runtime: str
    task: Task
    #: The folder of the pictures.
    output_location: str
    submitted_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    seconds: Seconds = {}
    #: The share of the running job that is done, 0 to 1.
    progress: Annotated[float, Field(ge=0, le=1)] | None = None
    images: tuple[Image, ...] = ()
    #: The engine's response.
    output: S3Url | None = None
    error: JobError | None = None
