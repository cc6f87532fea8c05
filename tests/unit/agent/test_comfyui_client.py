"""The client of ComfyUI when connections break."""

import random
from typing import Any

import httpx
import pytest

from darkroom_agent.engines.base import Output, Run
from darkroom_agent.engines.comfyui import ComfyUI, _check_status, _Events
from darkroom_agent.errors import (
    EngineFailedError,
    EngineLostError,
    EngineRefusedError,
    EngineUnavailableError,
    HandedBackError,
    WorkflowFailedError,
)
from darkroom_agent.lifecycle import Lifecycle
from darkroom_contract.job import Api, Job
from darkroom_contract.types import Task, utcnow
from darkroom_demo import serving
from tests.unit.agent.support import workflow


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
    return engine.generate(job, run or Run(Lifecycle(0), 30))


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
        return sum(call.startswith(self.call) for call in self.sent)


def troubled(url: str, transport: httpx.BaseTransport) -> ComfyUI:
    engine = ComfyUI(url)
    engine._http = httpx.Client(base_url=url, transport=transport)
    return engine


def test_a_workflow_is_finished_without_the_websocket(comfyui: str) -> None:
    engine = ComfyUI(comfyui)
    engine._socket_url = "ws://127.0.0.1:1/ws"
    assert len(generate(engine).pictures) == 1


def prompts(url: str) -> set[str]:
    return set(httpx.get(f"{url}/history").json())


def test_a_prompt_whose_answer_is_lost_is_found_and_not_sent_again(comfyui: str) -> None:
    before = prompts(comfyui)
    transport = Troubled("POST /prompt", arrives=True)
    assert len(generate(troubled(comfyui, transport)).pictures) == 1
    assert transport.lost == 1
    assert len(prompts(comfyui) - before) == 1


def test_a_prompt_that_did_not_arrive_is_lost(comfyui: str) -> None:
    before = prompts(comfyui)
    transport = Troubled("POST /prompt")
    with pytest.raises(EngineLostError, match="does not know the prompt"):
        generate(troubled(comfyui, transport))
    assert transport.lost == 1
    assert prompts(comfyui) == before


def test_a_comfyui_that_is_not_there_did_not_get_the_job() -> None:
    with pytest.raises(EngineUnavailableError):
        generate(ComfyUI("http://127.0.0.1:1"))


@pytest.mark.parametrize("call", ["GET /history", "GET /queue"])
def test_an_answer_that_is_lost_is_asked_for_again(comfyui: str, call: str) -> None:
    transport = Troubled(call, times=2)
    nodes = workflow()
    nodes["3"]["inputs"]["seed"] = random.getrandbits(32)  # nothing of it is in ComfyUI's cache
    assert len(generate(troubled(comfyui, transport), nodes).pictures) == 1
    assert "POST /interrupt" not in transport.sent


def test_a_comfyui_that_answers_no_question_is_lost_and_its_prompt_taken_back(comfyui: str) -> None:
    transport = Troubled("GET /history")
    with pytest.raises(EngineLostError, match="went away"):
        generate(troubled(comfyui, transport))
    assert transport.lost == 3
    assert transport.sent[-2:] == ["POST /queue", "POST /interrupt"]


def test_a_prompt_is_interrupted_although_the_queue_does_not_answer(comfyui: str) -> None:
    transport = Troubled("POST /queue")
    lifecycle = Lifecycle(0)
    lifecycle.stop()
    with pytest.raises(HandedBackError):
        generate(troubled(comfyui, transport), run=Run(lifecycle, 30))
    assert transport.sent[-1] == "POST /interrupt"


def test_a_comfyui_that_goes_away_before_the_pictures_are_read_had_the_job(comfyui: str) -> None:
    with pytest.raises(EngineLostError) as caught:
        generate(troubled(comfyui, Troubled("GET /view", error=httpx.ConnectError)))
    assert caught.value.counts


def test_a_workflow_of_which_comfyui_refuses_a_part_is_taken_back_and_names_the_node(comfyui: str) -> None:
    nodes = workflow()
    nodes["20"] = {"class_type": "SaveImage", "inputs": {"images": ["99", 0], "filename_prefix": "a"}}
    nodes["99"] = {"class_type": "LoadImage", "inputs": {"image": "nowhere.png"}}
    transport = Troubled("none")
    with pytest.raises(EngineRefusedError) as caught:
        generate(troubled(comfyui, transport), nodes)
    assert caught.value.node == "99"
    assert caught.value.field == "content.99.inputs.image"
    assert transport.sent[-2:] == ["POST /queue", "POST /interrupt"]


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
        '{"type": "progress", "data": {"prompt_id": "p", "value": 0, "max": 0}}',
        '{"type": "progress", "data": {"prompt_id": "p", "value": 1, "max": null}}',
        "[" * 100_000,
        b"preview",
    ],
)
def test_a_malformed_event_is_no_event(text: str | bytes) -> None:
    run = Run(Lifecycle(0), 30)
    assert not _Events("ws://127.0.0.1:1/ws")._note(text, "p", run)
    assert run.progress == 0


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
        _check_status({"status": {"status_str": "error", "messages": [["execution_error", data]]}})


def test_lack_of_memory_may_pass_and_names_the_node(comfyui: str) -> None:
    nodes = workflow()
    nodes["5"]["inputs"] |= {"width": 4096, "height": 4096}
    with pytest.raises(EngineFailedError, match="out of memory") as caught:
        generate(ComfyUI(comfyui), nodes)
    assert caught.value.node == "3"


def test_the_progress_follows_the_sampler() -> None:
    nodes = workflow()
    nodes["3"]["inputs"]["steps"] = 4
    run = Run(Lifecycle(0), 30)
    with serving(engine="comfyui", seconds_per_step=0.2) as server:
        generate(ComfyUI(server.url), nodes, run)
    assert run.progress > 0
