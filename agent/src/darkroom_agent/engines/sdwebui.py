"""The client of AUTOMATIC1111's web UI: one POST runs a job, and answers with its pictures in base64."""

import base64
import binascii
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import httpx
from pydantic import JsonValue

from darkroom_agent.engines.base import Output, Run, answers, json_of, runtime_client, transport_errors
from darkroom_agent.errors import AgentError, EngineFailedError, EngineRefusedError, NoPicturesError
from darkroom_agent.settings import Settings
from darkroom_contract.errors import JobError
from darkroom_contract.job import Job
from darkroom_contract.types import Task

_PATHS = {
    Task.TEXT_TO_IMAGE: "txt2img",
    Task.IMAGE_TO_IMAGE: "img2img",
    Task.EXTRA_SINGLE_IMAGE: "extra-single-image",
    Task.EXTRA_BATCH_IMAGES: "extra-batch-images",
}
_PROGRESS_SECONDS = 1.0
#: The one fault of a request that the web UI answers with 500.
_BAD_PICTURE = "Invalid encoded image"


class WebUI:
    """The web UI of one runtime."""

    def __init__(self, settings: Settings) -> None:
        url = f"{settings.runtime_url.rstrip('/')}/sdapi/v1/"
        # The run's own deadline comes first.
        self._http = runtime_client(url, read_seconds=settings.job_timeout_seconds + 60)
        self._dynamic_checkpoint = settings.dynamic_checkpoint
        self._checkpoint = settings.checkpoint

    def is_ready(self) -> bool:
        """Whether it answers; it does so once its model is loaded."""
        return answers(self._http, "options")

    def attach(self, picture: bytes) -> str:
        """A picture as the web UI takes it."""
        return base64.b64encode(picture).decode()

    def generate(self, job: Job, run: Run) -> Output:
        """Load the job's checkpoint, or else the runtime's own, if it is not loaded; then run the job."""
        checkpoint = job.checkpoint or self._checkpoint
        if self._dynamic_checkpoint and checkpoint:
            self._load_checkpoint(checkpoint, run)
        answer = self._post(_PATHS[job.task], job.content, run, shows_progress=True)
        pictures = tuple(_decoded(item) for item in _pictures(answer))
        if not pictures:
            raise NoPicturesError("the web UI made no picture")
        return Output(pictures, _response(_parameters(answer, job.label)))

    def failed_response(self, job: Job, error: JobError, reason: JsonValue) -> dict[str, JsonValue]:
        """The record of a job that failed."""
        return _response({"id_task": job.label, "status": 0, "error_msg": error.message, "reason": reason})

    def _load_checkpoint(self, name: str, run: Run) -> None:
        current = self._get("options").get("sd_model_checkpoint") or ""
        # The web UI adds the file's hash: "model.safetensors [31e35c80fc]".
        if name in (current, current.partition(" [")[0]):
            return
        self._post("refresh-checkpoints", {}, run)
        title = next((model["title"] for model in self._get("sd-models") if _is_called(model, name)), None)
        if title is None:
            raise EngineRefusedError(f"the runtime has no checkpoint '{name}'", field="checkpoint")
        with suppress(EngineFailedError, EngineRefusedError):  # none may be loaded
            self._post("unload-checkpoint", {}, run)
        self._post("options", {"sd_model_checkpoint": title}, run)

    def _get(self, path: str) -> Any:
        with transport_errors():
            return _checked(self._http.get(path, timeout=60))

    def _post(self, path: str, body: dict[str, JsonValue], run: Run, *, shows_progress: bool = False) -> Any:
        """POST once and wait for the answer; interrupts the web UI when the run ends without it."""
        answer = _in_thread(lambda: self._http.post(path, json=body))
        try:
            while not wait([answer], timeout=_PROGRESS_SECONDS).done:
                run.check()
                if shows_progress:
                    run.advance(self._progress())
            with transport_errors():
                response = answer.result()
        except AgentError:
            with suppress(httpx.HTTPError):
                self._http.post("interrupt", timeout=10)
            raise
        return _checked(response)

    def _progress(self) -> float:
        with suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
            answer = self._http.get("progress", params={"skip_current_image": "true"}, timeout=10)
            return float(answer.json()["progress"])
        return 0.0


def _in_thread(call: Callable[[], httpx.Response]) -> Future[httpx.Response]:
    """Call in a thread that does not keep the process from ending, should the web UI never answer."""
    answer: Future[httpx.Response] = Future()

    def resolve() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001 - raised again where the answer is taken
            answer.set_exception(error)

    threading.Thread(target=resolve, name="web-ui-request", daemon=True).start()
    return answer


def _checked(response: httpx.Response) -> Any:
    """The answer, when it is a success. 4xx is the request's fault, anything else the web UI's."""
    body = json_of(response)
    if response.status_code == 200:
        return body
    message, field = _complaint(body)
    message = message or f"the web UI answers {response.status_code}"
    if 400 <= response.status_code < 500 or message == _BAD_PICTURE:
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


def _is_called(model: dict[str, Any], name: str) -> bool:
    return name in (model.get("title"), model.get("model_name"), PurePath(model.get("filename") or "").name)


def _pictures(answer: Any) -> list[str]:
    if not isinstance(answer, dict):
        raise EngineFailedError("the web UI answers with something else than JSON")
    images = answer.get("images")
    return images if isinstance(images, list) else [image for image in [answer.get("image")] if image]


def _decoded(picture: str) -> bytes:
    data = picture.partition(",")[2] if picture.startswith("data:") else picture
    try:
        return base64.b64decode(data, validate=True)
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
