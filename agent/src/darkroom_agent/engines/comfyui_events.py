"""ComfyUI's websocket: it shows progress, and says when to look at a prompt. Nothing depends on it but the pace.

One connection serves all runs. A thread reads it for as long as there are runs, and a little longer.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging import getLogger

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from darkroom_agent.clock import Clock
from darkroom_agent.engines.base import Run

log = getLogger(__name__)

#: How long one receive takes at most when nothing comes.
_RECEIVE_SECONDS = 1.0
#: How long the connection outlives the last run: the next one may come soon.
_LINGER_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0


class Events:
    """The events of one ComfyUI, told to the runs that they are about."""

    def __init__(self, url: str) -> None:
        self._url = url
        #: Whose prompt it is: ComfyUI sends its events to the connection of this name.
        self.client_id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._reader: threading.Thread | None = None
        self._wanted_at = 0.0

    @contextmanager
    def telling(self, prompt_id: str, run: Run) -> Iterator[None]:
        """Tell a run of its prompt: ``begin`` and ``advance`` it, and wake it when there is reason to look."""
        with self._lock:
            self._runs[prompt_id] = run
            if self._reader is None:
                self._reader = threading.Thread(
                    target=self._read, args=(run.clock,), name="comfyui-events", daemon=True
                )
                self._reader.start()
        try:
            yield
        finally:
            with self._lock:
                del self._runs[prompt_id]

    def _read(self, clock: Clock) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._has_ended(clock):
            try:
                with connect(
                    self._url_of_client,
                    proxy=None,
                    compression=None,
                    open_timeout=5,
                    close_timeout=1,
                    # While ComfyUI loads a model it may answer nothing, for longer than any ping should take.
                    ping_timeout=None,
                    max_size=None,
                ) as socket:
                    pause = _FIRST_PAUSE_SECONDS
                    self._receive(socket, clock)
            except (WebSocketException, OSError) as error:
                log.debug("no events", extra={"reason": str(error)})
                clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    @property
    def _url_of_client(self) -> str:
        return f"{self._url}?clientId={self.client_id}"

    def _receive(self, socket: ClientConnection, clock: Clock) -> None:
        # What came before nobody was told of, and of what comes after neither.
        self._wake_all()
        try:
            while self._is_wanted(clock):
                with suppress(TimeoutError):
                    self._note(socket.recv(timeout=_RECEIVE_SECONDS))
        finally:
            # ComfyUI forgets a client's newer connection when it notices late that the older one ended.
            self.client_id = uuid.uuid4().hex
            self._wake_all()

    def _note(self, text: str | bytes) -> None:
        """Tell the run that an event is about. What is no event, a preview say, says nothing."""
        if isinstance(text, bytes):
            return
        with suppress(ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            event = json.loads(text)
            kind, data = event["type"], event["data"]
            run = self._runs[data["prompt_id"]]
            # There are none before ComfyUI executes the prompt.
            run.begin()
            if kind == "progress":
                run.advance(data["value"] / data["max"])
            elif kind == "executing" and data["node"] is None:
                run.wake()

    def _wake_all(self) -> None:
        with self._lock:
            for run in self._runs.values():
                run.wake()

    def _is_wanted(self, clock: Clock) -> bool:
        """Whether there are runs, or were until now."""
        if self._runs:
            self._wanted_at = clock.now()
        return clock.now() - self._wanted_at < _LINGER_SECONDS

    def _has_ended(self, clock: Clock) -> bool:
        """Let the reader end when it is not wanted. The next run starts another."""
        with self._lock:
            if self._is_wanted(clock):
                return False
            self._reader = None
            return True
