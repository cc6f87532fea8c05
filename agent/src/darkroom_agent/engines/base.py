"""What the agent asks of an engine, and what both engines' clients share."""

import math
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import httpx
from pydantic import JsonValue

from darkroom_agent.clock import Clock
from darkroom_agent.errors import AgentError, EngineLostError, EngineUnavailableError, TimedOutError
from darkroom_contract.errors import JobError
from darkroom_contract.job import Job

#: Why a job is not waited for that is behind one which cannot be stopped.
HANGS = "the runtime hangs in another job"


class Presence(StrEnum):
    """How an engine answers."""

    READY = "ready"
    #: It is there, but gives no answer in time, or none that is good.
    BUSY = "busy"
    #: It accepts no connection, or breaks it. What answers next is another process.
    AWAY = "away"


class Run:
    """One run of a job: the engine's client writes how far it is, and asks whether it may go on.

    Any thread may abort it; the thread that waits for the engine learns of it at once.
    """

    def __init__(self, clock: Clock, timeout_seconds: float) -> None:
        self.clock = clock
        #: The engine's name for the run, where it takes one.
        self.id = str(uuid.uuid4())
        self.timeout_seconds = timeout_seconds
        self._preparing_until = clock.now() + timeout_seconds
        self._news = threading.Event()
        # Several threads may see it begin; one of them says so.
        self._beginning = threading.Lock()
        self._aborted: AgentError | None = None
        #: When the engine began it, by the clock; None while it waits.
        self.begun_at: float | None = None
        #: Called when the engine begins it; it must not block.
        self.on_begin: Callable[[], object] = lambda: None
        #: The share that is done, 0 to 1.
        self.progress = 0.0
        #: When the first and the last progress was seen, and what it was.
        self._first_progress = self._last_progress = (0.0, 0.0)

    def begin(self) -> None:
        """Note that the engine has begun the job: the time that it may take runs from now."""
        with self._beginning:
            if self.begun_at is not None:
                return
            self.begun_at = self.clock.now()
        self.on_begin()

    @property
    def seconds(self) -> float:
        """For how long the engine has been running it."""
        return 0.0 if self.begun_at is None else self.clock.now() - self.begun_at

    def abort(self, error: AgentError) -> None:
        """Let the run end with an error; the first one counts."""
        self._aborted = self._aborted or error
        self.wake()

    def wake(self) -> None:
        """End the wait of whoever waits for the run."""
        self._news.set()

    def wait(self, seconds: float) -> None:
        """Wait for news of the run, but no longer than so."""
        self.clock.wait(self._news, seconds)
        self._news.clear()

    def check(self) -> None:
        """Raises the error that the run was aborted with, or ``TimedOutError``."""
        if self._aborted is not None:
            raise self._aborted
        if self.begun_at is not None and self.clock.now() >= self.begun_at + self.timeout_seconds:
            raise TimedOutError(f"the job ran longer than {self.timeout_seconds:g} seconds")

    def seconds_to_prepare(self) -> float:
        """How long the preparation may still take; raises as ``check`` does."""
        self.check()
        return self._preparing_until - self.clock.now()

    def advance(self, progress: float) -> None:
        """Note the progress; it never goes back."""
        if progress > self.progress:
            self.progress = min(progress, 1.0)
            self._last_progress = (self.clock.now(), self.progress)
            if not self._first_progress[1]:
                self._first_progress = self._last_progress

    @property
    def seconds_left(self) -> float:
        """How long the engine will go on, by the progress that was seen; infinite while that says nothing."""
        (first_at, first), (last_at, last) = self._first_progress, self._last_progress
        if last <= first:
            return math.inf
        return max(0.0, last_at + (1 - last) * (last_at - first_at) / (last - first) - self.clock.now())


class Line:
    """The runs that an engine has, in the order in which it got them: the first one runs, the others wait.

    Only an engine that is through with the first one begins the next. If the first one leaves for any other reason, the
    engine may have gone or hang, and what it does is for the engine to say.
    """

    def __init__(self, is_blocked: Callable[[], bool]) -> None:
        """``is_blocked`` says whether the engine has a run that is in the line no more."""
        self._is_blocked = is_blocked
        self._lock = threading.Lock()
        self._runs: list[Run] = []

    @contextmanager
    def standing(self, run: Run) -> Iterator[None]:
        """Let a run stand in the line; leaving without an error says that the engine is through with it."""
        is_through = False
        with self._lock:
            self._runs.append(run)
            self._begin(run)
        try:
            yield
            is_through = True
        finally:
            with self._lock:
                self._runs.remove(run)
                if is_through and self._runs:
                    self._begin(self._runs[0])

    def seen(self, run: Run) -> None:
        """Note that the engine is there, and has a run: if nothing is before it, it has begun."""
        with self._lock:
            self._begin(run)

    def is_first(self, run: Run) -> bool:
        """Whether no other run is before it."""
        return self._runs[:1] == [run]

    def _begin(self, run: Run) -> None:
        if self.is_first(run) and not self._is_blocked():
            run.begin()


@dataclass(frozen=True)
class Output:
    """What an engine made of a job."""

    pictures: tuple[bytes, ...]
    #: For the record beside the pictures, as the AWS guidance writes it.
    response: dict[str, JsonValue]

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(map(len, self.pictures))


class RuntimeEngine(Protocol):
    """An engine on the other side of HTTP, called by several threads at once. No run sends a job twice."""

    @property
    def ahead(self) -> int:
        """How many jobs it may be sent beside the one that it runs: it can wait with them, and tell them apart."""

    @property
    def is_hung(self) -> bool:
        """Whether a run that had to end could not be stopped, and the engine has not been idle or away since."""

    def presence(self) -> Presence:
        """How it answers now. What could not be stopped is told to stop once more."""

    def attach(self, picture: bytes) -> str:
        """Give the engine an input picture; returns the value that stands for it in the content."""

    def generate(self, job: Job, run: Run) -> Output:
        """Run a job to its end, behind those that the engine has already.

        Raises a ``JobFailedError``, or the error that the run was aborted with: the engine then no longer has the job.
        """

    def failed_response(self, job: Job, error: JobError, reason: JsonValue) -> dict[str, JsonValue]:
        """The record of a job that failed; ``reason`` is what the engine answered, if it did."""


def runtime_client(url: str, read_seconds: float) -> httpx.Client:
    """A client for the runtime. Connections are not kept: a POST on one that just closed must not be sent again."""
    return httpx.Client(
        base_url=url,
        timeout=httpx.Timeout(60, connect=5, read=read_seconds),
        limits=httpx.Limits(max_keepalive_connections=0),
        trust_env=False,
    )


@contextmanager
def transport_errors(*, has_job: bool = False) -> Iterator[None]:
    """Say what trouble with a connection means for the job, and for one that the engine has already."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        kind = EngineLostError if has_job else EngineUnavailableError
        raise kind("the runtime accepts no connection") from error
    except httpx.ReadTimeout as error:
        raise TimedOutError("the runtime did not answer in time") from error
    except httpx.TransportError as error:
        raise EngineLostError("the connection to the runtime broke") from error


def presence(client: httpx.Client, path: str) -> Presence:
    """How a GET of a path is answered; READY is 200. The client must not keep its connections."""
    try:
        return Presence.READY if client.get(path, timeout=10).status_code == 200 else Presence.BUSY
    except httpx.TimeoutException:
        return Presence.BUSY
    except httpx.TransportError:
        return Presence.AWAY


def json_of(response: httpx.Response) -> JsonValue:
    """A response's body, when it is JSON."""
    try:
        body: JsonValue = response.json()
    except ValueError:
        return None
    return body
