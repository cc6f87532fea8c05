"""The client of the web UI: jobs that wait in its queue, and how exactly one of them is stopped."""

import base64
import io
import json
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from PIL import Image

from darkroom_agent.clock import Clock
from darkroom_agent.engines import sdwebui_post, sdwebui_queue
from darkroom_agent.engines.base import Output, Presence, Run
from darkroom_agent.engines.sdwebui import WebUI
from darkroom_agent.errors import (
    CancelledError,
    EngineFailedError,
    EngineLostError,
    EngineRefusedError,
    EngineUnavailableError,
    HandedBackError,
    InvalidTaskError,
    TimedOutError,
)
from darkroom_agent.settings import Settings
from darkroom_contract.job import Api, Job
from darkroom_contract.types import Task, utcnow
from darkroom_demo.server import DemoServer, serving
from tests.unit.agent.support import PRESENCES, SMALL, eventually, held, picture

#: Longer than any test.
ENDLESS = 1_000_000
STEP = 0.02


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdwebui_queue, "_FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(sdwebui_queue, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(sdwebui_queue, "_STOP_LOOK_SECONDS", 0.02)
    # A demo runtime on a busy machine is slow, and does not hang.
    monkeypatch.setattr(sdwebui_queue, "_STOP_SECONDS", 60)
    monkeypatch.setattr(sdwebui_queue, "_QUESTION_SECONDS", 60)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def steady() -> Iterator[DemoServer]:
    """A web UI with this test's jobs alone."""
    with serving("sdwebui", seconds_per_step=STEP) as server:
        yield server


@pytest.fixture
def steady_webui(steady: DemoServer) -> str:
    """Its URL."""
    return steady.url


def client(url: str, **changes: Any) -> WebUI:
    """A client that has met its web UI."""
    values = {
        "queue_url": "https://queue",
        "dead_letter_queue_url": "https://dead-letters",
        "result_topic_arn": "arn:aws:sns:us-east-1:123456789012:results",
        "output_bucket": "outputs",
        "engine": "sdwebui",
        "runtime_name": "sdxl",
        "runtime_url": url,
    }
    engine = WebUI(Settings.model_validate({**values, **changes}))
    engine.presence()
    return engine


def job(content: dict[str, Any], task: Task = Task.TEXT_TO_IMAGE, checkpoint: str | None = None) -> Job:
    return Job(
        api=Api.DIRECT,
        job_id="job",
        tenant="default",
        label="job",
        runtime="sdxl",
        task=task,
        checkpoint=checkpoint,
        content=content,
        submitted_at=utcnow(),
    )


def generation(seed: int = 1, steps: int = 2, checkpoint: str | None = None, **content: Any) -> Job:
    return job({**SMALL, "seed": seed, "steps": steps, **content}, checkpoint=checkpoint)


def upscale() -> Job:
    content = {"image": base64.b64encode(picture()).decode(), "upscaler_1": "Lanczos"}
    return job(content, Task.EXTRA_SINGLE_IMAGE)


def new_run(timeout_seconds: float = 60) -> Run:
    return Run(Clock(), timeout_seconds)


def place(url: str, run: Run) -> dict[str, Any]:
    """What the web UI says of a run."""
    found: dict[str, Any] = httpx.post(f"{url}/internal/progress", json={"id_task": run.id}).json()
    return found


def state(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/sdapi/v1/progress").json()["state"]
    return found


def is_idle(url: str) -> bool:
    return bool(state(url)["job_count"] == 0)


def model(output: Output) -> str:
    """The checkpoint that a picture was made with, as its own text says."""
    text: str = Image.open(io.BytesIO(output.pictures[0])).info["parameters"]
    return text.partition("Model: ")[2].partition(",")[0]


# Two jobs in the engine


@contextmanager
def sent_ahead(
    pool: ThreadPoolExecutor, engine: WebUI, server: DemoServer, first: Job, second: Job
) -> Iterator[tuple[list[Run], list[Future[Output]]]]:
    """Two jobs: the first runs, the second waits in the web UI's queue, for as long as the context lasts."""
    runs = [new_run(), new_run()]
    with held(server.tempo):
        answers = [pool.submit(engine.generate, first, runs[0])]
        eventually(lambda: place(server.url, runs[0])["active"])
        answers.append(pool.submit(engine.generate, second, runs[1]))
        eventually(lambda: place(server.url, runs[1])["queued"])
        yield runs, answers


def test_two_jobs_run_one_after_the_other_and_both_come_out_right(
    webui: str, steady: DemoServer, pool: ThreadPoolExecutor
) -> None:
    jobs = [generation(seed=1, steps=40), generation(seed=2, steps=5)]
    with sent_ahead(pool, client(steady.url), steady, jobs[0], jobs[1]) as (runs, (first, second)):
        assert runs[1].begun_at is None
    undisturbed = client(webui)
    assert first.result().pictures == undisturbed.generate(jobs[0], new_run()).pictures
    assert second.result().pictures == undisturbed.generate(jobs[1], new_run()).pictures
    assert runs[0].begun_at is not None
    assert runs[1].begun_at is not None
    assert runs[0].begun_at < runs[1].begun_at


def test_a_web_ui_that_tells_its_requests_apart_may_be_sent_one_ahead(webui: str) -> None:
    assert client(webui).ahead == 1


def test_a_web_ui_without_the_internal_api_runs_one_job_and_is_sent_none_ahead(pool: ThreadPoolExecutor) -> None:
    with serving("sdwebui", seconds_per_step=STEP, nowebui=True) as server:
        engine, run = client(server.url), new_run()
        assert engine.ahead == 0
        stopped = pool.submit(engine.generate, generation(steps=ENDLESS), run)
        eventually(lambda: run.progress > 0)
        run.abort(CancelledError())
        with pytest.raises(CancelledError):
            stopped.result()
        assert is_idle(server.url)
        assert len(engine.generate(generation(), new_run()).pictures) == 1


def test_how_many_it_may_be_sent_ahead_is_learnt_anew_when_it_was_away() -> None:
    with serving("sdwebui") as server:
        engine = client(server.url)
        assert engine.ahead == 1
    assert engine.presence() is Presence.AWAY
    assert engine.ahead == 0


def test_a_job_runs_under_the_name_of_its_run(webui: str) -> None:
    run = new_run()
    output = client(webui).generate(generation(force_task_id="mine"), run)
    parameters = output.response["parameters"]
    assert isinstance(parameters, dict)
    assert parameters["force_task_id"] == run.id


def test_the_progress_follows_the_web_uis(steady_webui: str, pool: ThreadPoolExecutor) -> None:
    engine, run = client(steady_webui), new_run()
    answer = pool.submit(engine.generate, generation(steps=ENDLESS), run)
    eventually(lambda: 0 < run.progress < 1)
    httpx.post(f"{steady_webui}/sdapi/v1/interrupt")
    assert len(answer.result().pictures) == 1


# Stopping one of them


@pytest.mark.parametrize("error", [CancelledError, HandedBackError])
def test_a_running_job_is_interrupted_and_the_one_behind_it_comes_out_whole(
    webui: str, steady: DemoServer, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture, error: Any
) -> None:
    engine, whole = client(steady.url), generation(seed=2, steps=20)
    with sent_ahead(pool, engine, steady, generation(steps=ENDLESS), whole) as (runs, (first, second)):
        runs[0].abort(error())
        with pytest.raises(error):
            first.result()
    assert second.result().pictures == client(webui).generate(whole, new_run()).pictures
    assert "run again" not in caplog.text
    assert not engine.is_hung


def test_a_waiting_job_is_interrupted_when_its_turn_comes_and_the_running_one_is_not(
    webui: str, steady: DemoServer, pool: ThreadPoolExecutor
) -> None:
    whole = generation(seed=1, steps=40)
    with sent_ahead(pool, client(steady.url), steady, whole, generation(steps=ENDLESS)) as (runs, (first, second)):
        runs[1].abort(HandedBackError())
    with pytest.raises(HandedBackError):
        second.result()
    assert place(steady.url, runs[0])["completed"]
    assert is_idle(steady.url)
    assert first.result().pictures == client(webui).generate(whole, new_run()).pictures


def test_both_jobs_are_stopped_when_both_are_handed_back(steady_webui: str, pool: ThreadPoolExecutor) -> None:
    engine, runs = client(steady_webui), (new_run(), new_run())
    answers = [pool.submit(engine.generate, generation(steps=ENDLESS), run) for run in runs]
    eventually(lambda: sum(place(steady_webui, run)["active"] for run in runs))
    for run in reversed(runs):
        run.abort(HandedBackError())
    for answer in answers:
        with pytest.raises(HandedBackError):
            answer.result()
    assert is_idle(steady_webui)


def test_a_job_that_runs_too_long_is_interrupted(steady_webui: str) -> None:
    with pytest.raises(TimedOutError):
        client(steady_webui).generate(generation(steps=ENDLESS), new_run(timeout_seconds=0.3))
    assert is_idle(steady_webui)


def test_a_run_that_was_aborted_before_is_not_sent(webui: str) -> None:
    run = new_run()
    run.abort(HandedBackError())
    with pytest.raises(HandedBackError):
        client(webui).generate(generation(), run)
    assert place(webui, run) == place(webui, run) | {"active": False, "queued": False, "completed": False}


class LateInterrupt(httpx.BaseTransport):
    """Holds an interrupt back until the job that it was meant for has ended, and the next one runs."""

    def __init__(self, url: str, following: Run) -> None:
        self.url = url
        self.following = following
        self.interrupts = 0
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/sdapi/v1/interrupt":
            self.interrupts += 1
            httpx.post(f"{self.url}/sdapi/v1/interrupt")
            eventually(lambda: place(self.url, self.following)["active"])
        return self._inner.handle_request(request)


def test_a_job_that_was_hit_by_the_interrupt_of_another_is_run_again(
    webui: str, steady: DemoServer, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    engine, whole = client(steady.url), generation(seed=2, steps=20)
    with sent_ahead(pool, engine, steady, generation(steps=ENDLESS), whole) as (runs, (first, second)):
        late = LateInterrupt(steady.url, runs[1])
        engine._queue._questions = httpx.Client(base_url=steady.url, transport=late)
        runs[0].abort(HandedBackError())
        with pytest.raises(HandedBackError):
            first.result()
    assert second.result().pictures == client(webui).generate(whole, new_run()).pictures
    assert late.interrupts == 1
    assert "run again" in caplog.text


# Web UIs that are in trouble


class FakeWebUI:
    """A web UI that does as it is told: its requests wait until they are released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        #: What it does with a request that was released; the first is 0.
        self.answer: Callable[[BaseHTTPRequestHandler, int], None] = _with_picture
        #: What it says of every request but those that wait.
        self.place = {"active": True, "queued": False, "completed": False}
        self.posts: list[str] = []
        #: What came last to be run.
        self.body: dict[str, Any] = {}
        self.interrupts = 0
        #: How many interrupts it loses.
        self.lost = 0
        self.answers_questions = True
        #: How often it was asked how far it is.
        self.questions = 0

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.rpartition("/")[2]
        body = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length", 0))) or "{}")
        if path in {"txt2img", "extra-single-image"}:
            number = len(self.posts)
            self.body = body
            self.posts.append(body.get("force_task_id", path))
            self.released.wait()
            self.answer(handler, number)
        elif path == "refresh-checkpoints":
            self.posts.append(path)
            self.released.wait()
            _reply(handler, {})
        elif not self.answers_questions:
            self.released.wait()
        elif path == "progress":
            self.questions += 1
            waits = body["id_task"] in self.posts[1:]
            _reply(handler, {"active": False, "queued": True, "completed": False} if waits else self.place)
        else:
            self.interrupts += path == "interrupt"
            _reply(handler, {})

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        if not self.answers_questions:
            self.released.wait()
        if handler.path.endswith("sd-models"):
            _reply(handler, [])
        else:
            self.questions += 1
            _reply(handler, {"progress": 0.1, "state": {"interrupted": self.interrupts > self.lost}})


def _reply(handler: BaseHTTPRequestHandler, body: Any) -> None:
    data = json.dumps(body).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def _with_picture(handler: BaseHTTPRequestHandler, number: int) -> None:
    _reply(handler, {"images": [base64.b64encode(picture()).decode()], "parameters": {}, "info": "{}"})


def _with_half_an_answer(handler: BaseHTTPRequestHandler, number: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"images": [')
    handler.close_connection = True


@contextmanager
def pretending(fake: FakeWebUI) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fake.get(self)

        def do_POST(self) -> None:
            fake.post(self)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that left

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def fake() -> FakeWebUI:
    return FakeWebUI()


@pytest.fixture
def fake_url(fake: FakeWebUI, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(sdwebui_queue, "_STOP_SECONDS", 0.5)
    monkeypatch.setattr(sdwebui_queue, "_QUESTION_SECONDS", 0.2)
    with pretending(fake) as url:
        yield url
        fake.released.set()


def begun(
    pool: ThreadPoolExecutor, engine: WebUI, fake: FakeWebUI, work: Job | None = None, clock: Clock | None = None
) -> tuple[Run, Future[Output]]:
    """A job that has come to the web UI."""
    run, before = Run(clock or Clock(), 60), len(fake.posts)
    answer = pool.submit(engine.generate, work or generation(), run)
    eventually(lambda: len(fake.posts) > before)
    return run, answer


@pytest.mark.parametrize("lost", [0, 1])
def test_a_web_ui_whose_job_cannot_be_interrupted_hangs_until_it_answers_and_is_told_but_once(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor, lost: int
) -> None:
    fake.lost = lost
    engine = client(fake_url)
    run, answer = begun(pool, engine, fake)
    run.abort(HandedBackError())
    with pytest.raises(HandedBackError):
        answer.result()
    assert fake.interrupts == lost + 1
    assert engine.is_hung
    assert engine.presence() is Presence.READY
    assert engine.is_hung
    fake.released.set()
    eventually(lambda: not engine.is_hung)


def test_a_web_ui_hangs_no_more_when_it_is_idle(fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor) -> None:
    engine = client(fake_url)
    run, answer = begun(pool, engine, fake)
    run.abort(HandedBackError())
    with pytest.raises(HandedBackError):
        answer.result()
    assert engine.is_hung
    fake.place = {"active": False, "queued": False, "completed": False}
    engine.presence()
    assert not engine.is_hung


def test_a_web_ui_that_answers_nothing_hangs_until_it_is_restarted(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor
) -> None:
    engine = client(fake_url)
    run, answer = begun(pool, engine, fake)
    fake.answers_questions = False
    run.abort(TimedOutError("too long"))
    with pytest.raises(TimedOutError):
        answer.result()
    assert fake.interrupts == 0
    assert engine.is_hung
    fake.answer = _with_half_an_answer  # its process ends
    fake.released.set()
    eventually(lambda: not engine.is_hung)


def test_a_web_ui_hangs_no_more_when_it_is_away(
    fake: FakeWebUI, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdwebui_queue, "_STOP_SECONDS", 0.1)
    with pretending(fake) as url:
        engine = client(url)
        run, answer = begun(pool, engine, fake)
        run.abort(HandedBackError())
        with pytest.raises(HandedBackError):
            answer.result()
    assert engine.is_hung
    assert engine.presence() is Presence.AWAY
    assert not engine.is_hung
    fake.released.set()


@pytest.mark.parametrize("is_aborted", [True, False])
def test_a_job_does_not_wait_behind_one_that_hangs(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor, is_aborted: bool
) -> None:
    engine = client(fake_url)
    run, answer = begun(pool, engine, fake)
    waiting_run, waiting = begun(pool, engine, fake)
    if is_aborted:
        waiting_run.abort(HandedBackError())
    run.abort(CancelledError())
    with pytest.raises(CancelledError):
        answer.result()
    with pytest.raises(HandedBackError if is_aborted else EngineUnavailableError):
        waiting.result()
    assert engine.is_hung
    fake.released.set()
    eventually(lambda: not engine.is_hung)


def test_an_upscale_is_waited_for_and_never_interrupted(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor
) -> None:
    engine = client(fake_url)
    run, answer = begun(pool, engine, fake, upscale())
    run.abort(HandedBackError())
    fake.released.set()
    assert len(answer.result().pictures) == 1
    assert fake.interrupts == 0


class HandClock(Clock):
    """A clock that can be put forward."""

    seconds_ahead = 0.0

    def now(self) -> float:
        return super().now() + self.seconds_ahead


@pytest.mark.parametrize("error", [HandedBackError, CancelledError])
def test_an_upscale_that_is_given_up_hangs_when_its_time_is_over(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor, error: Any
) -> None:
    engine, clock = client(fake_url), HandClock()
    run, answer = begun(pool, engine, fake, upscale(), clock)
    run.abort(error())
    with pytest.raises(error):
        answer.result()
    assert not engine.is_hung
    clock.seconds_ahead = 60
    assert engine.is_hung
    assert fake.interrupts == 0
    fake.released.set()
    eventually(lambda: not engine.is_hung)


def test_an_upscale_that_takes_too_long_hangs(fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor) -> None:
    engine, clock = client(fake_url), HandClock()
    _, answer = begun(pool, engine, fake, upscale(), clock)
    clock.seconds_ahead = 60
    with pytest.raises(TimedOutError):
        answer.result()
    assert engine.is_hung


@pytest.mark.parametrize("is_named", [True, False])
def test_a_job_behind_an_upscale_that_was_given_up_begins_when_that_is_over(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor, is_named: bool
) -> None:
    engine, clock = client(fake_url), HandClock()
    second_may_end = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            second_may_end.wait()
        _with_picture(handler, number)

    fake.answer = answer
    run, first = begun(pool, engine, fake, upscale())
    run.abort(CancelledError())
    with pytest.raises(CancelledError):
        first.result()
    waiting_run, second = begun(pool, engine, fake, generation() if is_named else upscale(), clock)
    clock.seconds_ahead = 60
    looks = fake.questions
    eventually(lambda: fake.questions > looks + 2)
    assert waiting_run.begun_at is None
    fake.released.set()
    eventually(lambda: waiting_run.begun_at)
    second_may_end.set()
    assert len(second.result().pictures) == 1


def test_a_job_that_is_aborted_does_not_wait_for_an_upscale_that_was_given_up(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor
) -> None:
    engine = client(fake_url)
    first_run, first = begun(pool, engine, fake, upscale())
    second_run, second = begun(pool, engine, fake)
    for run, answer in ((first_run, first), (second_run, second)):
        run.abort(HandedBackError())
        with pytest.raises(HandedBackError):
            answer.result()
    assert second_run.begun_at is None
    assert not engine.is_hung


@pytest.mark.parametrize("error", [HandedBackError(), TimedOutError("too long")])
def test_a_finished_picture_counts_although_the_run_was_aborted_meanwhile(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor, error: Any
) -> None:
    engine = client(fake_url)
    fake.place = {"active": False, "queued": False, "completed": True}
    run, answer = begun(pool, engine, fake)
    run.abort(error)
    fake.released.set()
    assert len(answer.result().pictures) == 1


def test_a_finished_picture_of_a_cancelled_job_does_not_count(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor
) -> None:
    engine = client(fake_url)
    fake.place = {"active": False, "queued": False, "completed": True}
    run, answer = begun(pool, engine, fake)
    run.abort(CancelledError())
    fake.released.set()
    with pytest.raises(CancelledError):
        answer.result()


def test_an_answer_that_is_cut_is_a_start_of_the_job_that_ran_and_not_of_the_one_that_waited(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor
) -> None:
    engine, second_is_cut = client(fake_url), threading.Event()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 0:
            second_is_cut.wait()
        _with_half_an_answer(handler, number)

    fake.answer = answer
    _, first = begun(pool, engine, fake)
    _, second = begun(pool, engine, fake)
    fake.released.set()
    with pytest.raises(EngineUnavailableError) as caught:
        second.result()
    assert not caught.value.counts
    second_is_cut.set()
    with pytest.raises(EngineLostError) as lost:
        first.result()
    assert lost.value.counts


def test_the_crash_of_a_web_ui_is_no_start_of_the_job_that_waited(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor
) -> None:
    engine, first_is_lost = client(fake_url), threading.Event()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            first_is_lost.wait()
        _with_half_an_answer(handler, number)

    fake.answer = answer
    _, first = begun(pool, engine, fake)
    run, second = begun(pool, engine, fake)
    fake.answers_questions = False
    fake.released.set()
    with pytest.raises(EngineLostError):
        first.result()
    assert run.begun_at is None
    first_is_lost.set()
    with pytest.raises(EngineUnavailableError):
        second.result()


def test_a_job_behind_a_connection_that_broke_begins_when_the_web_ui_says_that_it_has_it(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor
) -> None:
    engine, second_may_end = client(fake_url), threading.Event()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 0:
            return _with_half_an_answer(handler, number)
        second_may_end.wait()
        return _with_picture(handler, number)

    fake.answer = answer
    _, first = begun(pool, engine, fake)
    run, second = begun(pool, engine, fake)
    fake.released.set()
    with pytest.raises(EngineLostError):
        first.result()
    eventually(lambda: run.begun_at)
    second_may_end.set()
    assert len(second.result().pictures) == 1


def test_a_job_begins_as_soon_as_the_one_before_it_is_answered(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdwebui_queue, "_FIRST_LOOK_SECONDS", 3600)
    engine, second_may_end = client(fake_url), threading.Event()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            second_may_end.wait()
        _with_picture(handler, number)

    fake.answer = answer
    _, first = begun(pool, engine, fake)
    run, second = begun(pool, engine, fake)
    fake.released.set()
    first.result()
    assert run.begun_at is not None
    second_may_end.set()
    second.result()


class Failing(httpx.BaseTransport):
    """Fails every request."""

    def __init__(self, error: type[httpx.TransportError]) -> None:
        self.error = error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise self.error("no answer", request=request)


@pytest.mark.parametrize(("error", "presence"), PRESENCES)
def test_a_web_ui_that_is_only_slow_is_not_away(
    webui: str, error: type[httpx.TransportError], presence: Presence
) -> None:
    engine = client(webui)
    assert engine.presence() is Presence.READY
    engine._queue._http = httpx.Client(base_url=webui, transport=Failing(error))
    assert engine.presence() is presence
    assert engine.ahead == (presence is Presence.BUSY)


def test_a_web_ui_that_is_not_there_did_not_get_the_job() -> None:
    with pytest.raises(EngineUnavailableError):
        client("http://127.0.0.1:1").generate(generation(), new_run())


# Requests


def test_a_large_request_arrives_whole(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdwebui_post, "_PIECE_BYTES", 1000)
    prompt = "".join(map(str, range(1000)))
    fake.released.set()
    run, answer = begun(pool, client(fake_url), fake, generation(prompt=prompt))
    answer.result()
    assert fake.body == {**SMALL, "seed": 1, "steps": 2, "prompt": prompt, "force_task_id": run.id}


def test_a_job_is_not_held_while_its_request_runs(fake: FakeWebUI, fake_url: str) -> None:
    engine, jobs = client(fake_url), [generation()]
    held = weakref.ref(jobs[0])
    thread = threading.Thread(target=lambda: engine.generate(jobs.pop(), new_run()))
    thread.start()
    eventually(lambda: fake.posts)
    assert held() is None
    fake.released.set()
    thread.join()


# Answers


def test_an_answer_that_is_too_large_is_refused(webui: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdwebui_post, "MAX_ANSWER_BYTES", 1024)
    with pytest.raises(InvalidTaskError, match="fewer or smaller pictures"):
        client(webui).generate(generation(), new_run())


def test_lack_of_memory_may_pass(webui: str) -> None:
    with pytest.raises(EngineFailedError, match="out of memory"):
        client(webui).generate(generation(width=4096), new_run())


def test_what_the_web_ui_refuses_names_the_field(webui: str) -> None:
    with pytest.raises(EngineRefusedError) as caught:
        client(webui).generate(job({**SMALL, "cfg_scale": []}), new_run())
    assert caught.value.field == "content.cfg_scale"


# Checkpoints


def test_a_checkpoint_is_loaded_for_its_job_while_another_one_runs(
    steady: DemoServer, pool: ThreadPoolExecutor
) -> None:
    own = "v1-5-pruned-emaonly.safetensors"
    engine = client(steady.url, dynamic_checkpoint=True, checkpoint=own)
    other = generation(checkpoint="sd_xl_base_1.0.safetensors")
    with sent_ahead(pool, engine, steady, generation(steps=20), other) as (_, (first, second)):
        pass
    assert model(first.result()) == "v1-5-pruned-emaonly"
    assert model(second.result()) == "sd_xl_base_1.0"
    assert model(engine.generate(generation(checkpoint="flux1-schnell-fp8"), new_run())) == "flux1-schnell-fp8"
    assert httpx.get(f"{steady.url}/sdapi/v1/options").json()["sd_model_checkpoint"] == own


def test_a_jobs_own_settings_are_kept_beside_its_checkpoint(webui: str) -> None:
    engine = client(webui, dynamic_checkpoint=True)
    work = generation(checkpoint="sd_xl_base_1.0.safetensors", override_settings={"CLIP_stop_at_last_layers": 2})
    parameters = engine.generate(work, new_run()).response["parameters"]
    assert isinstance(parameters, dict)
    assert parameters["override_settings"] == {
        "CLIP_stop_at_last_layers": 2,
        "sd_model_checkpoint": "sd_xl_base_1.0.safetensors",
    }


@pytest.mark.parametrize(
    ("content", "field"), [({"override_settings": ["x"]}, "content.override_settings"), ({}, "checkpoint")]
)
def test_a_wrong_setting_and_an_unknown_checkpoint_are_refused(webui: str, content: Any, field: str) -> None:
    engine = client(webui, dynamic_checkpoint=True)
    checkpoint = "sd_xl_base_1.0.safetensors" if content else "nowhere.safetensors"
    with pytest.raises(EngineRefusedError) as caught:
        engine.generate(generation(checkpoint=checkpoint, **content), new_run())
    assert caught.value.field == field


def test_who_looks_for_an_unknown_checkpoint_behind_a_running_job_can_be_stopped(
    steady_webui: str, pool: ThreadPoolExecutor
) -> None:
    engine, runs = client(steady_webui, dynamic_checkpoint=True), (new_run(), new_run())
    running = pool.submit(engine.generate, generation(steps=ENDLESS), runs[0])
    eventually(lambda: place(steady_webui, runs[0])["active"])
    looking = pool.submit(engine.generate, generation(checkpoint="nowhere.safetensors"), runs[1])
    runs[1].abort(HandedBackError())
    with pytest.raises(HandedBackError):
        looking.result()
    assert runs[1].begun_at is None
    assert place(steady_webui, runs[0])["active"]
    runs[0].abort(HandedBackError())
    with pytest.raises(HandedBackError):
        running.result()


def test_a_web_ui_that_does_not_end_its_look_for_checkpoints_hangs_and_that_is_no_start(
    fake: FakeWebUI, fake_url: str, pool: ThreadPoolExecutor
) -> None:
    engine, clock = client(fake_url, dynamic_checkpoint=True), HandClock()
    run = Run(clock, 60)
    answer = pool.submit(engine.generate, generation(checkpoint="nowhere"), run)
    eventually(lambda: fake.posts == ["refresh-checkpoints"])
    clock.seconds_ahead = 60
    with pytest.raises(EngineUnavailableError, match="refresh-checkpoints") as caught:
        answer.result()
    assert not caught.value.counts
    assert run.begun_at is None
    assert engine.is_hung
    fake.released.set()
    eventually(lambda: not engine.is_hung)


def test_a_checkpoint_is_only_a_route_unless_checkpoints_are_dynamic(webui: str) -> None:
    assert len(client(webui).generate(generation(checkpoint="nowhere.safetensors"), new_run()).pictures) == 1


def test_an_upscale_needs_no_checkpoint(webui: str) -> None:
    assert (
        len(client(webui, dynamic_checkpoint=True, checkpoint="nowhere").generate(upscale(), new_run()).pictures) == 1
    )
