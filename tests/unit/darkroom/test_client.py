"""The client sends again what may be sent again, and nothing else."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from darkroom.client import Client, RequestRefused
from darkroom_contract.types import Task
from darkroom_contract.v1 import JobStatus, JobView, SubmitRequest


def view(status: JobStatus = JobStatus.ACCEPTED, progress: float | None = None) -> JobView:
    return JobView(
        id="a",
        status=status,
        runtime="webui",
        task=Task.TEXT_TO_IMAGE,
        output_location="s3://bucket/a",
        submitted_at=datetime(2030, 1, 1, tzinfo=UTC),
        progress=progress,
    )


HANGS_UP = 0
REQUEST = SubmitRequest(runtime="webui", content={"prompt": "a"})


class Api(ThreadingHTTPServer):
    """Gives the answers that it was told, one a request; the last one again and again."""

    def __init__(self, answers: list[int | JobView]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.requests: list[tuple[str, str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.command, self.path, json.loads(content or "null")))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == HANGS_UP:
            self.close_connection = True
            return
        status, body = (200, answer.to_json()) if isinstance(answer, JobView) else (answer, "{}")
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815 - the server's own name

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def served(
    *answers: int | JobView, patience: float = 60, on_retry: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[Api, Client]]:
    with Api(list(answers)) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{api.server_port}/prod"
        with Client(url, "key", on_retry=on_retry, patience=patience, pause=0) as client:
            yield api, client
        api.shutdown()


@pytest.mark.parametrize("trouble", [429, 503, HANGS_UP])
def test_whoever_waits_is_told_of_each_retry_and_may_end_it(trouble: int) -> None:
    class StoppedError(Exception):
        pass

    told = []

    def on_retry(tries: int) -> None:
        told.append(tries)
        if tries == 3:
            raise StoppedError

    with served(trouble, on_retry=on_retry) as (api, client), pytest.raises(StoppedError):
        client.job("a")
    assert told == [1, 2, 3]
    assert len(api.requests) == 3


@pytest.mark.parametrize("trouble", [429, 500, 502, 503, 504, HANGS_UP])
def test_a_submission_with_an_id_is_sent_again(trouble: int) -> None:
    with served(trouble, trouble, view()) as (api, client):
        assert client.submit(REQUEST.model_copy(update={"id": "a"})) == view()
    assert len(api.requests) == 3
    assert api.requests[0] == api.requests[2]
    assert api.requests[0][:2] == ("POST", "/prod/v1/jobs")


@pytest.mark.parametrize("trouble", [500, 502, 503, 504])
def test_a_submission_without_an_id_is_not_sent_again_when_it_may_have_been_taken(trouble: int) -> None:
    with served(trouble, view()) as (api, client), pytest.raises(RequestRefused) as refusal:
        client.submit(REQUEST)
    assert refusal.value.status == trouble
    assert len(api.requests) == 1


def test_a_submission_without_an_id_whose_answer_is_lost_is_not_sent_again() -> None:
    with served(HANGS_UP, view()) as (api, client), pytest.raises(httpx.RemoteProtocolError):
        client.submit(REQUEST)
    assert len(api.requests) == 1


def test_a_submission_that_was_not_taken_is_sent_again_even_without_an_id() -> None:
    with served(429, view()) as (_, client):
        assert client.submit(REQUEST) == view()


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
def test_a_refusal_is_final(status: int) -> None:
    with served(status, view()) as (api, client), pytest.raises(RequestRefused):
        client.job("a")
    assert len(api.requests) == 1


@pytest.mark.parametrize(("trouble", "raised"), [(503, RequestRefused), (HANGS_UP, httpx.RemoteProtocolError)])
def test_patience_ends(trouble: int, raised: type[Exception]) -> None:
    with served(trouble, patience=-1) as (api, client), pytest.raises(raised):
        client.job("a")
    assert len(api.requests) == 1


@pytest.mark.parametrize("trouble", [429, 503, HANGS_UP])
def test_to_cancel_a_job_may_be_asked_again_and_again(trouble: int) -> None:
    with served(trouble, view(JobStatus.CANCELLED)) as (api, client):
        assert client.cancel("a").status is JobStatus.CANCELLED
    assert api.requests == [("POST", "/prod/v1/jobs/a/cancel", None)] * 2


def test_a_url_that_is_none_is_said_at_once() -> None:
    with Client("darkroom.example/prod", "key") as client, pytest.raises(httpx.UnsupportedProtocol):
        client.job("a")


def test_a_job_is_seen_each_time_that_it_moved() -> None:
    running, done = view(JobStatus.RUNNING, progress=0.5), view(JobStatus.COMPLETED)
    with served(view(), view(), running, 503, running, done) as (api, client):
        assert list(client.follow(view())) == [view(), running, done]
    assert len(api.requests) == 6


def test_following_ends_when_what_is_done_meanwhile_fails() -> None:
    def fail() -> None:
        raise InterruptedError

    with served(view()) as (api, client), pytest.raises(InterruptedError):
        list(client.follow(view(), fail))
    assert not api.requests
