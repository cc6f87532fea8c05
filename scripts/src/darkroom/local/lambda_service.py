"""AWS Lambda on loopback: execution environments as processes that speak Lambda's runtime API.

Each environment runs AWS's own runtime client (``awslambdaric``), as in the image that is deployed, and serves one
invocation at a time. Source: Lambda developer guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
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

#: How often an idle environment's request looks for an invocation.
_POLL_SECONDS = 0.005

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


@dataclass(frozen=True)
class FunctionConfiguration:
    """What a composed Function says of itself. Seconds, MiB."""

    name: str
    arn: str
    timeout: int
    memory: int
    concurrency: int
    variables: Mapping[str, str]


@dataclass
class _Invocation:
    payload: bytes
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer: Future[dict[str, Any]] = field(default_factory=Future)

    def fail(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(InvocationFailed(reason))


class LambdaService:
    """One function: as many environments as there are invocations at once, up to its concurrency."""

    def __init__(self, function: FunctionConfiguration, handler: str, logs: Path) -> None:
        self._function = function
        self._handler = handler
        self._logs = logs
        self._waiting: queue.SimpleQueue[_Invocation] = queue.SimpleQueue()
        self._running: dict[str, _Invocation] = {}
        self._environments: dict[str, Child] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=QuietHandler)
        threading.Thread(target=self._server.serve_forever, name="Lambda runtime API", daemon=True).start()

    def start(self) -> None:
        """Start the first environment before anybody asks for it."""
        with self._lock:
            self._start_environment()

    def invoke(self, event: Mapping[str, Any], within: float) -> dict[str, Any]:
        """The function's answer to an event.

        Raises ``PayloadTooLarge``, ``InvocationFailed``, or ``TimeoutError`` when it takes longer than ``within``
        seconds, the caller's own limit.
        """
        payload = json.dumps(event).encode()
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge
        invocation = _Invocation(payload)
        with self._lock:
            self._waiting.put(invocation)
            wanted = len(self._running) + self._waiting.qsize()
            if len(self._environments) < min(wanted, self._function.concurrency):
                self._start_environment()
        try:
            return invocation.answer.result(timeout=within)
        except FutureTimeoutError:
            raise TimeoutError from None

    @property
    def environments(self) -> list[Child]:
        """The environments that run."""
        with self._lock:
            return list(self._environments.values())

    def stop(self) -> None:
        """End every environment and the runtime API."""
        self._stopping = True
        stop_all(self.environments)
        self._server.shutdown()
        self._server.server_close()

    def _start_environment(self) -> None:
        name = f"lambda-{uuid.uuid4().hex[:8]}"
        function = self._function
        self._environments[name] = child = Child(
            name,
            ["awslambdaric", self._handler],
            {
                **function.variables,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}/{name}",
                "AWS_LAMBDA_FUNCTION_NAME": function.name,
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "_HANDLER": self._handler,
            },
            self._logs / "lambda.log",
        )
        threading.Thread(target=self._watch, args=(name, child), name=f"{name} watch", daemon=True).start()

    def _watch(self, name: str, child: Child) -> None:
        """Fail what an environment was doing when it ended, as Lambda does."""
        child.wait()
        with self._lock:
            del self._environments[name]
            invocation = self._running.pop(name, None)
            if invocation is not None:
                invocation.fail("the execution environment ended")
            if not self._environments:
                # Nobody is left to take them, and a function that cannot start would not take them either.
                while not self._waiting.empty():
                    self._waiting.get().fail("no execution environment is running")

    def _take(self, name: str) -> _Invocation | None:
        """The next invocation for an environment; None once that has ended."""
        while not self._stopping:
            with self._lock:
                if name not in self._environments:
                    return None
                if not self._waiting.empty():
                    self._running[name] = invocation = self._waiting.get()
                    return invocation
            time.sleep(_POLL_SECONDS)
        return None

    def _finish(self, name: str, request_id: str) -> _Invocation | None:
        with self._lock:
            invocation = self._running.get(name)
            if invocation is None or invocation.request_id != request_id:
                return None
            return self._running.pop(name)

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
        child = self._environments.get(environment)
        if child is not None:
            # Lambda ends an environment whose invocation takes longer than the function's timeout.
            timer = threading.Timer(self._function.timeout, child.kill)
            timer.daemon = True
            timer.start()
            invocation.answer.add_done_callback(lambda _: timer.cancel())
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
