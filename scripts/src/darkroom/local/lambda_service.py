"""AWS Lambda on loopback: execution environments as processes that speak Lambda's runtime API.

Each environment runs AWS's own runtime client (``awslambdaric``), as in the image that is deployed, and serves one
invocation at a time. Source: Lambda developer guide, "Using the Lambda runtime API for custom runtimes".

One thing differs: Lambda starts an environment for every invocation that finds none idle. As many processes would only
be in each other's way, so there are a few, and further invocations wait for one of them.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from darkroom.local.http import QuietHandler
from darkroom.local.processes import Child, stop_all

logger = logging.getLogger(__name__)

#: Lambda's limit on the payload of a synchronous invocation, in bytes (developer guide, "Lambda quotas").
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024

#: How many environments there are at most.
_MOST_ENVIRONMENTS = 4

_ROUTES = Map(
    [
        Rule("/<environment>/2018-06-01/runtime/invocation/next", endpoint="next", methods=["GET"]),
        Rule("/<environment>/2018-06-01/runtime/invocation/<request_id>/response", endpoint="response"),
        Rule("/<environment>/2018-06-01/runtime/invocation/<request_id>/error", endpoint="error"),
        Rule("/<environment>/2018-06-01/runtime/init/error", endpoint="init_error"),
    ]
)


class InvocationFailed(Exception):  # noqa: N818 - it says what happened
    """The function did not answer: it raised, ended, or took longer than its timeout."""


class PayloadTooLarge(Exception):  # noqa: N818 - it says what happened
    """The event is larger than Lambda takes."""


class TooManyRequests(Exception):  # noqa: N818 - Lambda's own name
    """As many invocations run as the function may have at once."""


@dataclass(frozen=True)
class FunctionConfiguration:
    """What a composed Function says of itself. Seconds, MiB."""

    name: str
    arn: str
    timeout: float
    memory: int
    #: How many invocations may run at once.
    concurrency: int
    variables: Mapping[str, str]


@dataclass(eq=False)
class _Invocation:
    payload: bytes
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer: Future[Any] = field(default_factory=Future)

    def fail(self, reason: str) -> None:
        self.answer.set_exception(InvocationFailed(reason))


@dataclass(eq=False)
class _Environment:
    process: Child
    #: Whether it ever asked for an invocation.
    started: bool = False
    running: _Invocation | None = None


class LambdaService:
    """One function and its environments."""

    def __init__(self, function: FunctionConfiguration, handler: str, logs: Path) -> None:
        self._function = function
        self._handler = handler
        self._logs = logs
        self._waiting: deque[_Invocation] = deque()
        self._environments: dict[str, _Environment] = {}
        #: Guards what is above; notified when an invocation comes, an environment ends, or everything stops.
        self._changed = threading.Condition()
        self._stopping = False
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=QuietHandler)
        threading.Thread(target=self._server.serve_forever, name="Lambda runtime API", daemon=True).start()

    def start(self) -> None:
        """Start the first environment before anybody asks for it."""
        with self._changed:
            self._start_environment()

    def invoke(self, event: Mapping[str, Any], within: float) -> Any:
        """The function's answer to an event.

        Raises ``PayloadTooLarge``, ``TooManyRequests``, ``InvocationFailed``, or ``TimeoutError`` when it takes longer
        than ``within`` seconds, the caller's own limit.
        """
        payload = json.dumps(event).encode()
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge
        invocation = _Invocation(payload)
        with self._changed:
            if self._stopping:
                raise InvocationFailed("the function is being stopped")
            if self._wanted() >= self._function.concurrency:
                raise TooManyRequests
            self._waiting.append(invocation)
            self._start_wanted()
            self._changed.notify_all()
        try:
            return invocation.answer.result(timeout=within)
        except TimeoutError:
            with self._changed:
                if invocation in self._waiting:
                    self._waiting.remove(invocation)
            raise

    @property
    def environments(self) -> list[Child]:
        """The environments that run."""
        with self._changed:
            return [environment.process for environment in self._environments.values()]

    def stop(self) -> None:
        """End every environment and the runtime API."""
        with self._changed:
            self._stopping = True
            while self._waiting:
                self._waiting.popleft().fail("the function was stopped")
            self._changed.notify_all()
        stop_all(self.environments)
        self._server.shutdown()
        self._server.server_close()

    def _wanted(self) -> int:
        """How many environments there would be at Lambda."""
        return len(self._waiting) + sum(it.running is not None for it in self._environments.values())

    def _start_wanted(self) -> None:
        while not self._stopping and len(self._environments) < min(self._wanted(), _MOST_ENVIRONMENTS):
            self._start_environment()

    def _start_environment(self) -> None:
        name = f"lambda-{uuid.uuid4().hex[:8]}"
        function = self._function
        variables = {
            **function.variables,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}/{name}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "_HANDLER": self._handler,
        }
        process = self._spawn(name, variables)
        self._environments[name] = _Environment(process)
        threading.Thread(target=self._watch, args=(name, process), name=f"{name} watch", daemon=True).start()

    def _spawn(self, name: str, variables: Mapping[str, str]) -> Child:
        """The process of an environment: the image's own entry point, without the image."""
        return Child(name, ["awslambdaric", self._handler], variables, self._logs / "lambda.log")

    def _watch(self, name: str, process: Child) -> None:
        """When an environment ends, fail what it was doing or was started for, as Lambda does."""
        process.wait()
        with self._changed:
            environment = self._environments.pop(name)
            if environment.running is not None:
                environment.running.fail("the execution environment ended")
            elif not environment.started and self._waiting:
                self._waiting.popleft().fail("the execution environment could not start")
            self._start_wanted()
            self._changed.notify_all()

    def _take(self, name: str) -> _Invocation | None:
        """The next invocation for an environment; None once that has ended."""
        with self._changed:
            environment = self._environments.get(name)
            if environment is None:
                return None
            environment.started = True
            self._changed.wait_for(lambda: self._stopping or name not in self._environments or self._waiting)
            if self._stopping or name not in self._environments:
                return None
            environment.running = invocation = self._waiting.popleft()
        # Lambda ends an environment whose invocation takes longer than the function's timeout.
        timer = threading.Timer(self._function.timeout, environment.process.kill)
        timer.daemon = True
        timer.start()
        invocation.answer.add_done_callback(lambda _: timer.cancel())
        return invocation

    def _finish(self, name: str, request_id: str) -> _Invocation | None:
        """The environment's invocation, taken from it; None when that is another one by now."""
        with self._changed:
            environment = self._environments.get(name)
            if environment is None or environment.running is None or environment.running.request_id != request_id:
                return None
            invocation, environment.running = environment.running, None
            return invocation

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        try:
            endpoint, values = _ROUTES.bind_to_environ(environ).match()
        except HTTPException as error:
            return error(environ, start_response)
        answer = getattr(self, f"_on_{endpoint}")(request, **values)
        return answer(environ, start_response)

    def _on_next(self, _request: Request, environment: str) -> Response:
        invocation = self._take(environment)
        if invocation is None:
            return NotFound().get_response()
        return Response(
            invocation.payload,
            content_type="application/json",
            headers={
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self._function.timeout) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": self._function.arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):x}-{uuid.uuid4().hex[:24]};Sampled=0",
            },
        )

    def _on_response(self, request: Request, environment: str, request_id: str) -> Response:
        invocation = self._finish(environment, request_id)
        if invocation is not None:
            invocation.answer.set_result(json.loads(request.get_data()))
        return Response(status=202)

    def _on_error(self, _request: Request, environment: str, request_id: str) -> Response:
        invocation = self._finish(environment, request_id)
        if invocation is not None:
            invocation.fail("the function raised an exception; see its log")
        return Response(status=202)

    def _on_init_error(self, _request: Request, environment: str) -> Response:
        logger.error("%s could not start; see the function's log", environment)
        return Response(status=202)
