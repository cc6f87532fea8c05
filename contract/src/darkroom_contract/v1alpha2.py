"""The AWS guidance's second request version: ``task`` with metadata and the engine's own content. Pure."""

from darkroom_contract.job import Api, Job
from darkroom_contract.types import (
    Context,
    Fact,
    Identifier,
    JsonObject,
    NotifyRunning,
    Output,
    Prefix,
    RuntimeName,
    Task,
    utcnow,
)
from darkroom_contract.v1alpha1 import split_routing


class Metadata(Fact):
    """Who runs the task, what it is and where its pictures go."""

    id: Identifier
    runtime: RuntimeName
    tasktype: Task
    prefix: Prefix
    context: Context = {}
    #: Darkroom's own; the guidance's API passes over what it does not know in the metadata.
    output: Output = None
    notify_running: NotifyRunning = False


class TaskBody(Fact):
    """The task: metadata, and the engine's own request."""

    metadata: Metadata
    content: JsonObject


class Request(Fact):
    """A body for ``POST /v1alpha2``."""

    task: TaskBody

    def to_job(self, *, tenant: str, job_id: str) -> Job:
        """The job that the request asks for."""
        metadata = self.task.metadata
        content, checkpoint = split_routing(metadata.tasktype, self.task.content)
        return Job(
            api=Api.V1ALPHA2,
            job_id=job_id,
            tenant=tenant,
            label=metadata.id,
            runtime=metadata.runtime,
            task=metadata.tasktype,
            prefix=metadata.prefix,
            context=metadata.context,
            content=content,
            checkpoint=checkpoint,
            output=metadata.output,
            notify_running=metadata.notify_running,
            submitted_at=utcnow(),
        )


class Response(Fact):
    """The answer to a request that was accepted."""

    id: str
    runtime: str
    output_location: str
