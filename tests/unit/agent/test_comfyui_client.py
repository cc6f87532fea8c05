"""The client of ComfyUI when connections break."""

from typing import Any

import httpx
import pytest

from darkroom_agent.engines.base import Output, Run
from darkroom_agent.engines.comfyui import ComfyUI
from darkroom_agent.errors import EngineFailedError, EngineLostError, EngineUnavailableError
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
    """Loses one request, or the answer to it."""

    def __init__(self, path: str, *, arrives: bool) -> None:
        self.path = path
        self.arrives = arrives
        self.sent = 0
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET" or request.url.path != self.path:
            return self._inner.handle_request(request)
        self.sent += 1
        if self.arrives:
            self._inner.handle_request(request).read()
        raise httpx.ReadError("connection reset", request=request)


def test_a_workflow_is_finished_without_the_websocket(comfyui: str) -> None:
    engine = ComfyUI(comfyui)
    engine._socket_url = "ws://127.0.0.1:1/ws"
    assert len(generate(engine).pictures) == 1


def prompts(url: str) -> set[str]:
    return set(httpx.get(f"{url}/history").json())


def test_a_prompt_whose_answer_is_lost_is_found_and_not_sent_again(comfyui: str) -> None:
    before = prompts(comfyui)
    engine = ComfyUI(comfyui)
    transport = Troubled("/prompt", arrives=True)
    engine._http = httpx.Client(base_url=comfyui, transport=transport)
    assert len(generate(engine).pictures) == 1
    assert transport.sent == 1
    assert len(prompts(comfyui) - before) == 1


def test_a_prompt_that_did_not_arrive_is_lost(comfyui: str) -> None:
    before = prompts(comfyui)
    engine = ComfyUI(comfyui)
    transport = Troubled("/prompt", arrives=False)
    engine._http = httpx.Client(base_url=comfyui, transport=transport)
    with pytest.raises(EngineLostError, match="does not know the prompt"):
        generate(engine)
    assert transport.sent == 1
    assert prompts(comfyui) == before


def test_a_comfyui_that_is_not_there_did_not_get_the_job() -> None:
    with pytest.raises(EngineUnavailableError):
        generate(ComfyUI("http://127.0.0.1:1"))


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
