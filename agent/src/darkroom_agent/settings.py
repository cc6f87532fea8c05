"""The agent's settings, from its environment."""

import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Json, ValidationInfo, field_validator

from darkroom_contract.environment import CommaSeparated, Environment
from darkroom_contract.types import DEFAULT_TENANT, BucketName, Engine, JsonObject, RuntimeName


class Settings(Environment):
    """What an agent is started with; times in seconds."""

    queue_url: str
    dead_letter_queue_url: str
    result_topic_arn: str
    output_bucket: BucketName
    #: Where the facts of jobs are kept. Without it no records are kept, and receives count as starts.
    jobs_bucket: BucketName | None = None
    engine: Engine
    runtime_name: RuntimeName
    runtime_url: Annotated[str, Field(pattern=r"^https?://[^/]+")]
    #: 0 for any free port; the agent logs which.
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    #: How long a running job may go on after the agent was told to stop.
    shutdown_budget_seconds: Annotated[float, Field(ge=0)] = 100
    job_timeout_seconds: Annotated[float, Field(gt=0, le=14400)] = 900
    max_starts: Annotated[int, Field(ge=1)] = 3
    #: The queue's own: after so many receives SQS moves a message to the dead-letter queue, and tells nobody.
    max_receive_count: Annotated[int, Field(ge=3)] = 50
    #: Whether a job may have another checkpoint loaded first (web UI only).
    dynamic_checkpoint: bool = False
    #: The runtime's own checkpoint: the one for jobs that name none, where checkpoints are dynamic.
    checkpoint: Annotated[str, Field(min_length=1)] | None = None
    #: Further buckets that input pictures may come from.
    input_buckets: CommaSeparated = ()
    #: The only hosts that input pictures are fetched from: patterns such as ``*.example.com``. None for any public one.
    input_hosts: CommaSeparated = ()
    #: All tenants of the cluster.
    tenants: CommaSeparated = (DEFAULT_TENANT,)
    #: How long one receive waits. boto3 cannot interrupt it, so that it delays a stop: longer is cheaper when idle.
    receive_wait_seconds: Annotated[int, Field(ge=0, le=20)] = 5
    #: How long a message, and the lease on its job, outlive the last heartbeat. SQS takes up to twelve hours.
    visibility_timeout_seconds: Annotated[int, Field(ge=1, le=43200)] = 60
    notify_running: bool = False
    #: A job in the engine's own form, as JSON, that is run before any other whenever the engine has come up.
    warmup: Json[JsonObject] | None = None
    pod_name: Annotated[str, Field(min_length=1)] = Field(default_factory=socket.gethostname)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    #: Patterns of the node classes that workflows may have, as fnmatch takes them; none is all (ComfyUI only).
    allowed_nodes: CommaSeparated = ()
    #: And of those that they may not have, allowed or not.
    denied_nodes: CommaSeparated = ()
    #: ComfyUI's folders, as the agent sees them, in which it is to delete what no job needs any more: the files that
    #: jobs made (temporary ones in ``temp`` below), and the inputs that agents uploaded. Without them it deletes none.
    engine_output_folder: Path | None = None
    engine_input_folder: Path | None = None

    @field_validator("visibility_timeout_seconds")
    @classmethod
    def _outlasts_a_receive(cls, seconds: int, info: ValidationInfo) -> int:
        if seconds <= info.data.get("receive_wait_seconds", 0):
            raise ValueError("should be longer than RECEIVE_WAIT_SECONDS, from whose begin a message's hold is counted")
        return seconds
