"""An emulated AWS that notes every call, for tests that kill a command at one, or let AWS refuse one.

Commands run as processes of their own, forked from one that has them loaded already.
"""

import io
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from darkroom.cli import app
from tests.emulator import emulated_aws

_PROCESSES = multiprocessing.get_context("forkserver")
# With this module, which a process would otherwise load to find what it is to run.
_PROCESSES.set_forkserver_preload(["darkroom.commands.models", "darkroom.commands.image_cache", __name__])


@dataclass(frozen=True)
class Call:
    """A call of AWS."""

    method: str
    path: str
    query: dict[str, str]
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def action(self) -> str:
        """Its name, where AWS's protocol has one: ``RunInstances``; the method for S3."""
        if self.target:
            return self.target.rpartition(".")[2]
        if b"Action=" in self.body:
            return parse_qs(self.body.decode())["Action"][0]
        return self.method

    @classmethod
    def of(cls, environ: dict[str, Any]) -> "Call":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name[:5] == "HTTP_"}
        query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        return cls(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], query, headers.get("x-amz-target", ""), headers, body
        )


@dataclass(frozen=True)
class Refusal:
    """An error of AWS's instead of an answer."""

    code: str = "AccessDenied"
    status: int = 403

    def written(self, call: Call) -> tuple[str, bytes]:
        """Its content type and body, in the protocol of the call."""
        if call.target or "/clusters/" in call.path:
            return "application/x-amz-json-1.1", json.dumps({"__type": self.code, "message": "refused"}).encode()
        error = f"<Error><Code>{self.code}</Code><Message>refused</Message></Error>"
        is_s3 = call.action == call.method
        return "text/xml", (error if is_s3 else f"<Response><Errors>{error}</Errors></Response>").encode()


@dataclass
class WatchedAws:
    """What was called, and what happens when something is; numbers count from 1."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    #: Before a call has an effect; a refusal is answered in its place.
    before: Callable[[Call, int], Refusal | None] = lambda _call, _number: None
    #: When a call has had its effect, and its answer is not sent yet.
    after: Callable[[Call, int], None] = lambda _call, _number: None
    _running: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def forget(self) -> None:
        """Begin anew, with nothing in the way."""
        self.settle()
        self.calls.clear()
        self.before = lambda _call, _number: None
        self.after = lambda _call, _number: None

    def settle(self) -> None:
        """Wait until no call is being answered."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._running, 60)

    def answer(self, original: Callable[..., Any], app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        with self._changed:
            self._running += 1
        try:
            call = Call.of(environ)
            with self._changed:
                self.calls.append(call)
                number = len(self.calls)
            if refusal := self.before(call, number):
                kind, body = refusal.written(call)
                start_response(
                    f"{refusal.status} Refused", [("Content-Type", kind), ("Content-Length", str(len(body)))]
                )
                return [body]
            content = b"".join(original(app, environ, start_response))
            self.after(call, number)
            return [content]
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


@contextmanager
def watched_aws() -> Iterator[WatchedAws]:
    """Run the emulator for as long as the context lasts."""
    watched = WatchedAws()
    original = DomainDispatcherApplication.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            DomainDispatcherApplication,
            "__call__",
            lambda self, environ, start_response: watched.answer(original, self, environ, start_response),
        )
        with emulated_aws() as watched.url:
            yield watched


def start(arguments: list[str], url: str, log: Path) -> ForkServerProcess:
    """Start ``darkroom`` with arguments, beside an emulator at a URL; what it says goes into a file."""
    process = _PROCESSES.Process(target=_run, args=(arguments, url, str(log)), daemon=True)
    process.start()
    return process


def _run(arguments: list[str], url: str, log: str) -> None:
    with open(log, "a") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_MAX_ATTEMPTS": "1",
        "COLUMNS": "200",
    }
    sys.argv = ["darkroom", *arguments]
    app(arguments)
