"""The one internal form of a job, whichever request it came as. Pure."""

import json
import secrets
from collections.abc import Collection
from enum import StrEnum
from typing import Self

from pydantic import JsonValue

from darkroom_contract import inputs, names, webui
from darkroom_contract.types import (
    DEFAULT_TENANT,
    Context,
    Engine,
    Fact,
    Identifier,
    JsonObject,
    NotifyRunning,
    Output,
    Prefix,
    Task,
    TenantName,
    Timestamp,
)

#: What the runtime of a job is called that is routed by its checkpoint.
LEGACY_RUNTIME = "legacy"
#: The client's context travels in every message and notification: this many bytes of JSON.
MAX_CONTEXT_BYTES = 64 * 1024


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


class JobReference(Fact):
    """Which job of whom: enough to tell its client how it ended."""

    tenant: TenantName
    #: Unique within the tenant. A v1 client chooses it; v1alpha clients choose a label only, which may repeat.
    job_id: Identifier
    #: The client's name for the job: part of the pictures' keys and of the notification.
    label: Identifier
    #: What the client wants back in the notification, unchanged.
    context: Context = {}

    @property
    def has_large_context(self) -> bool:
        """Whether the context is larger than messages and notifications may carry."""
        return len(json.dumps(self.context, separators=(",", ":"))) > MAX_CONTEXT_BYTES


class Job(JobReference):
    """What a runtime is to do, and where its pictures go."""

    api: Api
    #: The runtime's name; ``legacy`` for a v1alpha1 job while it is known by its checkpoint only.
    runtime: str
    task: Task
    prefix: Prefix | None = None
    #: The engine's own request: a web UI body, or a ComfyUI workflow in API format.
    content: JsonObject
    #: The model that a runtime with a dynamic checkpoint loads first.
    checkpoint: str | None = None
    output: Output = None
    notify_running: NotifyRunning = False
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
            runs = ", ".join(task for task in Task if engine.runs(task))
            raise FieldError(field, f"the runtime's engine is {engine}, which runs the tasks {runs}")
        for name, reason in webui.impossible(self.task, self.content):
            raise FieldError(f"{field}.{name}", reason)
        for name in webui.runtime_settings(self.content):
            raise FieldError(f"{field}.override_settings.{name}", "this setting is the runtime's own; leave it out")
        return self.model_copy(update={"content": webui.hardened(self.content)})

    def with_pinned_seed(self) -> Self:
        """The job with seeds in place of "any": a second run of it draws the same picture."""
        if self.task not in (Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE) or is_workflow(self.content):
            return self
        strength = self.content.get("subseed_strength")
        seeds = ("seed", "subseed") if isinstance(strength, int | float) and strength > 0 else ("seed",)
        pinned = {seed: secrets.randbits(32) for seed in seeds if self.content.get(seed, -1) in (-1, None)}
        return self.model_copy(update={"content": {**self.content, **pinned}}) if pinned else self

    def check(
        self,
        tenants: Collection[str],
        *,
        prefix_field: str = "prefix",
        context_field: str = "context",
        content_field: str = "content",
    ) -> None:
        """Refuse what no agent may do, however the job came; raises ``FieldError``.

        ``tenants`` are all of the cluster's. Check the job as its engine runs it: the task says where inputs are.
        """
        first_segment = self.folder.partition("/")[0]
        if self.tenant == DEFAULT_TENANT and first_segment in tenants and first_segment != DEFAULT_TENANT:
            raise FieldError(prefix_field, f"'{first_segment}' is a tenant's own folder; begin with another name")
        if self.has_large_context:
            raise FieldError(context_field, f"the context may have {MAX_CONTEXT_BYTES // 1024} KiB of JSON")
        for field, reason in inputs.problems(self.task, self.content):
            raise FieldError(field.replace("content", content_field, 1), reason)


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
