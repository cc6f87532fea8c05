"""Several jobs at once: what the agent does beside the engine's work, and how much it takes in hand for that."""

import threading
from typing import Any

import httpx
import pytest

from darkroom_agent.flow import MAX_AHEAD, MAX_DELIVERIES
from darkroom_demo.server import serving
from tests.unit.agent.support import DEADLINE, SMALL, Cloud, eventually, guidance_message, held, running
from tests.unit.agent.test_shutdown import is_idle, long_job

LANES = 2


def is_waiting_in_engine(engine: str, url: str) -> bool:
    if engine == "sdwebui":
        return not is_idle(engine, url) and bool(httpx.get(f"{url}/internal/pending-tasks").json()["size"])
    queue = httpx.get(f"{url}/queue").json()
    return bool(queue["queue_running"] and queue["queue_pending"])


def metric(agent: Any, line: str) -> float:
    port = agent.agent.health_port.result(DEADLINE)
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return next((float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line)), 0.0)


@pytest.mark.parametrize("engine", ["sdwebui", "comfyui"])
def test_the_next_job_waits_in_the_engine_before_the_one_that_runs_is_over(cloud: Cloud, engine: Any) -> None:
    with serving(engine=engine) as server, running(cloud.settings(engine=engine, runtime_url=server.url), cloud):
        cloud.send(long_job(engine, steps=4))  # tells the agent how soon a job may be over
        assert cloud.notification()["status"] == "completed"
        with held(server.tempo):
            for steps in (5, 6):  # ComfyUI would not run the same again
                cloud.send(long_job(engine, steps))
            eventually(lambda: is_waiting_in_engine(engine, server.url))
        for _ in range(2):
            assert cloud.notification()["status"] == "completed"


def test_while_a_long_job_runs_other_messages_are_left_to_other_agents(cloud: Cloud) -> None:
    with serving(engine="sdwebui", seconds_per_step=0.2) as server:
        for _ in range(2):
            cloud.send(long_job("sdwebui", steps=150))
        with running(cloud.settings(engine="sdwebui", runtime_url=server.url), cloud):
            eventually(lambda: httpx.get(f"{server.url}/sdapi/v1/progress").json()["progress"] > 0.015)
            assert cloud.in_flight() == 1
            server.tempo.seconds_per_step = 0
            for _ in range(2):
                assert cloud.notification()["status"] == "completed"


def test_the_pictures_of_a_job_are_uploaded_side_by_side(cloud: Cloud, webui: str) -> None:
    together = threading.Barrier(3, timeout=DEADLINE)

    def meet(request: Any, **_: Any) -> None:
        if request.url.endswith(".png"):
            together.wait()

    cloud.s3.meta.events.register("before-send.s3.PutObject", meet)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
        cloud.send(guidance_message({**SMALL, "batch_size": 3}))
        assert len(cloud.notification()["image_url"]) == 3


def test_a_slow_s3_stops_the_intake_and_everything_is_delivered_once_it_is_quick_again(
    cloud: Cloud, webui: str
) -> None:
    is_quick = threading.Event()
    jobs = MAX_DELIVERIES + 20

    def hold_up(request: Any, **_: Any) -> None:
        if request.url.endswith(".png"):
            is_quick.wait(DEADLINE)

    cloud.s3.meta.events.register("before-send.s3.PutObject", hold_up)
    for _ in range(jobs):
        cloud.send(guidance_message(SMALL))
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud) as agent:
        eventually(lambda: metric(agent, 'darkroom_bytes_in_delivery{runtime="sdxl"}') > 0)
        eventually(lambda: cloud.in_flight() >= MAX_DELIVERIES)
        threading.Event().wait(1)  # nothing more is to happen, and for that there is no event
        assert cloud.in_flight() <= MAX_DELIVERIES + LANES + MAX_AHEAD < jobs
        is_quick.set()
        for _ in range(jobs):
            assert cloud.notification()["status"] == "completed"
        cloud.wait_until_empty()


def test_the_metrics_tell_what_became_of_jobs_and_how_busy_the_engine_was(cloud: Cloud, webui: str) -> None:
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud) as agent:
        for content in (SMALL, SMALL, {**SMALL, "sampler_name": "unknown"}):
            cloud.send(guidance_message(content))
            cloud.notification()
        cloud.send("poison")
        cloud.dead_letter()
        cloud.wait_until_empty()
        eventually(lambda: metric(agent, "darkroom_messages_in_flight") == 0)
        assert metric(agent, 'darkroom_jobs_total{outcome="failed"') == 1
        assert metric(agent, 'darkroom_jobs_total{outcome="completed"') == 2
        assert metric(agent, 'darkroom_jobs_total{outcome="dead_lettered"') == 1
        assert metric(agent, "darkroom_gpu_busy_seconds_total") > 0
        assert metric(agent, 'darkroom_job_stage_seconds_count{runtime="sdxl",stage="upload"}') == 2
        assert metric(agent, "darkroom_engine_ready") == 1
