"""The client of ComfyUI: its runs, and what breaks them."""

import io
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import PurePath
from typing import Any

import httpx
import pytest
from PIL import Image
from websockets.sync.server import ServerConnection, serve

from darkroom_agent.clock import Clock
from darkroom_agent.engines.base import Output, Presence, Run
from darkroom_agent.engines.comfyui import ComfyUI
from darkroom_agent.engines.comfyui_data import check_status
from darkroom_agent.engines.comfyui_events import Events
from darkroom_agent.errors import (
    AgentError,
    CancelledError,
    EngineFailedError,
    EngineLostError,
    EngineRefusedError,
    EngineUnavailableError,
    HandedBackError,
    InvalidTaskError,
    NoPicturesError,
    TimedOutError,
    WorkflowFailedError,
)
from darkroom_agent.media import media_type
from darkroom_agent.settings import Settings
from darkroom_contract.job import Api, Job
from darkroom_contract.types import Task, utcnow
from darkroom_demo.server import DemoServer, serving
from tests.unit.agent.fake_comfyui import FakeComfyUI, finished
from tests.unit.agent.support import DEADLINE, PRESENCES, eventually, held, picture, workflow

SAVED = {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    client, events = "darkroom_agent.engines.comfyui", "darkroom_agent.engines.comfyui_events"
    monkeypatch.setattr(f"{client}._POLL_SECONDS", 0.2)
    monkeypatch.setattr(f"{client}._STOP_SECONDS", 1.0)
    monkeypatch.setattr(f"{client}._STOP_POLL_SECONDS", 0.05)
    monkeypatch.setattr(f"{events}._RECEIVE_SECONDS", 0.05)
    monkeypatch.setattr(f"{events}._LINGER_SECONDS", 0.2)
    monkeypatch.setattr(f"{events}._FIRST_PAUSE_SECONDS", 0.05)


@pytest.fixture
def _unasked(_impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The websocket alone says how a run goes: with its end, all its progress was told."""
    monkeypatch.setattr("darkroom_agent.engines.comfyui._POLL_SECONDS", 3600)


@pytest.fixture
def comfyui() -> Iterator[str]:
    """A new one: its cache is empty."""
    with serving(engine="comfyui") as server:
        yield server.url


@pytest.fixture
def slow() -> Iterator[DemoServer]:
    """One whose steps take a tenth of a second."""
    with serving(engine="comfyui", seconds_per_step=0.1) as server:
        yield server


@pytest.fixture
def slow_comfyui(slow: DemoServer) -> str:
    """Its URL."""
    return slow.url


@pytest.fixture
def fake() -> Iterator[FakeComfyUI]:
    with FakeComfyUI() as fake:
        fake.files["a.png"] = b"a picture"
        yield fake


def client(url: str, **settings: Any) -> ComfyUI:
    required = {
        "queue_url": "q",
        "dead_letter_queue_url": "d",
        "result_topic_arn": "t",
        "output_bucket": "outputs",
        "engine": "comfyui",
        "runtime_name": "sdxl",
    }
    return ComfyUI(Settings.model_validate({**required, "runtime_url": url, **settings}))


def new_run(timeout: float = 60) -> Run:
    return Run(Clock(), timeout)


def generate(engine: ComfyUI, content: dict[str, Any] | None = None, run: Run | None = None) -> Output:
    job = Job(
        api=Api.DIRECT,
        job_id="job",
        tenant="default",
        label="job",
        runtime="sdxl",
        task=Task.PIPELINE,
        content=content or workflow(),
        submitted_at=utcnow(),
    )
    return engine.generate(job, run or new_run())


def long_workflow(text: str, steps: int = 20) -> dict[str, Any]:
    nodes = workflow()
    nodes["6"]["inputs"]["text"] = text
    nodes["3"]["inputs"] |= {"steps": steps, "seed": random.getrandbits(32)}
    return nodes


def text_of(output: Output) -> str:
    """The prompt that a picture was drawn for."""
    [data] = output.pictures
    text: str = json.loads(Image.open(io.BytesIO(data)).info["prompt"])["6"]["inputs"]["text"]
    return text


@contextmanager
def generating(engine: ComfyUI, content: dict[str, Any] | None = None) -> Iterator[tuple[Run, Future[Output]]]:
    """A run in a thread. It is aborted when the context ends."""
    run = new_run()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(generate, engine, content, run)
        try:
            yield run, future
        finally:
            run.abort(CancelledError())


def queue(url: str) -> tuple[list[str], list[str]]:
    """The ids of the prompts that run, and of those that wait."""
    found = httpx.get(f"{url}/queue").json()
    running, waiting = ([item[1] for item in found[name]] for name in ("queue_running", "queue_pending"))
    return running, waiting


class Troubled(httpx.BaseTransport):
    """Loses requests of one kind, or the answers to them: the first so many, or all."""

    def __init__(
        self, call: str, *, arrives: bool = False, times: int = 1000, error: type[httpx.RequestError] = httpx.ReadError
    ) -> None:
        self.call = call
        self.arrives = arrives
        self.times = times
        self.error = error
        self.sent: list[str] = []
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        call = f"{request.method} {request.url.path}"
        self.sent.append(call)
        if not call.startswith(self.call) or self.lost > self.times:
            return self._inner.handle_request(request)
        if self.arrives:
            self._inner.handle_request(request).read()
        raise self.error("connection reset", request=request)

    @property
    def lost(self) -> int:
        return self.count(self.call)

    def count(self, call: str) -> int:
        return sum(sent.startswith(call) for sent in self.sent)


class LostFiles(httpx.BaseTransport):
    """Answers 404 for the files whose names begin so, as if they were deleted."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.prompts = 0
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.prompts += request.url.path == "/prompt"
        if request.url.params.get("filename", "-").startswith(self.prefix):
            return httpx.Response(404)
        return self._inner.handle_request(request)


def troubled(url: str, transport: httpx.BaseTransport) -> ComfyUI:
    engine = client(url)
    engine._http = httpx.Client(base_url=url, transport=transport)
    return engine


# Two runs at once


@pytest.mark.usefixtures("_unasked")
def test_two_runs_at_once_come_out_right_and_in_order(slow: DemoServer) -> None:
    engine = client(slow.url)
    with ExitStack() as stack:
        with held(slow.tempo):
            first, first_output = stack.enter_context(generating(engine, long_workflow("first", steps=5)))
            eventually(lambda: queue(slow.url)[0] == [first.id])
            second, second_output = stack.enter_context(generating(engine, long_workflow("second", steps=5)))
            eventually(lambda: queue(slow.url) == ([first.id], [second.id]))
            assert second.begun_at is None
        assert text_of(first_output.result(DEADLINE)) == "first"
        assert text_of(second_output.result(DEADLINE)) == "second"
    assert first.begun_at is not None
    assert second.begun_at is not None
    assert first.begun_at < second.begun_at
    assert (first.progress, second.progress) == (1, 1)


def test_a_run_that_waits_is_taken_out_of_the_queue_and_the_running_one_goes_on(slow: DemoServer) -> None:
    engine = client(slow.url)
    with generating(engine, long_workflow("first")) as (first, first_output):
        with held(slow.tempo):
            eventually(lambda: queue(slow.url)[0] == [first.id])
            with generating(engine, long_workflow("second")) as (second, second_output):
                eventually(lambda: queue(slow.url)[1] == [second.id])
                second.abort(CancelledError())
                with pytest.raises(CancelledError):
                    second_output.result(DEADLINE)
            assert queue(slow.url) == ([first.id], [])
            assert second.begun_at is None
        assert text_of(first_output.result(DEADLINE)) == "first"
    assert not engine.is_hung


def test_a_run_that_is_aborted_is_interrupted_and_the_waiting_one_is_not(slow_comfyui: str) -> None:
    engine = client(slow_comfyui)
    with generating(engine, long_workflow("first", steps=1000)) as (first, first_output):
        eventually(lambda: first.progress > 0)
        with generating(engine, long_workflow("second", steps=2)) as (second, second_output):
            eventually(lambda: queue(slow_comfyui)[1] == [second.id])
            first.abort(HandedBackError())
            with pytest.raises(HandedBackError):
                first_output.result(DEADLINE)
            assert text_of(second_output.result(DEADLINE)) == "second"
    assert not engine.is_hung


def test_a_run_that_is_aborted_before_it_is_sent_is_not_sent(fake: FakeComfyUI) -> None:
    run = new_run()
    run.abort(HandedBackError())
    with pytest.raises(HandedBackError):
        generate(client(fake.url), run=run)
    assert fake.calls == []


@contextmanager
def one_behind_the_other(
    fake: FakeComfyUI, engine: ComfyUI
) -> Iterator[tuple[tuple[Run, Future[Output]], tuple[Run, Future[Output]]]]:
    """Two runs: the first one runs, the second one waits."""
    with generating(engine) as first:
        eventually(lambda: fake.running)
        fake.on_prompt = fake.waiting.append
        with generating(engine) as second:
            eventually(lambda: fake.waiting)
            yield first, second


def test_a_run_begins_as_soon_as_the_one_before_it_has_ended(
    fake: FakeComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom_agent.engines.comfyui._POLL_SECONDS", 3600)
    with one_behind_the_other(fake, client(fake.url)) as ((first, output), (second, _)):
        fake.end(first.id, finished(**{"9": SAVED}))
        first.wake()
        output.result(DEADLINE)
        assert second.begun_at is not None


def test_a_run_behind_one_that_was_stopped_begins(fake: FakeComfyUI) -> None:
    with one_behind_the_other(fake, client(fake.url)) as ((first, output), (second, _)):
        first.abort(CancelledError())
        with pytest.raises(CancelledError):
            output.result(DEADLINE)
        eventually(lambda: second.begun_at)


def test_the_crash_of_comfyui_is_no_start_of_the_run_that_waited() -> None:
    with ExitStack() as stack:
        with FakeComfyUI() as fake:
            (first, output), (second, other) = stack.enter_context(one_behind_the_other(fake, client(fake.url)))
            assert second.begun_at is None
        for future in (output, other):
            with pytest.raises(EngineLostError):
                future.result(DEADLINE)
        assert first.begun_at is not None
        assert second.begun_at is None


def test_a_run_does_not_wait_behind_one_that_hangs(fake: FakeComfyUI) -> None:
    fake.on_interrupt = lambda _prompt_id: None
    engine = client(fake.url)
    with one_behind_the_other(fake, engine) as ((first, output), (second, other)):
        first.abort(TimedOutError("too long"))
        with pytest.raises(TimedOutError):
            output.result(DEADLINE)
        with pytest.raises(EngineUnavailableError, match="hangs"):
            other.result(DEADLINE)
        assert second.begun_at is None
        assert fake.called("/queue") == [{"delete": [second.id]}]
        assert engine.is_hung


def test_a_run_is_not_sent_to_a_comfyui_that_hangs_without_an_end(fake: FakeComfyUI) -> None:
    engine = client(fake.url)
    hang(fake, engine)
    fake.on_prompt = fake.waiting.append
    run = new_run()
    with pytest.raises(EngineUnavailableError, match="hangs"):
        generate(engine, run=run)
    assert run.begun_at is None
    assert fake.waiting == []


def test_a_comfyui_that_answers_nothing_is_not_waited_for_without_an_end(
    fake: FakeComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom_agent.engines.comfyui._MOST_SILENT_SECONDS", 0.5)
    engine = troubled(fake.url, Troubled("GET /history", error=httpx.ReadTimeout))
    with one_behind_the_other(fake, engine) as ((first, output), (second, other)):
        first.abort(CancelledError())
        with pytest.raises(CancelledError):
            output.result(DEADLINE)
        with pytest.raises(EngineUnavailableError, match="answers nothing"):
            other.result(DEADLINE)
        assert second.begun_at is None
        assert fake.waiting == []


# Stopping a run


def test_a_prompt_that_begins_while_it_is_taken_out_of_the_queue_is_interrupted(fake: FakeComfyUI) -> None:
    fake.on_prompt = fake.waiting.append
    fake.on_delete = fake.begin
    with generating(client(fake.url)) as (run, output):
        eventually(lambda: run.id in fake.waiting)
        run.abort(CancelledError())
        with pytest.raises(CancelledError):
            output.result(DEADLINE)
    assert fake.called("/interrupt") == [{"prompt_id": run.id}]
    assert (fake.running, fake.waiting) == ([], [])


def test_nothing_is_interrupted_but_the_prompt_that_runs(fake: FakeComfyUI) -> None:
    """Old versions of ComfyUI interrupt whatever runs."""
    fake.running.append("another")
    fake.on_prompt = fake.waiting.append
    with generating(client(fake.url)) as (run, output):
        eventually(lambda: run.id in fake.waiting)
        run.abort(CancelledError())
        with pytest.raises(CancelledError):
            output.result(DEADLINE)
    assert fake.called("/interrupt") == []
    assert fake.called("/queue") == [{"delete": [run.id]}]
    assert fake.running == ["another"]


@pytest.mark.parametrize("error", [HandedBackError(), TimedOutError("too long")])
def test_a_picture_that_is_finished_when_the_run_is_aborted_is_not_thrown_away(
    fake: FakeComfyUI, error: AgentError
) -> None:
    fake.on_interrupt = lambda prompt_id: fake.end(prompt_id, finished(**{"9": SAVED}))
    with generating(client(fake.url)) as (run, output):
        eventually(lambda: run.id in fake.running)
        run.abort(error)
        assert output.result(DEADLINE).pictures == (b"a picture",)


def test_a_picture_that_the_client_wants_no_more_is_not_delivered(fake: FakeComfyUI) -> None:
    fake.on_interrupt = lambda prompt_id: fake.end(prompt_id, finished(**{"9": SAVED}))
    with generating(client(fake.url)) as (run, output):
        eventually(lambda: run.id in fake.running)
        run.abort(CancelledError())
        with pytest.raises(CancelledError):
            output.result(DEADLINE)


def test_a_run_that_takes_too_long_is_interrupted(slow_comfyui: str) -> None:
    with pytest.raises(TimedOutError):
        generate(client(slow_comfyui), long_workflow("slow", steps=1000), new_run(timeout=0.5))
    assert queue(slow_comfyui) == ([], [])


def hang(fake: FakeComfyUI, engine: ComfyUI) -> str:
    """Let a prompt run that cannot be interrupted; its id."""
    fake.on_interrupt = lambda _prompt_id: None
    with generating(engine) as (run, output):
        eventually(lambda: run.id in fake.running)
        run.abort(HandedBackError())
        with pytest.raises(HandedBackError):
            output.result(DEADLINE)
    return run.id


def test_a_run_that_cannot_be_stopped_hangs_until_comfyui_lets_go_of_it(fake: FakeComfyUI) -> None:
    engine = client(fake.url)
    prompt_id = hang(fake, engine)
    assert engine.presence() is Presence.READY
    assert engine.is_hung
    fake.end(prompt_id, finished())
    assert engine.presence() is Presence.READY
    assert not engine.is_hung


def test_a_run_that_hangs_is_interrupted_again_and_again(fake: FakeComfyUI) -> None:
    engine = client(fake.url)
    hang(fake, engine)
    before = len(fake.called("/interrupt"))
    engine.presence()
    assert len(fake.called("/interrupt")) == before + 1


def test_a_comfyui_that_goes_away_does_not_hang_any_more() -> None:
    with FakeComfyUI() as fake:
        engine = client(fake.url)
        hang(fake, engine)
        engine._http, http = (
            httpx.Client(base_url=fake.url, transport=Troubled("", error=httpx.ReadTimeout)),
            engine._http,
        )
        assert engine.presence() is Presence.BUSY
        assert engine.is_hung
        engine._http = http
    assert engine.presence() is Presence.AWAY
    assert not engine.is_hung


def test_a_comfyui_whose_queue_does_not_answer_may_hang(fake: FakeComfyUI) -> None:
    engine = client(fake.url)
    with generating(engine) as (run, output):
        eventually(lambda: run.id in fake.running)
        fake.answers_the_queue = False
        run.abort(CancelledError())
        with pytest.raises(CancelledError):
            output.result(DEADLINE)
    assert engine.is_hung
    assert fake.called("/interrupt") == []
    fake.answers_the_queue = True
    engine.presence()  # the prompt is interrupted
    engine.presence()
    assert not engine.is_hung


# Connections that break


def test_a_prompt_whose_answer_is_lost_is_found_and_not_sent_again(comfyui: str) -> None:
    transport = Troubled("POST /prompt", arrives=True)
    assert len(generate(troubled(comfyui, transport)).pictures) == 1
    assert transport.lost == 1


def test_a_prompt_that_did_not_arrive_is_lost(comfyui: str) -> None:
    transport = Troubled("POST /prompt")
    with pytest.raises(EngineLostError, match="does not know the prompt"):
        generate(troubled(comfyui, transport))
    assert transport.lost == 1
    assert httpx.get(f"{comfyui}/history").json() == {}


def test_a_comfyui_that_is_not_there_did_not_get_the_job() -> None:
    engine = client("http://127.0.0.1:1")
    assert engine.presence() is Presence.AWAY
    with pytest.raises(EngineUnavailableError):
        generate(engine)


@pytest.mark.parametrize(("error", "presence"), PRESENCES)
def test_a_comfyui_that_is_only_slow_is_not_away(
    fake: FakeComfyUI, error: type[httpx.TransportError], presence: Presence
) -> None:
    assert client(fake.url).presence() is Presence.READY
    assert troubled(fake.url, Troubled("GET /system_stats", error=error)).presence() is presence


@pytest.mark.parametrize("call", ["GET /history", "GET /queue"])
def test_an_answer_that_is_lost_is_asked_for_again(slow_comfyui: str, call: str) -> None:
    transport = Troubled(call, times=2)
    assert len(generate(troubled(slow_comfyui, transport)).pictures) == 1
    assert transport.count("POST /interrupt") == 0


def test_a_comfyui_that_answers_no_question_is_lost_and_its_prompt_stopped(slow_comfyui: str) -> None:
    transport = Troubled("GET /history")
    with pytest.raises(EngineLostError, match="went away"):
        generate(troubled(slow_comfyui, transport), long_workflow("lost", steps=1000))
    assert transport.count("POST /interrupt") >= 1
    assert queue(slow_comfyui) == ([], [])


def port_of(server: DemoServer) -> int:
    return int(server.url.rpartition(":")[2])


def test_a_run_is_lost_when_comfyui_restarts() -> None:
    with ExitStack() as stack:
        with serving(engine="comfyui", seconds_per_step=3600) as server:
            run, output = stack.enter_context(generating(client(server.url)))
            eventually(lambda: queue(server.url)[0] == [run.id])
        with serving(engine="comfyui", port=port_of(server)), pytest.raises(EngineLostError):
            output.result(DEADLINE)


def test_a_comfyui_that_goes_away_before_the_pictures_are_read_had_the_job(comfyui: str) -> None:
    with pytest.raises(EngineLostError) as caught:
        generate(troubled(comfyui, Troubled("GET /view", error=httpx.ConnectError)))
    assert caught.value.counts


# The websocket


def test_a_workflow_is_finished_without_the_websocket(comfyui: str) -> None:
    engine = client(comfyui)
    engine._events = Events("ws://127.0.0.1:1/ws")
    assert len(generate(engine).pictures) == 1


def test_a_workflow_is_finished_although_the_websocket_never_answers(comfyui: str) -> None:
    engine = client(comfyui)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine._events = Events(f"ws://127.0.0.1:{silent.getsockname()[1]}/ws")
        assert len(generate(engine).pictures) == 1


@pytest.mark.usefixtures("_unasked")
def test_the_websocket_says_when_a_prompt_has_ended(slow_comfyui: str) -> None:
    with generating(client(slow_comfyui), long_workflow("short", steps=5)) as (_, output):
        assert len(output.result(DEADLINE).pictures) == 1


@contextmanager
def websocket(handler: Callable[[ServerConnection], None]) -> Iterator[Events]:
    with serve(handler, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Events(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws")
        server.shutdown()


def progress(prompt_id: str, value: Any, maximum: Any) -> str:
    return json.dumps({"type": "progress", "data": {"prompt_id": prompt_id, "value": value, "max": maximum}})


def test_a_websocket_that_drops_is_opened_again_under_another_name() -> None:
    names: list[str] = []

    def drop_the_first(connection: ServerConnection) -> None:
        assert connection.request is not None
        names.append(connection.request.path)
        if len(names) > 1:
            connection.send(progress("p", 1, 2))
            connection.recv()

    run = new_run()
    with websocket(drop_the_first) as events, events.telling("p", run):
        eventually(lambda: run.progress == 0.5)
    assert run.begun_at is not None
    assert len(set(names)) == 2


def test_one_websocket_serves_all_runs_and_ends_after_the_last() -> None:
    ended = threading.Event()
    names: list[str] = []

    def tell(connection: ServerConnection) -> None:
        assert connection.request is not None
        names.append(connection.request.path)
        connection.send(progress("first", 1, 4))
        connection.send(progress("nobody", 1, 1))
        connection.send(progress("second", 1, 2))
        for _ in connection:
            pass
        ended.set()

    first, second = new_run(), new_run()
    with websocket(tell) as events:
        with events.telling("first", first), events.telling("second", second):
            eventually(lambda: (first.progress, second.progress) == (0.25, 0.5))
        assert ended.wait(DEADLINE)
        eventually(lambda: events._reader is None)
    assert len(names) == 1


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        "null",
        "{}",
        '{"type": "progress", "data": [1]}',
        '{"type": "progress", "data": null}',
        '{"type": "progress", "data": {"prompt_id": "p"}}',
        '{"type": "progress", "data": {"prompt_id": ["p"]}}',
        '{"type": "progress", "data": {"prompt_id": "p", "value": 0, "max": 0}}',
        '{"type": "progress", "data": {"prompt_id": "p", "value": 1, "max": null}}',
        '{"type": "progress", "data": {"prompt_id": "p", "value": NaN, "max": 1}}',
        "[" * 100_000,
        b"preview",
    ],
)
def test_a_malformed_event_is_no_event(text: str | bytes) -> None:
    events, run = Events("ws://127.0.0.1:1/ws"), new_run()
    with events.telling("p", run):
        events._note(text)
    assert run.progress == 0


@pytest.mark.usefixtures("_unasked")
def test_the_progress_follows_the_sampler(slow: DemoServer) -> None:
    with generating(client(slow.url), long_workflow("slow", steps=50)) as (run, output):
        eventually(lambda: 0 < run.progress < 1)
        slow.tempo.seconds_per_step = 0
        output.result(DEADLINE)
    assert run.progress == 1


# Workflows that cannot be run


def test_a_workflow_of_which_comfyui_refuses_a_part_is_stopped_and_names_the_node(slow_comfyui: str) -> None:
    nodes = long_workflow("half", steps=1000)
    nodes["20"] = {"class_type": "SaveImage", "inputs": {"images": ["99", 0], "filename_prefix": "a"}}
    nodes["99"] = {"class_type": "LoadImage", "inputs": {"image": "nowhere.png"}}
    with pytest.raises(EngineRefusedError) as caught:
        generate(client(slow_comfyui), nodes)
    assert caught.value.node == "99"
    assert caught.value.field == "content.99.inputs.image"
    assert queue(slow_comfyui) == ([], [])


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        (
            {"allowed_nodes": ("CheckpointLoader*", "CLIP*", "Empty*", "VAE*", "Save*")},
            r"it runs CheckpointLoader\*, CLIP\*",
        ),
        ({"denied_nodes": ("K*er",)}, r"it runs every class except K\*er"),
        ({"allowed_nodes": ("*",), "denied_nodes": ("Nothing", "KSampler")}, r"it runs \* except Nothing, KSampler"),
        ({"allowed_nodes": ("*[!r]",)}, "KSampler"),
    ],
)
def test_a_node_that_the_runtime_does_not_run_is_refused_before_anything_is_sent(
    fake: FakeComfyUI, lists: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidTaskError, match=says) as caught:
        generate(client(fake.url, **lists))
    assert "KSampler" in caught.value.message
    assert caught.value.node == "3"
    assert caught.value.field == "content.3.class_type"
    assert fake.calls == []


def test_a_workflow_of_allowed_nodes_is_run(comfyui: str) -> None:
    allowed = ("CheckpointLoader*", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAE*", "SaveImage")
    assert generate(client(comfyui, allowed_nodes=allowed, denied_nodes=("Load*", "ksampler"))).pictures


def test_the_lists_of_nodes_come_from_the_environment() -> None:
    environ = {
        "QUEUE_URL": "q",
        "DEAD_LETTER_QUEUE_URL": "d",
        "RESULT_TOPIC_ARN": "t",
        "OUTPUT_BUCKET": "outputs",
        "ENGINE": "comfyui",
        "RUNTIME_NAME": "sdxl",
        "RUNTIME_URL": "http://127.0.0.1:1",
    }
    settings = Settings.load({**environ, "ALLOWED_NODES": "K*,Save*", "DENIED_NODES": "Load3D"})
    assert (settings.allowed_nodes, settings.denied_nodes) == (("K*", "Save*"), ("Load3D",))
    assert (Settings.load(environ).allowed_nodes, Settings.load(environ).denied_nodes) == ((), ())


@pytest.mark.parametrize(
    ("kind", "message", "error"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", EngineFailedError),
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", EngineFailedError),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", EngineFailedError),
        ("OSError", "[Errno 5] Input/output error: '/models/x.safetensors'", EngineFailedError),
        ("safetensors_rust.SafetensorError", "I/O error: No space left on device", EngineFailedError),
        ("RuntimeError", "Expected all tensors to be on the same device, cuda:0 and cpu", WorkflowFailedError),
        ("ValueError", "bad value", WorkflowFailedError),
    ],
)
def test_the_machines_trouble_may_pass_and_a_nodes_own_will_not(kind: str, message: str, error: Any) -> None:
    data = {"node_id": "3", "node_type": "KSampler", "exception_type": kind, "exception_message": message}
    with pytest.raises(error):
        check_status({"status": {"status_str": "error", "messages": [["execution_error", data]]}})


def test_lack_of_memory_may_pass_and_names_the_node(comfyui: str) -> None:
    nodes = workflow()
    nodes["5"]["inputs"] |= {"width": 4096, "height": 4096}
    with pytest.raises(EngineFailedError, match="out of memory") as caught:
        generate(client(comfyui), nodes)
    assert caught.value.node == "3"


def test_a_run_that_somebody_else_interrupts_may_be_tried_again(slow_comfyui: str) -> None:
    with generating(client(slow_comfyui), long_workflow("slow", steps=1000)) as (run, output):
        eventually(lambda: run.progress > 0)
        httpx.post(f"{slow_comfyui}/interrupt", json={})
        with pytest.raises(EngineFailedError, match="interrupt"):
            output.result(DEADLINE)


# Files


def test_a_cached_file_that_is_gone_is_saved_again(comfyui: str) -> None:
    [first] = generate(client(comfyui)).pictures
    transport = LostFiles("ComfyUI_00001_")
    [again] = generate(troubled(comfyui, transport)).pictures
    assert transport.prompts == 2
    assert Image.open(io.BytesIO(again)).tobytes() == Image.open(io.BytesIO(first)).tobytes()


def test_a_cached_file_that_is_gone_again_may_come_later(comfyui: str) -> None:
    generate(client(comfyui))
    transport = LostFiles("ComfyUI")
    with pytest.raises(EngineFailedError, match="does not find a file") as caught:
        generate(troubled(comfyui, transport))
    assert transport.prompts == 2
    assert caught.value.node == "9"


def test_a_file_that_was_just_saved_and_is_gone_is_not_made_again(comfyui: str) -> None:
    transport = LostFiles("ComfyUI")
    with pytest.raises(EngineFailedError, match="does not find a file"):
        generate(troubled(comfyui, transport))
    assert transport.prompts == 1


def test_a_restart_between_two_jobs_never_yields_the_first_ones_picture() -> None:
    """The numbers of the files begin again: both pictures are ComfyUI_00001_.png."""
    with serving(engine="comfyui") as server:
        engine = client(server.url)
        first = generate(engine, long_workflow("first", steps=1))
    with serving(engine="comfyui", port=port_of(server)):
        second = generate(engine, long_workflow("second", steps=1))
    assert (text_of(first), text_of(second)) == ("first", "second")


def test_files_of_every_medium_are_delivered_as_they_are(fake: FakeComfyUI) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    files = {"a.png": picture(), "b.gif": animation("GIF", frames), "c.webp": animation("WEBP", frames), "d.mp4": MP4}
    fake.files |= files

    def named(name: str, **more: Any) -> dict[str, Any]:
        return {"filename": name, "subfolder": "", "type": "output", **more}

    entry = finished(
        **{
            "9": {"images": [named("a.png")]},
            "10": {"gifs": [named("b.gif", format="image/gif", frame_rate=8.0, workflow="b.png")]},
            "11": {"images": [named("c.webp")], "animated": [True]},
            "12": {"videos": [named("d.mp4")], "text": ["a note"]},
            "13": {"images": [{"filename": "preview.png", "subfolder": "", "type": "temp"}]},
        }
    )
    fake.on_prompt = lambda prompt_id: fake.history.update({prompt_id: entry})
    pictures = generate(client(fake.url)).pictures
    assert pictures == tuple(files.values())
    assert [media_type(data).extension for data in pictures] == [PurePath(name).suffix for name in files]


#: The first two boxes of a video.
MP4 = bytes.fromhex("00000018 66747970 69736f6d 00000200 69736f6d 6d703432 00000008 6d646174")


def animation(kind: str, frames: list[Image.Image]) -> bytes:
    data = io.BytesIO()
    frames[0].save(data, kind, save_all=True, append_images=frames[1:])
    return data.getvalue()


def test_a_workflow_that_saved_nothing_failed(fake: FakeComfyUI) -> None:
    fake.on_prompt = lambda prompt_id: fake.history.update({prompt_id: finished(**{"9": {"text": ["a note"]}})})
    with pytest.raises(NoPicturesError):
        generate(client(fake.url))


@pytest.mark.parametrize(("limit", "is_enough"), [(18, True), (17, False)])
def test_the_files_of_a_job_have_a_limit_together(
    fake: FakeComfyUI, monkeypatch: pytest.MonkeyPatch, limit: int, is_enough: bool
) -> None:
    monkeypatch.setattr("darkroom_agent.engines.comfyui.MAX_OUTPUT_BYTES", limit)
    two = {"images": SAVED["images"] * 2}
    fake.on_prompt = lambda prompt_id: fake.history.update({prompt_id: finished(**{"9": two})})
    if is_enough:
        assert generate(client(fake.url)).size == limit
    else:
        with pytest.raises(WorkflowFailedError, match="17 bytes together"):
            generate(client(fake.url))


def test_comfyui_remembers_no_prompt_that_has_ended(comfyui: str) -> None:
    engine = client(comfyui)
    generate(engine)
    nodes = workflow()
    nodes["5"]["inputs"] |= {"width": 4096, "height": 4096}
    with pytest.raises(EngineFailedError):
        generate(engine, nodes)
    assert httpx.get(f"{comfyui}/history").json() == {}


def test_an_input_is_uploaded_under_a_name_of_its_own_and_not_overwritten(comfyui: str) -> None:
    engine = client(comfyui)
    names = [engine.attach(data) for data in (picture(), picture(colour="red"), picture())]
    assert names[0] == names[2] != names[1]
    stored = httpx.get(f"{comfyui}/view", params={"filename": names[0], "type": "input"})
    assert stored.content == picture()
