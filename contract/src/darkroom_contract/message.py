"""The message on a runtime's queue: the AWS guidance's form, with Darkroom's own data beside it. Pure.

Clients may publish the guidance's form to the topic, or send it to the queue, themselves. A queue that is not
subscribed with raw delivery wraps it in SNS's envelope; both are read.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import from_json

from darkroom_contract.job import Api, Job, JobReference
from darkroom_contract.types import (
    DEFAULT_TENANT,
    Context,
    Fact,
    Identifier,
    JsonObject,
    NotifyRunning,
    Output,
    Prefix,
    Task,
    TenantName,
    Timestamp,
    utcnow,
)
from darkroom_contract.v1alpha1 import split_routing

#: Bodies above this many bytes go by reference. SNS takes 256 KiB with the attributes; what the claim check leaves in
#: the message (context, ids) is bounded by the context's limit.
MAX_INLINE_BYTES = 200 * 1024
#: The guidance's agent cuts longer ids.
_DIRECT_LABEL_LENGTH = 64


class ClaimedReference(JobReference):
    """The job that a message says it is for. Anybody may say so: its nonce has to be that of the job's request."""

    nonce: str


class NotAMessage(Exception):  # noqa: N818 - it names what the text is not
    """The text is no job: poison, which no retry would cure.

    ``reference`` is the job that it was to be, where Darkroom's own data still say so: it can be answered as failed.
    """

    def __init__(self, reason: str, reference: ClaimedReference | None = None) -> None:
        super().__init__(reason)
        self.reference = reference


def _known_task(value: Any) -> Task:
    # ComfyUI takes a workflow under any name; the web UI runs no pipeline, and says so.
    try:
        return Task(value)
    except ValueError:
        return Task.PIPELINE


class Delivery(Fact):
    """What Darkroom's API adds to a message: which job of whom it is, and where its content is."""

    api: Api
    job_id: Identifier
    tenant: TenantName
    nonce: str
    checkpoint: str | None = None
    output: Output = None
    notify_running: NotifyRunning = False
    submitted_at: Timestamp


class Metadata(Fact):
    """The guidance's metadata, and Darkroom's."""

    #: Clients may send a number.
    id: Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]
    runtime: str = ""
    #: What no task is called so counts as a pipeline.
    tasktype: Annotated[Task, BeforeValidator(_known_task)] = Task.PIPELINE
    prefix: Prefix | None = None
    context: Context = {}
    darkroom: Delivery | None = None


class Message(Fact):
    """A job on its way to a runtime. Without ``content`` it is a claim check: the content is in ``request.json``."""

    metadata: Metadata
    content: JsonObject | None = None

    @classmethod
    def of(cls, job: Job, nonce: str) -> Self:
        """The message of a job that the API took."""
        return cls(
            metadata=Metadata(
                id=job.label,
                runtime=job.runtime,
                tasktype=job.task,
                prefix=job.prefix,
                context=job.context,
                darkroom=Delivery(
                    api=job.api,
                    job_id=job.job_id,
                    tenant=job.tenant,
                    nonce=nonce,
                    checkpoint=job.checkpoint,
                    output=job.output,
                    notify_running=job.notify_running,
                    submitted_at=job.submitted_at,
                ),
            ),
            content=job.content,
        )

    def to_body(self) -> str:
        """The text to publish; a claim check when the whole is too large."""
        whole = self.to_text()
        return whole if len(whole) <= MAX_INLINE_BYTES else self.model_copy(update={"content": None}).to_text()

    def to_text(self) -> str:
        """The whole message: ASCII, so that its length is its size in bytes."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), separators=(",", ":"))

    @property
    def reference(self) -> ClaimedReference | None:
        """The job that it is for, where the API gave it one."""
        return _reference(self.model_dump())

    def to_job(self, message_id: str) -> Job | None:
        """The job; ``message_id`` is its id when its client published it without the API. None for a claim check.

        Raises ``NotAMessage`` when there is neither content nor a claim check, or the label is outside the grammar.
        """
        metadata, own = self.metadata, self.metadata.darkroom
        if self.content is None:
            if own is None:
                raise NotAMessage("content is missing")
            return None
        try:
            if own is not None:
                return Job(
                    api=own.api,
                    job_id=own.job_id,
                    tenant=own.tenant,
                    label=metadata.id,
                    runtime=metadata.runtime,
                    task=metadata.tasktype,
                    prefix=metadata.prefix,
                    context=metadata.context,
                    content=self.content,
                    checkpoint=own.checkpoint,
                    output=own.output,
                    notify_running=own.notify_running,
                    submitted_at=own.submitted_at,
                )
            content, checkpoint = split_routing(metadata.tasktype, self.content)
            return Job(
                api=Api.DIRECT,
                job_id=message_id,
                tenant=DEFAULT_TENANT,
                label=metadata.id[:_DIRECT_LABEL_LENGTH],
                runtime=metadata.runtime,
                task=metadata.tasktype,
                prefix=metadata.prefix,
                context=metadata.context,
                content=content,
                checkpoint=checkpoint,
                submitted_at=utcnow(),
            )
        except ValidationError as error:
            raise NotAMessage(_reason(error), self.reference) from None


@dataclass(frozen=True)
class Received:
    """A message as it came: its text parsed, and the id that SNS (or, without SNS, SQS) gave it."""

    message: Message
    message_id: str


def receive(body: str, sqs_message_id: str) -> Received:
    """Read a queue message's body, raw or in SNS's envelope; raises ``NotAMessage`` with the reason."""
    outer = _parse_object(body)
    message_id = sqs_message_id
    if outer.get("Type") == "Notification" and isinstance(outer.get("Message"), str):
        message_id = str(outer.get("MessageId") or sqs_message_id)
        outer = _parse_object(outer["Message"])
    try:
        return Received(Message.model_validate(outer), message_id)
    except ValidationError as error:
        raise NotAMessage(_reason(error), _reference(outer)) from None


def _parse_object(text: str) -> dict[str, Any]:
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise NotAMessage(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise NotAMessage("the message is not a JSON object")
    return value


def _reference(message: dict[str, Any]) -> ClaimedReference | None:
    """The job that a message of Darkroom's own is for, though the rest of it may not be understood."""
    try:
        metadata = message["metadata"]
        own = metadata["darkroom"]
        return ClaimedReference(
            tenant=own["tenant"],
            job_id=own["job_id"],
            label=metadata["id"],
            context=metadata.get("context"),
            nonce=own["nonce"],
        )
    except (LookupError, TypeError, ValidationError):
        return None


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
