"""The client of AUTOMATIC1111's web UI: one POST runs a job, and answers with its pictures in base64."""

import binascii
import json
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import pybase64
from pydantic import JsonValue
from pydantic_core import from_json, to_json

from darkroom_agent.engines.base import Output, Presence, Run
from darkroom_agent.engines.sdwebui_post import Answer
from darkroom_agent.engines.sdwebui_queue import WebUIQueue
from darkroom_agent.errors import EngineFailedError, EngineRefusedError, NoPicturesError
from darkroom_agent.settings import Settings
from darkroom_contract.errors import JobError
from darkroom_contract.job import Job
from darkroom_contract.types import Task

_PATHS = {
    Task.TEXT_TO_IMAGE: "sdapi/v1/txt2img",
    Task.IMAGE_TO_IMAGE: "sdapi/v1/img2img",
    Task.EXTRA_SINGLE_IMAGE: "sdapi/v1/extra-single-image",
    Task.EXTRA_BATCH_IMAGES: "sdapi/v1/extra-batch-images",
}
#: The tasks that need a checkpoint, and take a name and settings of their own.
_GENERATIONS = frozenset({Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE})
#: The one fault of a request that the web UI answers with 500.
_BAD_PICTURE = "Invalid encoded image"


class WebUI:
    """The web UI of one runtime."""

    def __init__(self, settings: Settings) -> None:
        self._queue = WebUIQueue(settings.runtime_url.rstrip("/"))
        self._dynamic_checkpoint = settings.dynamic_checkpoint
        self._checkpoint = settings.checkpoint
        #: The checkpoints that the web UI has, as it lists them; as long as it is there.
        self._models: list[dict[str, Any]] = []

    @property
    def ahead(self) -> int:
        """One, where the web UI tells its requests apart."""
        return int(self._queue.tells_apart)

    @property
    def is_hung(self) -> bool:
        """Whether it has a request that could not be stopped."""
        return self._queue.is_hung

    def presence(self) -> Presence:
        """How it answers; it does so once its model is loaded."""
        found = self._queue.presence()
        if found is Presence.AWAY:
            self._models = []
        return found

    def attach(self, picture: bytes) -> str:
        """A picture as the web UI takes it."""
        return pybase64.b64encode(picture).decode()

    def generate(self, job: Job, run: Run) -> Output:
        """Run the job, with its checkpoint or else the runtime's own where checkpoints are dynamic."""
        path, label = _PATHS[job.task], job.label
        name = run.id if job.task in _GENERATIONS else None
        body = self._body(job, run, name)
        del job  # its inputs are large, and the body has them
        answer = _checked(self._queue.generate(path, body, run, name))
        pictures = tuple(_decoded(item) for item in _pictures(answer))
        if not pictures:
            raise NoPicturesError("the web UI made no picture")
        return Output(pictures, _response(_parameters(answer, label)))

    def failed_response(self, job: Job, error: JobError, reason: JsonValue) -> dict[str, JsonValue]:
        """The record of a job that failed."""
        return _response({"id_task": job.label, "status": 0, "error_msg": error.message, "reason": reason})

    def _body(self, job: Job, run: Run, name: str | None) -> bytes:
        """The body of a job's request, as JSON."""
        content = job.content
        checkpoint = job.checkpoint or self._checkpoint
        if self._dynamic_checkpoint and checkpoint and name:
            content = _with_checkpoint(content, self._title(checkpoint, run))
        return to_json({**content, "force_task_id": name} if name else content)

    def _title(self, name: str, run: Run) -> str:
        """The web UI's own name of a checkpoint. One that it does not know is looked for on its disk."""
        title = self._known_title(name) or self._listed_title(name)
        if title is None:
            _checked(self._queue.control("sdapi/v1/refresh-checkpoints", run))
            title = self._listed_title(name)
        if title is None:
            raise EngineRefusedError(f"the runtime has no checkpoint '{name}'", field="checkpoint")
        return title

    def _known_title(self, name: str) -> str | None:
        return next((model["title"] for model in self._models if _is_called(model, name)), None)

    def _listed_title(self, name: str) -> str | None:
        answer = self._queue.get("sdapi/v1/sd-models")
        self._models = _checked(Answer(answer.status_code, answer.content))
        return self._known_title(name)


def _is_called(model: dict[str, Any], name: str) -> bool:
    title = model["title"]
    # The title has the file's hash, once that is known: "model.safetensors [31e35c80fc]".
    names = (title, title.partition(" [")[0], model.get("model_name"), PurePath(model.get("filename") or "").name)
    return name in names


def _with_checkpoint(content: dict[str, JsonValue], title: str) -> dict[str, JsonValue]:
    """The body of a request that has the web UI load a checkpoint first. One that is wrong is for the web UI to say."""
    settings = content.get("override_settings") or {}
    if not isinstance(settings, dict):
        return content
    return {**content, "override_settings": {**settings, "sd_model_checkpoint": title}}


def _checked(answer: Answer) -> Any:
    """The answer's JSON, when it is a success. 4xx is the request's fault, anything else the web UI's."""
    body: Any = None
    with suppress(ValueError):
        body = from_json(answer.body)
    if answer.status == 200:
        return body
    message, field = _complaint(body)
    message = message or f"the web UI answers {answer.status}"
    if 400 <= answer.status < 500 or message == _BAD_PICTURE:
        raise EngineRefusedError(message, field=field, reason=body)
    raise EngineFailedError(message, reason=body)


def _complaint(body: JsonValue) -> tuple[str, str | None]:
    """The message of an error, and the field that it is about: FastAPI's list, or the web UI's own object."""
    if not isinstance(body, dict):
        return "", None
    detail = body.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        where = detail[0].get("loc")
        path = [str(part) for part in where[1:]] if isinstance(where, list) else []
        return str(detail[0].get("msg", "")), ".".join(["content", *path])
    return str(detail or body.get("errors") or body.get("error") or ""), None


def _pictures(answer: Any) -> list[str]:
    if not isinstance(answer, dict):
        raise EngineFailedError("the web UI answers with something else than JSON")
    images = answer.get("images")
    return images if isinstance(images, list) else [image for image in [answer.get("image")] if image]


def _decoded(picture: str) -> bytes:
    data = picture.partition(",")[2] if picture.startswith("data:") else picture
    try:
        return pybase64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise EngineFailedError("the web UI answers with a picture that is not base64") from error


def _response(parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"images": [""], "parameters": parameters, "info": ""}


def _parameters(answer: dict[str, Any], label: str) -> dict[str, JsonValue]:
    if "parameters" not in answer:
        return {"html_info": answer.get("html_info", ""), "id_task": label, "error_msg": ""}
    seeds: list[int] = []
    with suppress(ValueError, KeyError, TypeError):
        seeds = json.loads(answer["info"])["all_seeds"]
    return {
        **answer["parameters"],
        "id_task": label,
        "image_seed": ",".join(map(str, seeds)),
        "error_msg": "",
    }
