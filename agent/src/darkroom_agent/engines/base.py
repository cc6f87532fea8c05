"""What the agent asks of an engine, and what both engines' clients share."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import httpx
from pydantic import JsonValue

from darkroom_agent.errors import EngineLostError, EngineUnavailableError, HandedBackError, TimedOutError
from darkroom_agent.lifecycle import Lifecycle
from darkroom_contract.errors import JobError
from darkroom_contract.job import Job


class Run:
    """One run of a job: the engine writes its progress, and asks whether it may go on."""

    def __init__(
        self, lifecycle: Lifecycle, timeout_seconds: float, is_lost: Callable[[], bool] = lambda: False
    ) -> None:
        """``is_lost``: whether the job has become another agent's."""
        self._lifecycle = lifecycle
        self._timeout = timeout_seconds
        self._is_lost = is_lost
        self._deadline = math.inf
        #: The share that is done, 0 to 1.
        self.progress = 0.0

    def begin(self) -> None:
        """Let the time that the job may take begin."""
        self._deadline = time.monotonic() + self._timeout

    def check(self) -> None:
        """Raises ``TimedOutError`` or ``HandedBackError`` when the run has to end."""
        self._lifecycle.beat()
        if self._lifecycle.is_out_of_time or self._is_lost():
            raise HandedBackError
        if time.monotonic() >= self._deadline:
            raise TimedOutError(f"the job ran longer than {self._timeout:g} seconds")

    def seconds_to_prepare(self) -> float:
        """How long the preparation may still take; raises as ``check`` does, and as soon as the agent is to stop."""
        self.check()
        if self._lifecycle.is_stopping:
            raise HandedBackError
        return self._deadline - time.monotonic()

    def advance(self, progress: float) -> None:
        """Note the progress; it never goes back."""
        self.progress = min(max(self.progress, progress), 1.0)


@dataclass(frozen=True)
class Output:
    """What an engine made of a job."""

    pictures: tuple[bytes, ...]
    #: For the record beside the pictures, as the AWS guidance writes it.
    response: dict[str, JsonValue]


class RuntimeEngine(Protocol):
    """An engine on the other side of HTTP. A job is never sent twice by one run."""

    def is_ready(self) -> bool:
        """Whether it takes jobs."""

    def attach(self, picture: bytes) -> str:
        """Give the engine an input picture; returns the value that stands for it in the content."""

    def generate(self, job: Job, run: Run) -> Output:
        """Run a job to its end; raises a ``JobFailedError``, or ``HandedBackError`` when the agent has to stop."""

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


def answers(client: httpx.Client, path: str) -> bool:
    """Whether a GET of a path is answered with 200."""
    try:
        return client.get(path, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def json_of(response: httpx.Response) -> JsonValue:
    """A response's body, when it is JSON."""
    try:
        body: JsonValue = response.json()
    except ValueError:
        return None
    return body
