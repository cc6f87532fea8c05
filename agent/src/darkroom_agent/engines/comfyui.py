"""The client of ComfyUI: a prompt is posted once under an id of ours, and its history is the truth about it.

ComfyUI keeps a queue of its own: the next prompt waits there while one runs, and each is stopped by its id.
"""

import uuid
from contextlib import suppress
from enum import StrEnum
from logging import getLogger
from typing import Any

import httpx
from pydantic import JsonValue

from darkroom_agent.engines.base import (
    HANGS,
    Line,
    Output,
    Presence,
    Run,
    json_of,
    presence,
    runtime_client,
    transport_errors,
)
from darkroom_agent.engines.comfyui_data import (
    Entry,
    File,
    Workflow,
    cached_nodes,
    check_accepted,
    check_classes,
    check_status,
    files,
    is_success,
    named_files,
    refusal,
    with_nodes_anew,
)
from darkroom_agent.engines.comfyui_events import Events
from darkroom_agent.engines.comfyui_files import Leftovers, input_name
from darkroom_agent.errors import (
    EngineFailedError,
    EngineLostError,
    EngineUnavailableError,
    HandedBackError,
    NoPicturesError,
    TimedOutError,
    TransientError,
    WorkflowFailedError,
)
from darkroom_agent.media import media_type
from darkroom_agent.settings import Settings
from darkroom_contract.errors import JobError
from darkroom_contract.job import Job

log = getLogger(__name__)

#: Of all files of a job together.
MAX_OUTPUT_BYTES = 256 * 1024 * 1024
#: How long at most until the history is looked at, should no event say that it is time.
_POLL_SECONDS = 2.0
#: How long one question may take, and how many in a row may get no answer. A busy ComfyUI may be slow.
_POLL_TIMEOUT_SECONDS = 10.0
_MOST_UNANSWERED = 3
#: How long it may answer nothing at all while no run has begun that would time out: it may load a large model.
_MOST_SILENT_SECONDS = 300.0
#: How long ComfyUI may take to let go of a prompt, how often it is told to, and how long one of these calls may take.
_STOP_SECONDS = 15.0
_STOP_POLL_SECONDS = 0.5
_STOP_TIMEOUT_SECONDS = 5.0
_FILE_GONE = "ComfyUI does not find a file that it saved"


class _Place(StrEnum):
    """Where in ComfyUI's queue a prompt is."""

    RUNNING = "queue_running"
    WAITING = "queue_pending"


class _CachedFileGoneError(EngineFailedError):
    """Files of an earlier prompt, which ComfyUI has in its cache and no longer on its disk."""

    def __init__(self, node: str, nodes: set[str]) -> None:
        """``nodes`` are those that have to be executed again; ``node`` is the one to tell."""
        super().__init__(_FILE_GONE, node=node)
        self.nodes = nodes


class ComfyUI:
    """The ComfyUI of one runtime."""

    #: Each prompt in ComfyUI's queue has its own id.
    ahead = 1

    def __init__(self, settings: Settings) -> None:
        url = settings.runtime_url.rstrip("/")
        self._http = runtime_client(url, read_seconds=30)
        self._events = Events(f"ws{url.removeprefix('http')}/ws")
        self._allowed_nodes = settings.allowed_nodes
        self._denied_nodes = settings.denied_nodes
        self._leftovers = Leftovers(settings)
        self._line = Line(lambda: self.is_hung)
        #: The prompts that ComfyUI did not let go of.
        self._unstopped: set[str] = set()

    @property
    def is_hung(self) -> bool:
        """Whether ComfyUI still has a prompt that it was told to stop."""
        return bool(self._unstopped)

    def presence(self) -> Presence:
        """How it answers. Prompts that it did not let go of are told to stop once more."""
        found = presence(self._http, "/system_stats")
        if found is Presence.AWAY:
            self._unstopped.clear()
        for prompt_id in list(self._unstopped):
            with suppress(httpx.HTTPError):
                if self._has_stopped(prompt_id):
                    self._unstopped.discard(prompt_id)
        return found

    def attach(self, picture: bytes) -> str:
        """Upload a picture. Nothing is overwritten: a prompt may be reading the file."""
        name = input_name(picture)
        self._leftovers.keep_input(name)
        with transport_errors():
            response = self._http.post("/upload/image", files={"image": (name, picture, media_type(picture).name)})
        if response.status_code != 200:
            raise EngineFailedError(f"ComfyUI answers the upload of an input with {response.status_code}")
        stored = response.json()
        return "/".join(part for part in (stored.get("subfolder"), stored["name"]) if part)

    def generate(self, job: Job, run: Run) -> Output:
        """Run a workflow to its end. One whose files are gone although ComfyUI has them in its cache is run again."""
        check_classes(job.content, self._allowed_nodes, self._denied_nodes)
        try:
            return self._output(job.content, run.id, run)
        except _CachedFileGoneError as error:
            log.info("files in ComfyUI's cache are gone from its disk")
            nodes = error.nodes
        other_id = str(uuid.uuid4())
        return self._output(with_nodes_anew(job.content, nodes, other_id), other_id, run)

    def failed_response(self, job: Job, error: JobError, reason: JsonValue) -> dict[str, JsonValue]:  # noqa: ARG002
        """The record of a job that failed: the AWS guidance's, which does not say why."""
        return {"code": 500}

    def _output(self, workflow: Workflow, prompt_id: str, run: Run) -> Output:
        run.check()
        with self._line.standing(run):
            prompt_id, entry = self._execute(workflow, prompt_id, run)
        try:
            check_status(entry)
            pictures = self._pictures(entry)
        finally:
            self._forget(prompt_id, entry)
        if not pictures:
            raise NoPicturesError("the workflow saved no file; let it end in a node that does, SaveImage say")
        return Output(pictures, {"code": 200})

    # A prompt in ComfyUI's queue

    def _execute(self, workflow: Workflow, prompt_id: str, run: Run) -> tuple[str, Entry]:
        """Post a prompt and wait for its end; its id and its entry in the history."""
        answer = self._post(workflow, prompt_id)
        # Old versions give prompts ids of their own.
        prompt_id = str(answer.get("prompt_id", prompt_id))
        with self._events.telling(prompt_id, run):
            try:
                check_accepted(answer)
                return prompt_id, self._ended(prompt_id, run)
            except BaseException as error:
                self._stop(prompt_id, run)
                # What was finished all the same is not thrown away, unless the client wants it no more.
                is_wanted = isinstance(error, (HandedBackError, TransientError))
                entry = self._remembered(prompt_id)
                if is_wanted and entry and is_success(entry):
                    return prompt_id, entry
                self._forget(prompt_id, entry)
                raise

    def _post(self, workflow: Workflow, prompt_id: str) -> dict[str, Any]:
        """Post a prompt; the answer, empty when it is lost. The prompt may run all the same: never again then."""
        body = {"prompt": workflow, "prompt_id": prompt_id, "client_id": self._events.client_id}
        try:
            with transport_errors():
                response = self._http.post("/prompt", json=body)
        except (EngineLostError, TimedOutError):
            return {}
        answer = json_of(response)
        if 400 <= response.status_code < 500:
            raise refusal(answer)
        if response.status_code != 200:
            raise EngineFailedError(f"ComfyUI answers the prompt with {response.status_code}", reason=answer)
        return answer if isinstance(answer, dict) else {}

    def _ended(self, prompt_id: str, run: Run) -> Entry:
        """Wait until the prompt is in the history; its entry. One answer that is lost says nothing of the prompt."""
        unanswered, heard_at = 0, run.clock.now()
        while True:
            run.check()
            try:
                if entry := self._look(prompt_id, run):
                    return entry
                unanswered, heard_at = 0, run.clock.now()
            except httpx.TimeoutException:
                log.info("ComfyUI is busy")
            except httpx.HTTPError as error:
                unanswered += 1
                if unanswered == _MOST_UNANSWERED:
                    raise EngineLostError("ComfyUI went away") from error
            if run.begun_at is None:
                self._check_turn(run, heard_at)
            run.wait(_POLL_SECONDS)

    def _check_turn(self, run: Run, heard_at: float) -> None:
        """Raises ``EngineUnavailableError`` when the turn of a run that waits will not come."""
        if self.is_hung:
            raise EngineUnavailableError(HANGS)
        # The run before it has a deadline of its own.
        if self._line.is_first(run) and run.clock.now() - heard_at >= _MOST_SILENT_SECONDS:
            raise EngineUnavailableError("ComfyUI answers nothing")

    def _look(self, prompt_id: str, run: Run) -> Entry | None:
        """The prompt's entry in the history, once it has ended.

        Raises ``EngineLostError`` when ComfyUI does not know the prompt, and httpx's errors.
        """
        if entry := self._history(prompt_id):
            return entry
        place = self._queue().get(prompt_id)
        if place is _Place.RUNNING:
            run.begin()
        if place is not None:
            self._line.seen(run)
            return None
        if entry := self._history(prompt_id):  # it ended between the two questions
            return entry
        raise EngineLostError("ComfyUI does not know the prompt; it may have restarted")

    def _stop(self, prompt_id: str, run: Run) -> None:
        """Have ComfyUI let go of a prompt, whether it waits or runs; note when it does not."""
        deadline = run.clock.now() + _STOP_SECONDS
        while True:
            with suppress(httpx.HTTPError):
                if self._has_stopped(prompt_id):
                    return
            if run.clock.now() >= deadline:
                break
            run.wait(_STOP_POLL_SECONDS)
        log.error("ComfyUI does not let go of a prompt")
        self._unstopped.add(prompt_id)

    def _has_stopped(self, prompt_id: str) -> bool:
        """Whether ComfyUI has a prompt no more; if it does, it is told to stop it. Raises httpx's errors."""
        try:
            place = self._queue(_STOP_TIMEOUT_SECONDS).get(prompt_id)
        except httpx.ConnectError:
            return True  # ComfyUI is away, and its queue with it
        if place is _Place.RUNNING:
            # Old versions ignore the id and interrupt whatever runs: so only while it is ours.
            self._http.post("/interrupt", json={"prompt_id": prompt_id}, timeout=_STOP_TIMEOUT_SECONDS)
        elif place is _Place.WAITING:
            self._http.post("/queue", json={"delete": [prompt_id]}, timeout=_STOP_TIMEOUT_SECONDS)
        return place is None

    def _remembered(self, prompt_id: str) -> Entry | None:
        """The entry of a prompt, if there is one, and ComfyUI gives it."""
        with suppress(httpx.HTTPError):
            return self._history(prompt_id)
        return None

    def _history(self, prompt_id: str) -> Entry | None:
        entry = self._ask(f"/history/{prompt_id}", _POLL_TIMEOUT_SECONDS).get(prompt_id)
        return entry if isinstance(entry, dict) else None

    def _queue(self, timeout: float = _POLL_TIMEOUT_SECONDS) -> dict[str, _Place]:
        """The places of all prompts that wait or run, by their ids."""
        queue = self._ask("/queue", timeout)
        # An item is a list: number, id, prompt, …
        return {item[1]: place for place in _Place for item in queue.get(place) or []}

    def _ask(self, path: str, timeout: float) -> dict[str, Any]:
        response = self._http.get(path, timeout=timeout).raise_for_status()
        answer = json_of(response)
        if not isinstance(answer, dict):
            raise httpx.DecodingError(f"{path} is answered with something else than JSON")
        return answer

    def _forget(self, prompt_id: str, entry: Entry | None) -> None:
        """Have ComfyUI forget a prompt that has ended, and delete its files; it would keep thousands."""
        with suppress(httpx.HTTPError):
            self._http.post("/history", json={"delete": [prompt_id]}, timeout=_STOP_TIMEOUT_SECONDS)
        if entry:
            # Those of cached nodes are an earlier prompt's: they are gone, or others have their names by now.
            cached = cached_nodes(entry)
            self._leftovers.delete(file for node, file in named_files(entry) if node not in cached)

    # The files of a prompt that has ended

    def _pictures(self, entry: Entry) -> tuple[bytes, ...]:
        pictures: list[bytes] = []
        made, cached = files(entry), cached_nodes(entry)
        # What this run itself saved is in the cache too by the next one, and deleted.
        nodes = {node for node, _ in made}
        for node, file in made:
            if node in cached and self._leftovers.are_deleted:
                raise _CachedFileGoneError(node, nodes)
            picture = self._view(file, node, MAX_OUTPUT_BYTES - sum(map(len, pictures)))
            if picture is None:
                raise _CachedFileGoneError(node, nodes) if node in cached else EngineFailedError(_FILE_GONE, node=node)
            pictures.append(picture)
        return tuple(pictures)

    def _view(self, file: File, node: str, limit: int) -> bytes | None:
        """Read a file of at most ``limit`` bytes; None where there is none."""
        names = {key: file.get(key, "") for key in ("filename", "subfolder", "type")}
        data = bytearray()
        with transport_errors(has_job=True), self._http.stream("GET", "/view", params=names) as response:
            if response.status_code == 404:
                return None
            if response.status_code != 200:
                raise EngineFailedError(f"ComfyUI answers {response.status_code} for a file that it saved", node=node)
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > limit:
                    message = (
                        f"the files of a job may have {MAX_OUTPUT_BYTES} bytes together; save fewer or smaller ones"
                    )
                    raise WorkflowFailedError(message, node=node)
        return bytes(data)
