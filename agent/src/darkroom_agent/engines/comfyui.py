"""The client of ComfyUI: a prompt is posted once under an id of ours, and its history is the truth about it.

The websocket only shows progress and says when to look; ComfyUI may drop it at any time.
"""

import hashlib
import json
import re
import time
import uuid
from contextlib import ExitStack, suppress
from logging import getLogger
from typing import Any, Self

import httpx
from pydantic import JsonValue
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from darkroom_agent.engines.base import Output, Run, answers, json_of, runtime_client, transport_errors
from darkroom_agent.errors import (
    EngineFailedError,
    EngineLostError,
    EngineRefusedError,
    NoPicturesError,
    TimedOutError,
    WorkflowFailedError,
)
from darkroom_agent.media import media_type
from darkroom_contract.errors import JobError
from darkroom_contract.job import Job

log = getLogger(__name__)

#: How long at most until the history is looked at, and until the run is checked.
_POLL_SECONDS = 2.0
_WAIT_SECONDS = 1.0
#: How long one question may take, and how many in a row may get no answer. A busy ComfyUI may be slow.
_POLL_TIMEOUT_SECONDS = 20.0
_MOST_UNANSWERED = 3
#: Exceptions of PyTorch, of the GPU's driver and of the operating system, whatever node they come from.
_MACHINE_TROUBLE = re.compile(
    r"out ?of ?memory|CUDA (error|driver|kernel)|no CUDA|NVIDIA driver|cuDNN|cuBLAS|AcceleratorError"
    r"|^OSError:|\[Errno|No space left",
    re.IGNORECASE,
)


class ComfyUI:
    """The ComfyUI of one runtime."""

    def __init__(self, url: str) -> None:
        self._http = runtime_client(url, read_seconds=60)
        self._socket_url = f"ws{url.removeprefix('http').rstrip('/')}/ws"

    def is_ready(self) -> bool:
        """Whether it answers."""
        return answers(self._http, "/system_stats")

    def attach(self, picture: bytes) -> str:
        """Upload a picture under a name made of its bytes: the same picture is one file, and ComfyUI's caches help."""
        kind = media_type(picture)
        name = f"darkroom-{hashlib.sha256(picture).hexdigest()}{kind.extension}"
        with transport_errors():
            files = {"image": (name, picture, kind.name)}
            response = self._http.post("/upload/image", files=files, data={"overwrite": "true"})
        if response.status_code != 200:
            raise EngineFailedError(f"ComfyUI answers the upload of an input with {response.status_code}")
        stored = response.json()
        return "/".join(part for part in (stored.get("subfolder"), stored["name"]) if part)

    def generate(self, job: Job, run: Run) -> Output:
        """Run a workflow to its end."""
        client_id = uuid.uuid4().hex
        with _Events(f"{self._socket_url}?clientId={client_id}") as events:
            prompt_id = self._submit(job.content, client_id)
            try:
                entry = self._finished(prompt_id, events, run)
            except BaseException:
                self._abandon(prompt_id)
                raise
        _check_status(entry)
        pictures = tuple(self._view(file) for file in _files(entry))
        if not pictures:
            raise NoPicturesError("the workflow saved no file; let it end in a node that does, SaveImage say")
        return Output(pictures, {"code": 200})

    def failed_response(self, job: Job, error: JobError, reason: JsonValue) -> dict[str, JsonValue]:  # noqa: ARG002
        """The record of a job that failed: the AWS guidance's, which does not say why."""
        return {"code": 500}

    def _submit(self, workflow: dict[str, JsonValue], client_id: str) -> str:
        """Post a prompt; returns its id. When the answer is lost, the prompt may run all the same: never again then."""
        prompt_id = str(uuid.uuid4())
        body = {"prompt": workflow, "prompt_id": prompt_id, "client_id": client_id}
        try:
            with transport_errors():
                response = self._http.post("/prompt", json=body)
        except (EngineLostError, TimedOutError):
            return prompt_id
        answer = json_of(response)
        if 400 <= response.status_code < 500:
            raise _refusal(answer)
        if response.status_code != 200:
            raise EngineFailedError(f"ComfyUI answers the prompt with {response.status_code}", reason=answer)
        accepted = answer if isinstance(answer, dict) else {}
        # Old versions give prompts ids of their own.
        prompt_id = str(accepted.get("prompt_id", prompt_id))
        if accepted.get("node_errors"):  # ComfyUI runs the rest of the workflow
            self._abandon(prompt_id)
            raise _refusal(answer)
        return prompt_id

    def _finished(self, prompt_id: str, events: "_Events", run: Run) -> dict[str, Any]:
        """Wait until the prompt is in the history; its entry. One answer that is lost says nothing of the prompt."""
        next_look, unanswered = 0.0, 0
        while True:
            run.check()
            if not events.tell(prompt_id, run) and time.monotonic() < next_look:
                continue
            try:
                if entry := self._look(prompt_id):
                    return entry
                unanswered = 0
            except httpx.TimeoutException:
                log.info("ComfyUI is busy")
            except httpx.HTTPError as error:
                unanswered += 1
                if unanswered == _MOST_UNANSWERED:
                    raise EngineLostError("ComfyUI went away") from error
            next_look = time.monotonic() + _POLL_SECONDS

    def _look(self, prompt_id: str) -> dict[str, Any] | None:
        """The prompt's entry in the history, once it has ended.

        Raises ``EngineLostError`` when ComfyUI does not know the prompt, and httpx's errors.
        """
        entry = self._history(prompt_id)
        if entry is None and not self._is_queued(prompt_id):
            entry = self._history(prompt_id)  # it may have ended between the two questions
            if entry is None:
                raise EngineLostError("ComfyUI does not know the prompt any more; it may have restarted")
        return entry

    def _history(self, prompt_id: str) -> dict[str, Any] | None:
        entry = self._ask(f"/history/{prompt_id}").get(prompt_id)
        return entry if isinstance(entry, dict) else None

    def _is_queued(self, prompt_id: str) -> bool:
        queue = self._ask("/queue")
        items: list[Any] = [*_list(queue.get("queue_running")), *_list(queue.get("queue_pending"))]
        return any(item[1] == prompt_id for item in items)

    def _ask(self, path: str) -> dict[str, Any]:
        response = self._http.get(path, timeout=_POLL_TIMEOUT_SECONDS).raise_for_status()
        answer = json_of(response)
        if not isinstance(answer, dict):
            raise httpx.DecodingError(f"{path} is answered with something else than JSON")
        return answer

    def _view(self, file: dict[str, Any]) -> bytes:
        names = {key: file.get(key, "") for key in ("filename", "subfolder", "type")}
        with transport_errors(has_job=True):
            response = self._http.get("/view", params=names)
        if response.status_code != 200:
            raise EngineFailedError(f"ComfyUI answers {response.status_code} for a file that it saved")
        return response.content

    def _abandon(self, prompt_id: str) -> None:
        """Stop a prompt, whether it runs or waits."""
        with suppress(httpx.HTTPError):
            self._http.post("/queue", json={"delete": [prompt_id]}, timeout=10)
        with suppress(httpx.HTTPError):
            self._http.post("/interrupt", json={"prompt_id": prompt_id}, timeout=10)


class _Events:
    """ComfyUI's websocket, opened again when it breaks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: ClientConnection | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def tell(self, prompt_id: str, run: Run) -> bool:
        """Wait a little for an event, and note the progress; whether there is reason to look at the history."""
        if self._socket is None and not self._open():
            time.sleep(_WAIT_SECONDS)
            return False
        try:
            return self._note(self._socket.recv(timeout=_WAIT_SECONDS), prompt_id, run) if self._socket else False
        except TimeoutError:
            return False
        except (WebSocketException, OSError):
            self._close()
            return True

    def _note(self, text: str | bytes, prompt_id: str, run: Run) -> bool:
        """Whether an event of the prompt says that it ended. What is no event, a preview say, says nothing."""
        if isinstance(text, bytes):
            return False
        with suppress(ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            event = json.loads(text)
            kind, data = event["type"], event["data"]
            if data["prompt_id"] == prompt_id:
                if kind == "progress":
                    run.advance(data["value"] / data["max"])
                return bool(kind == "executing" and data["node"] is None)
        return False

    def _open(self) -> bool:
        with suppress(WebSocketException, OSError):
            socket = connect(self._url, proxy=None, compression=None, open_timeout=5, close_timeout=1, max_size=None)
            self._socket = self._opened.enter_context(socket)
        return self._socket is not None

    def _close(self) -> None:
        with suppress(WebSocketException, OSError):
            self._opened.close()
        self._socket = None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _refusal(answer: JsonValue) -> EngineRefusedError:
    """The error of a prompt that ComfyUI calls invalid: the first node that it names, and the input of it."""
    body: dict[str, Any] = answer if isinstance(answer, dict) else {}
    error = body.get("error")
    message = (error.get("message") if isinstance(error, dict) else error) or "ComfyUI calls the workflow invalid"
    by_node = body.get("node_errors")
    for node, trouble in by_node.items() if isinstance(by_node, dict) else ():
        for item in trouble.get("errors", []):
            name = (item.get("extra_info") or {}).get("input_name")
            return EngineRefusedError(
                f"{item.get('message', message)}: {item.get('details', '')}".removesuffix(": "),
                node=node,
                field=f"content.{node}.inputs.{name}" if name else f"content.{node}",
                reason=answer,
            )
    return EngineRefusedError(str(message), reason=answer)


def _check_status(entry: dict[str, Any]) -> None:
    """Raises what the history says went wrong. The machine's trouble may pass; a node's own exception will not."""
    status = entry.get("status") or {}
    for name, data in status.get("messages") or []:
        if name == "execution_interrupted":
            raise EngineFailedError("ComfyUI was told to interrupt the workflow", node=data.get("node_id"))
        if name == "execution_error":
            node, text = data.get("node_id"), str(data.get("exception_message", "")).strip()
            kind = EngineFailedError if _is_the_machines(data) else WorkflowFailedError
            raise kind(f"{data.get('node_type', 'node')} {node}: {text}", node=node)
    if status.get("status_str") == "error":
        raise EngineFailedError("ComfyUI failed without a cause")


def _is_the_machines(data: dict[str, Any]) -> bool:
    return bool(_MACHINE_TROUBLE.search(f"{data.get('exception_type', '')}: {data.get('exception_message', '')}"))


def _files(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Every file that the workflow's nodes name, of whatever medium: those to keep, or else the previews."""
    files = [
        item
        for node in (entry.get("outputs") or {}).values()
        for medium in node.values()
        for item in _list(medium)
        if isinstance(item, dict) and item.get("filename")
    ]
    kept = [file for file in files if file.get("type") == "output"]
    return kept or [file for file in files if file.get("type") == "temp"]
