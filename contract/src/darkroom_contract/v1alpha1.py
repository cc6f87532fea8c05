"""The AWS guidance's first request version: a web UI body with the routing data in ``alwayson_scripts``. Pure."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, JsonValue, model_validator
from pydantic.json_schema import SkipJsonSchema

from darkroom_contract.job import LEGACY_RUNTIME, Api, Job
from darkroom_contract.types import Fact, Identifier, JsonObject, Prefix, Task, utcnow

#: What a v1alpha1 client puts into ``alwayson_scripts`` beside the real scripts.
ROUTING_KEYS = frozenset(
    {"task", "id_task", "uid", "sd_model_checkpoint", "image_link", "save_dir", "sd_vae", "override_settings"}
)


class Routing(Fact):
    """The routing data of a request; real scripts stand beside it."""

    task: Task
    sd_model_checkpoint: Annotated[str, Field(min_length=1, max_length=256)]
    id_task: Identifier
    save_dir: Prefix


class Request(Fact):
    """A body for ``POST /v1alpha1``: fields of the web UI's txt2img or img2img, and the routing data."""

    model_config = ConfigDict(extra="allow")

    alwayson_scripts: Routing
    body: SkipJsonSchema[JsonObject]

    @model_validator(mode="before")
    @classmethod
    def _keep_whole_body(cls, data: Any) -> Any:
        return {"alwayson_scripts": data.get("alwayson_scripts"), "body": data} if isinstance(data, dict) else data

    def to_job(self, *, tenant: str, job_id: str) -> Job:
        """The job that the request asks for."""
        routing = self.alwayson_scripts
        content, _ = split_routing(routing.task, self.body)
        return Job(
            api=Api.V1ALPHA1,
            job_id=job_id,
            tenant=tenant,
            label=routing.id_task,
            runtime=LEGACY_RUNTIME,
            task=routing.task,
            prefix=routing.save_dir,
            content=content,
            checkpoint=routing.sd_model_checkpoint,
            submitted_at=utcnow(),
        )


class Response(Fact):
    """The answer to a request that was accepted."""

    id_task: str
    sd_model_checkpoint: str
    output_location: str


def split_routing(task: Task, body: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], str | None]:
    """The web UI's own body, and the checkpoint that the routing data in it names.

    Clients of v1alpha2 and of the topic may send such data too. Idempotent.
    """
    scripts = body.get("alwayson_scripts")
    if task not in (Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE) or not isinstance(scripts, dict):
        return body, None
    content: dict[str, JsonValue] = {key: value for key, value in body.items() if key != "s3_output_path"}
    content["alwayson_scripts"] = {key: value for key, value in scripts.items() if key not in ROUTING_KEYS}
    settings = scripts.get("override_settings")
    if isinstance(settings, dict):
        own = content.get("override_settings")
        content["override_settings"] = {**(own if isinstance(own, dict) else {}), **settings}
    link = scripts.get("image_link")
    if task is Task.IMAGE_TO_IMAGE and isinstance(link, str) and link:
        content["init_images"] = [link]
    checkpoint = scripts.get("sd_model_checkpoint")
    return content, checkpoint if isinstance(checkpoint, str) and checkpoint else None
