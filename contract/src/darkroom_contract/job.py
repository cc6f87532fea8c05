"""The one internal form of a job, whichever request it came as. Pure."""

import secrets
from collections.abc import Collection
from enum import StrEnum
from typing import Self

from pydantic import JsonValue

from darkroom_contract import inputs, names
from darkroom_contract.types import (
    DEFAULT_TENANT,
    Context,
    Engine,
    Fact,
    Identifier,
    JsonObject,
    Prefix,
    Task,
    TenantName,
    Timestamp,
)

#: What the runtime of a job is called that is routed by its checkpoint.
LEGACY_RUNTIME = "legacy"


class Api(StrEnum):
    """How a job came in: by a version of the API, or published to the topic (or the queue) by the client itself."""

    V1ALPHA1 = "v1alpha1"
    V1ALPHA2 = "v1alpha2"
    V1 = "v1"
    DIRECT = "direct"


class FieldError(Exception):
    """A field of a request is wrong; the message says what would be right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Job(Fact):
    """What a runtime is to do, and where its pictures go."""

    api: Api
    #: Unique within the tenant. A v1 client chooses it; v1alpha clients choose a label only, which may repeat.
    job_id: Identifier
    tenant: TenantName
    #: The client's name for the job: part of the pictures' keys and of the notification.
    label: Identifier
    #: The runtime's name; ``legacy`` for a v1alpha1 job while it is known by its checkpoint only.
    runtime: str
    task: Task
    prefix: Prefix | None = None
    #: What the client wants back in the notification, unchanged.
    context: Context = {}
    #: The engine's own request: a web UI body, or a ComfyUI workflow in API format.
    content: JsonObject
    #: The model that a runtime with a dynamic checkpoint loads first.
    checkpoint: str | None = None
    submitted_at: Timestamp

    @property
    def folder(self) -> str:
        """The folder of its pictures in the output bucket."""
        return names.output_folder(self.tenant, self.prefix, self.label)

    @property
    def route(self) -> tuple[str, str]:
        """The SNS message attribute, name and value, by which the prompt topic finds the job's queue."""
        if self.api is Api.V1ALPHA1 and self.runtime == LEGACY_RUNTIME and self.checkpoint:
            return "sd_model_checkpoint", self.checkpoint
        return "runtime", self.runtime

    def for_engine(self, engine: Engine, *, field: str = "content") -> Self:
        """The job as the engine runs it; raises ``FieldError`` when it cannot.

        ComfyUI runs every content as a workflow, whatever the task is called: the AWS guidance's API refuses
        ``pipeline``, so its clients send workflows under other names.
        """
        if engine is Engine.COMFYUI:
            check_workflow(self.content, field)
            return self.model_copy(update={"task": Task.PIPELINE})
        if not engine.runs(self.task):
            raise FieldError(field, f"the runtime's engine is {engine}, which does not run the task {self.task}")
        return self

    def with_pinned_seed(self) -> Self:
        """The job with a seed in place of "any": a second run of it draws the same picture."""
        if self.task not in (Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE) or is_workflow(self.content):
            return self
        if self.content.get("seed", -1) not in (-1, None):
            return self
        return self.model_copy(update={"content": {**self.content, "seed": secrets.randbits(32)}})

    def check(self, tenants: Collection[str], *, prefix_field: str, content_field: str) -> None:
        """Refuse what no agent could do; raises ``FieldError``. ``tenants`` are all of the cluster's."""
        first_segment = self.folder.partition("/")[0]
        if self.tenant == DEFAULT_TENANT and first_segment in tenants and first_segment != DEFAULT_TENANT:
            raise FieldError(prefix_field, f"'{first_segment}' is a tenant's own folder; begin with another name")
        for field in inputs.input_fields(self.task, self.content):
            if field.is_url:
                try:
                    inputs.check_url(field.value)
                except ValueError as error:
                    raise FieldError(field.name.replace("content", content_field, 1), str(error)) from None


def is_workflow(content: JsonValue) -> bool:
    """Whether a content is a ComfyUI workflow in API format: an object of nodes."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(node, dict) and isinstance(node.get("class_type"), str) for node in content.values())
    )


def check_workflow(content: dict[str, JsonValue], field: str) -> None:
    """Refuse what is no ComfyUI workflow in API format; raises ``FieldError``."""
    if is_workflow(content):
        return
    if "nodes" in content and "links" in content:
        raise FieldError(field, "this is the editor's file; send the workflow from ComfyUI's menu Export (API)")
    raise FieldError(field, "a ComfyUI runtime takes a workflow in API format: node ids with class_type and inputs")


def new_job_id() -> str:
    """A job id that no other job has: 128 random bits in hex."""
    return secrets.token_hex(16)
