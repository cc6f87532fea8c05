"""Starting and stopping: what happens to the job that runs, and to those that wait."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from darkroom.local.kubelet import free_port
from darkroom_agent.endings import backoff
from darkroom_agent.errors import InputUnavailableError
from darkroom_agent.fetcher import Fetcher, SecondsLeft
from darkroom_contract.errors import JobErrorCode
from darkroom_contract.records import StateRecord
from darkroom_contract.types import utcnow
from darkroom_demo.server import serving
from tests.unit.agent.pictures_host import PicturesHost
from tests.unit.agent.support import (
    DEADLINE,
    SMALL,
    Cloud,
    eventually,
    failed_state,
    guidance_message,
    held,
    picture,
    running,
    workflow,
)

LONG = 1500
LANES = 2


def long_job(engine: str, steps: int = LONG) -> dict[str, Any]:
    """A message of a job that takes so many steps."""
    if engine == "sdwebui":
        return guidance_message({**SMALL, "steps": min(steps, 150), "n_iter": 1 + steps // 150})
    nodes = workflow()
    nodes["3"]["inputs"]["steps"] = steps
    return guidance_message(nodes, "pipeline")


def is_idle(engine: str, url: str) -> bool:
    if engine == "sdwebui":
        return bool(httpx.get(f"{url}/sdapi/v1/progress").json()["state"]["job_count"] == 0)
    queue = httpx.get(f"{url}/queue").json()
    return not queue["queue_running"] and not queue["queue_pending"]


def state_with_progress(cloud: Cloud, job_id: str) -> Callable[[], StateRecord | None]:
    def look() -> StateRecord | None:
        found = cloud.store.state("default", job_id)
        return found[0] if found and found[0].progress > 0 else None

    return look


@pytest.mark.parametrize("engine", ["sdwebui", "comfyui"])
def test_a_running_job_that_fits_the_shutdown_budget_is_finished(cloud: Cloud, engine: Any) -> None:
    with serving(engine=engine, seconds_per_step=0.2) as server:
        settings = cloud.settings(engine=engine, runtime_url=server.url)
        job_id = cloud.send(long_job(engine, steps=10))
        with running(settings, cloud) as agent:
            eventually(state_with_progress(cloud, job_id))
            agent.stop()
    assert cloud.notification()["status"] == "completed"
    assert cloud.count(cloud.queue) == 0


@pytest.mark.parametrize("engine", ["sdwebui", "comfyui"])
def test_a_running_job_that_does_not_fit_is_interrupted_and_handed_back_at_once(cloud: Cloud, engine: Any) -> None:
    with serving(engine=engine, seconds_per_step=0.2) as server:
        settings = cloud.settings(engine=engine, runtime_url=server.url, shutdown_budget_seconds=0)
        job_id = cloud.send(long_job(engine))
        with running(settings, cloud) as agent:
            eventually(state_with_progress(cloud, job_id))
            agent.stop()
        [message] = cloud.sqs.receive_message(QueueUrl=cloud.queue)["Messages"]
        eventually(lambda: is_idle(engine, server.url))
    assert message["MessageId"] == job_id
    found = cloud.store.state("default", job_id)
    assert found is not None
    assert found[0].starts == 0
    assert found[0].lease_until <= utcnow()
    assert cloud.store.result("default", job_id) is None
    assert cloud.count(cloud.result_queue) == 0


def test_a_job_that_was_handed_back_is_finished_by_the_next_agent(cloud: Cloud, webui: str) -> None:
    with serving(engine="sdwebui", seconds_per_step=0.2) as server:
        settings = cloud.settings(engine="sdwebui", runtime_url=server.url, shutdown_budget_seconds=0)
        job_id = cloud.send(long_job("sdwebui", steps=100))
        with running(settings, cloud) as agent:
            eventually(state_with_progress(cloud, job_id))
            agent.stop()
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
        assert cloud.notification()["status"] == "completed"
    result = cloud.store.result("default", job_id)
    assert result is not None
    assert result.starts == 1


def test_a_message_that_comes_while_the_agent_stops_goes_back_untouched(
    cloud: Cloud, webui: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = cloud.settings(engine="sdwebui", runtime_url=webui, receive_wait_seconds=5)
    with caplog.at_level("INFO", "darkroom_agent"), running(settings, cloud) as agent:
        eventually(lambda: "runtime ready" in caplog.text)
        agent.agent.stop()
        job_id = cloud.send(guidance_message(SMALL))
    [message] = cloud.sqs.receive_message(QueueUrl=cloud.queue, MessageSystemAttributeNames=["All"])["Messages"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "2"
    assert cloud.store.state("default", job_id) is None


class StoppingFetcher(Fetcher):
    """Stops the agent while it fetches."""

    stop: Callable[[], None]

    def fetch(self, url: str, seconds_left: SecondsLeft = lambda: 0) -> bytes:
        self.stop()
        return picture()


def test_a_job_whose_inputs_come_while_the_agent_stops_is_handed_back_and_not_begun(cloud: Cloud, webui: str) -> None:
    fetcher = StoppingFetcher()
    content = {**SMALL, "init_images": ["https://pictures.test/a.png"]}
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud, fetcher) as agent:
        fetcher.stop = agent.agent.stop
        job_id = cloud.send(guidance_message(content, "image-to-image"))
        agent.thread.join(DEADLINE)
    found = cloud.store.state("default", job_id)
    assert found is not None
    assert found[0].starts == 0
    assert cloud.count(cloud.queue) == 1
    assert cloud.count(cloud.result_queue) == 0


def test_an_input_that_does_not_come_is_no_start_and_waits_longer(cloud: Cloud, webui: str, host: PicturesHost) -> None:
    content = {**SMALL, "init_images": [host.serves("/trouble.png", status=503)]}
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud, host.fetcher()):
        job_id = cloud.send(guidance_message(content, "image-to-image"))
        state = eventually(lambda: failed_state(cloud, "default", job_id))
    assert state.starts == 0
    assert state.last_error is not None
    assert state.last_error.code is JobErrorCode.INPUT_UNAVAILABLE
    assert backoff(1, InputUnavailableError.patience).seconds > backoff(1).seconds


@pytest.mark.parametrize("engine", ["sdwebui", "comfyui"])
def test_a_job_that_runs_too_long_is_interrupted_and_times_out(cloud: Cloud, engine: Any) -> None:
    with serving(engine=engine, seconds_per_step=0.2) as server:
        settings = cloud.settings(engine=engine, runtime_url=server.url, job_timeout_seconds=1.5, max_starts=1)
        cloud.send(long_job(engine))
        with running(settings, cloud):
            error = cloud.notification()["error"]
            eventually(lambda: is_idle(engine, server.url))
    assert error["code"] == JobErrorCode.TIMED_OUT
    assert error["retryable"] is True


def test_a_job_whose_runtime_goes_away_is_given_back_and_no_other_is_taken(cloud: Cloud) -> None:
    with ExitStack() as runtime:
        url = runtime.enter_context(serving(engine="comfyui", seconds_per_step=0.2)).url
        job_id = cloud.send(long_job("comfyui"))
        with running(cloud.settings(engine="comfyui", runtime_url=url), cloud) as agent:
            eventually(state_with_progress(cloud, job_id))
            runtime.close()
            eventually(lambda: agent.health("/readyz") == 503)
    found = cloud.store.state("default", job_id)
    assert found is not None
    state = found[0]
    assert state.last_error is not None
    assert state.last_error.code is JobErrorCode.ENGINE_UNAVAILABLE
    assert state.starts == 1
    assert state.lease_until <= utcnow()
    assert cloud.count(cloud.queue) == 1


@contextmanager
def demo_on(port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "darkroom_demo", "--engine", "sdwebui", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.terminate()


def test_nothing_is_received_while_the_runtime_does_not_answer(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    settings = cloud.settings(engine="sdwebui", runtime_url=f"http://127.0.0.1:{port}")
    with caplog.at_level("INFO", "darkroom_agent"), running(settings, cloud) as agent:
        cloud.send(guidance_message(SMALL))
        eventually(lambda: caplog.text.count("waiting for the runtime") > 3)
        attributes = cloud.sqs.get_queue_attributes(QueueUrl=cloud.queue, AttributeNames=["All"])["Attributes"]
        assert attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
        assert agent.health("/readyz") == 503
        assert agent.health("/healthz") == 200
        assert agent.health("/else") == 404
        with demo_on(port):
            assert cloud.notification()["status"] == "completed"
            assert agent.health("/readyz") == 200
        eventually(lambda: agent.health("/readyz") == 503)


def test_jobs_that_wait_go_back_at_once_though_deliveries_are_stuck(
    cloud: Cloud, webui: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom_agent.flow.MAX_DELIVERIES", 3)
    monkeypatch.setattr("darkroom_agent.worker.MAX_DELIVERIES", 3)
    is_quick = threading.Event()

    def hold_up(request: Any, **_: Any) -> None:
        if request.url.endswith(".png"):
            is_quick.wait(DEADLINE)

    cloud.s3.meta.events.register("before-send.s3.PutObject", hold_up)
    for _ in range(30):
        cloud.send(guidance_message(SMALL))
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud) as agent:
        eventually(lambda: cloud.in_flight() > 3 + LANES)
        agent.agent.stop()
        eventually(lambda: cloud.in_flight() <= 3 + LANES)
        assert agent.thread.is_alive()
        is_quick.set()


def test_the_agent_says_that_it_takes_no_more_jobs_as_soon_as_it_is_told_to_stop(cloud: Cloud) -> None:
    with serving(engine="sdwebui") as server:
        cloud.send(long_job("sdwebui", steps=10))
        with running(cloud.settings(engine="sdwebui", runtime_url=server.url), cloud) as agent, held(server.tempo):
            eventually(lambda: not is_idle("sdwebui", server.url))
            assert agent.health("/readyz") == 200
            agent.agent.stop()
            assert agent.health("/readyz") == 503
