"""A request that the web UI answers when it is through with it: sent in a thread, its answer bounded."""

import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import httpx

from darkroom_agent.engines.base import Run, transport_errors
from darkroom_agent.errors import EngineLostError, EngineUnavailableError, InvalidTaskError

#: The most that an answer may have: pictures in base64.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
#: What is sent at once of a body, so that sending it takes no more memory than it does itself.
_PIECE_BYTES = 1024 * 1024
#: A job's answer may take as long as the job and those before it: the run's own deadline ends the wait.
_NO_DEADLINE = httpx.Timeout(60, connect=5, read=None)


@dataclass(frozen=True)
class Answer:
    """What the web UI answered."""

    status: int
    body: bytes | bytearray


class Post:
    """A request on its way, in a thread that does not keep the process from ending, should there be no answer."""

    def __init__(self, http: httpx.Client, path: str, body: bytes, run: Run, name: str | None = None) -> None:
        """``body`` is JSON."""
        self.run = run
        #: By which the web UI knows it; None when it takes none, and is not to be interrupted.
        self.name = name
        #: Whether an interrupt may have hit it.
        self.is_cut = False
        #: When it has to be over, once it was given up.
        self._due_at = math.inf
        self._answer: Future[Answer] = Future()
        threading.Thread(target=self._send, args=(http, path, body), name="web-ui-request", daemon=True).start()

    def _send(self, http: httpx.Client, path: str, body: bytes) -> None:
        try:
            with transport_errors():
                answer = _read(http, path, body)
        except EngineLostError as error:
            # The job before it may have brought the web UI down: that is no start of this one.
            has_begun = self.run.begun_at is not None
            self._answer.set_exception(error if has_begun else EngineUnavailableError(error.message))
        except Exception as error:  # noqa: BLE001 - raised again where the answer is taken
            self._answer.set_exception(error)
        else:
            self._answer.set_result(answer)
        self.run.wake()

    @property
    def is_over(self) -> bool:
        """Whether there is an answer, or will be none."""
        return self._answer.done()

    @property
    def is_success(self) -> bool:
        """Whether there is an answer, and it is a good one."""
        return self.is_over and self._answer.exception() is None and self._answer.result().status == 200

    def give_up(self, *, was_active: bool) -> None:
        """Note that nobody waits for it any more. What could not be interrupted may take the time that it has."""
        run, now = self.run, self.run.clock.now()
        if self.name is not None and run.begun_at is not None and was_active:
            self._due_at = now
        else:
            self._due_at = (run.begun_at or now) + run.timeout_seconds

    @property
    def is_stuck(self) -> bool:
        """Whether it was given up, and should be over by now."""
        return not self.is_over and self.run.clock.now() >= self._due_at

    def answer(self) -> Answer:
        """The answer; raises what went wrong on the way."""
        return self._answer.result()


def _read(http: httpx.Client, path: str, body: bytes) -> Answer:
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        # Base64 is not worth the time that its compression takes.
        "Accept-Encoding": "identity",
    }
    with http.stream("POST", path, content=_pieces(body), headers=headers, timeout=_NO_DEADLINE) as response:
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                most = f"{MAX_ANSWER_BYTES // 1024**2} MiB"
                raise InvalidTaskError(f"the web UI's answer is larger than {most}: ask for fewer or smaller pictures")
        return Answer(response.status_code, data)


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + _PIECE_BYTES] for start in range(0, len(body), _PIECE_BYTES))
