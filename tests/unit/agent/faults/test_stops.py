"""SIGTERM at any moment: the process ends in time, and the job is done, by this agent or by the next."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.unit.agent.faults.agents import assert_ended_once, result_of, state_of
from tests.unit.agent.faults.engine_proxy import EngineProxy, proxied
from tests.unit.agent.faults.gpu import message
from tests.unit.agent.faults.http_proxy import Fault, HttpProxy
from tests.unit.agent.faults.processes import process
from tests.unit.agent.support import DEADLINE, Cloud, eventually, held
from tests.unit.agent.test_process import Process

slow = pytest.mark.slow
SLOW = 0.1


def finish(cloud: Cloud, proxy: EngineProxy, jobs: dict[str, int]) -> None:
    """Let another agent do what is left."""
    with process(cloud, proxy, "next"):
        assert_ended_once(cloud, jobs)


def ended(stopped: Process) -> int:
    """The exit status of an agent that was told to stop."""
    return stopped.process.wait(DEADLINE)


def test_an_idle_agent_ends_and_a_message_that_comes_meanwhile_is_the_next_ones(cloud: Cloud) -> None:
    with proxied("sdwebui") as proxy:
        with process(cloud, proxy, "first", RECEIVE_WAIT_SECONDS="2") as agent:
            agent.wait_for("runtime ready")
            agent.process.terminate()
            agent.wait_for("stopping")
            job_id = cloud.send(message("sdwebui", 1))
            assert ended(agent) == 0
        assert state_of(cloud, job_id) is None
        finish(cloud, proxy, {job_id: 1})
    assert proxy.gpu.begun == [1]


@pytest.mark.parametrize("engine", ["sdwebui", pytest.param("comfyui", marks=slow)])
def test_a_running_job_that_fits_is_finished_and_the_one_behind_it_is_the_next_agents(
    cloud: Cloud, engine: Any
) -> None:
    with proxied(engine, SLOW) as proxy:
        with process(cloud, proxy, "first") as agent:
            jobs = {cloud.send(message(engine, 1)): 1}  # tells the agent how soon a job may be over
            eventually(lambda: proxy.gpu.finished)
            with held(proxy.tempo):
                jobs[cloud.send(message(engine, 2, steps=20))] = 2
                eventually(lambda: proxy.gpu.begun == [1, 2])
                waiting = cloud.send(message(engine, 3, steps=100))
                jobs[waiting] = 3
                eventually(lambda: state_of(cloud, waiting))
                agent.process.terminate()
                agent.wait_for("stopping")
            assert ended(agent) == 0
            agent.wait_for("agent stopped")
        hits = sum(line["event"].startswith("an interrupt that was meant for another job") for line in agent.lines)
        assert [result_of(cloud, job_id) is not None for job_id in jobs] == [True, True, False]
        proxy.tempo.seconds_per_step = 0
        finish(cloud, proxy, jobs)
    # The job behind it has its turn, and is interrupted, before a slow machine has the first one's answer through.
    assert proxy.gpu.finished == [1, *[2] * (1 + hits), 3]


@pytest.mark.parametrize("engine", [pytest.param("sdwebui", marks=slow), "comfyui"])
def test_a_running_job_that_does_not_fit_is_interrupted_and_begun_again_by_the_next_agent(
    cloud: Cloud, engine: Any
) -> None:
    with proxied(engine, SLOW) as proxy:
        with process(cloud, proxy, "first", SHUTDOWN_BUDGET_SECONDS="0") as agent, held(proxy.tempo):
            job_id = cloud.send(message(engine, 1, steps=20))
            eventually(lambda: proxy.gpu.begun)
            agent.process.terminate()
            assert ended(agent) == 0
        state = state_of(cloud, job_id)
        assert state is not None
        assert state.starts == 0
        finish(cloud, proxy, {job_id: 1})
    assert proxy.gpu.begun == [1, 1]
    assert proxy.gpu.finished == [1]


def test_a_picture_that_is_being_uploaded_is_delivered_and_the_gpu_not_asked_again(cloud: Cloud) -> None:
    address = urlsplit(cloud.s3.meta.endpoint_url)
    aws = HttpProxy()
    aws.upstream = ("127.0.0.1", address.port or 0)
    aws.listen()
    uploading = aws.fail(Fault.HELD, "^PUT .*[.]png", times=1)
    with proxied("sdwebui") as proxy:
        with process(cloud, proxy, "first", AWS_ENDPOINT_URL=aws.url, VISIBILITY_TIMEOUT_SECONDS="30") as agent:
            job_id = cloud.send(message("sdwebui", 1))
            assert uploading.wait(DEADLINE)
            agent.process.terminate()
            agent.wait_for("stopping")
            aws.mend()
            assert ended(agent) == 0
        assert_ended_once(cloud, {job_id: 1})
    aws.refuse()
    assert proxy.gpu.begun == [1]
