"""What becomes of jobs when their engine fails, goes away, comes back or hangs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from darkroom_contract.errors import JobErrorCode
from tests.unit.agent.faults.agents import assert_ended_once, kubelet, result_of, state_of
from tests.unit.agent.faults.clocks import fast_world
from tests.unit.agent.faults.engine_proxy import EngineProxy, proxied
from tests.unit.agent.faults.gpu import message
from tests.unit.agent.faults.http_proxy import Fault
from tests.unit.agent.support import Cloud, RunningAgent, at_work, eventually, held

both_engines = pytest.mark.parametrize("engine", ["sdwebui", "comfyui"])
web_ui_or_slow = pytest.mark.parametrize("engine", ["sdwebui", pytest.param("comfyui", marks=pytest.mark.slow)])
comfyui_or_slow = pytest.mark.parametrize("engine", [pytest.param("sdwebui", marks=pytest.mark.slow), "comfyui"])
#: The pace of an engine whose jobs are to last for a while.
SLOW = 0.05
LONG = 12


@contextmanager
def agent_on(cloud: Cloud, proxy: EngineProxy, times: float = 5, **settings: Any) -> Iterator[RunningAgent]:
    """An agent in a world where so many seconds pass in one."""
    with fast_world(times) as clock:
        values = cloud.settings(engine=proxy.engine, runtime_url=proxy.url, **settings)
        with at_work(values, cloud.clients, clock) as agent:
            yield agent


@both_engines
@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.OUT_OF_MEMORY])
def test_a_job_that_the_engine_answers_with_500_once_is_done_at_the_second_try(
    cloud: Cloud, engine: Any, fault: Fault
) -> None:
    with proxied(engine) as proxy, agent_on(cloud, proxy):
        proxy.fail_jobs(fault, times=1)
        job_id = cloud.send(message(engine, 1))
        assert_ended_once(cloud, {job_id: 1})
    assert proxy.hit == [(1, fault)]
    assert proxy.gpu.begun == [1]


@both_engines
def test_a_job_that_the_engine_always_answers_with_500_fails_when_its_starts_are_used_up(
    cloud: Cloud, engine: Any
) -> None:
    with proxied(engine) as proxy, agent_on(cloud, proxy, max_starts=3):
        proxy.fail_jobs(Fault.ERROR)
        job_id = cloud.send(message(engine, 1))
        _, reason = cloud.dead_letter()
        cloud.wait_until_empty()
        assert reason["darkroom-reason"] == JobErrorCode.ENGINE_FAILED
        notification = cloud.notification()
        assert (notification["job_id"], notification["status"]) == (job_id, "failed")
        assert notification["error"]["retryable"] is True
        assert cloud.count(cloud.result_queue) == 0
        proxy.mend()
        next_id = cloud.send(message(engine, 2))
        assert_ended_once(cloud, {next_id: 2})
    assert proxy.hit == [(1, Fault.ERROR)] * 3
    assert proxy.gpu.begun == [2]


def test_an_answer_that_memory_is_out_is_told_in_the_engines_words(cloud: Cloud) -> None:
    with proxied("sdwebui") as proxy, agent_on(cloud, proxy, max_starts=1):
        proxy.fail_jobs(Fault.OUT_OF_MEMORY)
        cloud.send(message("sdwebui", 1))
        error = cloud.notification()["error"]
    assert error["code"] == JobErrorCode.ENGINE_FAILED
    assert error["message"].startswith("CUDA out of memory")
    assert error["retryable"] is True


@both_engines
@pytest.mark.parametrize("fault", [Fault.CUT_AT_ONCE, Fault.CUT_BEFORE_ANSWER, Fault.CUT_MID_ANSWER])
def test_a_job_whose_connection_is_cut_is_done(cloud: Cloud, engine: Any, fault: Fault) -> None:
    with proxied(engine) as proxy, agent_on(cloud, proxy):
        proxy.fail_jobs(fault, times=1)
        job_id = cloud.send(message(engine, 1))
        assert_ended_once(cloud, {job_id: 1})
    # The web UI's pictures are in that one answer, and nowhere else.
    assert proxy.gpu.begun == ([1, 1] if engine == "sdwebui" else [1])


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.CUT_BEFORE_ANSWER, Fault.CUT_MID_ANSWER])
def test_comfyui_runs_a_job_once_whatever_other_answer_is_lost(cloud: Cloud, fault: Fault) -> None:
    with proxied("comfyui", seconds_per_step=SLOW) as proxy, agent_on(cloud, proxy):
        for seed, path in enumerate(["GET /history/", "GET /queue", "GET /view", "GET /ws", "POST /history"], 1):
            has_come = proxy.fail(fault, path, times=1)
            job_id = cloud.send(message("comfyui", seed))
            assert_ended_once(cloud, {job_id: seed})
            assert has_come.is_set() or path == "GET /ws"  # the connection of the job before is kept
    assert proxy.gpu.begun == [1, 2, 3, 4, 5]


@both_engines
def test_jobs_in_an_engine_that_restarts_are_done_and_only_the_running_one_begins_again(
    cloud: Cloud, engine: Any
) -> None:
    """ComfyUI's file numbers begin again: the second life's first file has the name of the first one's."""
    with proxied(engine, SLOW) as proxy, agent_on(cloud, proxy):
        with held(proxy.tempo):
            jobs = {cloud.send(message(engine, seed, LONG)): seed for seed in (1, 2, 3)}
            eventually(lambda: proxy.gpu.begun)
            proxy.restart()
        assert_ended_once(cloud, jobs)
    assert sorted(proxy.gpu.begun) == sorted([proxy.gpu.begun[0], 1, 2, 3])


@both_engines
def test_jobs_before_and_after_a_restart_get_their_own_pictures(cloud: Cloud, engine: Any) -> None:
    with proxied(engine) as proxy, agent_on(cloud, proxy):
        for seed in (1, 2):
            job_id = cloud.send(message(engine, seed))
            assert_ended_once(cloud, {job_id: seed})
            proxy.restart()
    assert proxy.gpu.begun == [1, 2]


@both_engines
def test_a_job_waits_untouched_for_an_engine_that_is_down_at_the_start(cloud: Cloud, engine: Any) -> None:
    with proxied(engine) as proxy:
        proxy.kill()
        with agent_on(cloud, proxy) as agent:
            job_id = cloud.send(message(engine, 1))
            eventually(lambda: agent.health("/readyz") == 503)
            assert state_of(cloud, job_id) is None
            proxy.start()
            assert_ended_once(cloud, {job_id: 1})
    result = result_of(cloud, job_id)
    assert result is not None
    assert result.starts == 1
    assert proxy.gpu.begun == [1]


@comfyui_or_slow
def test_jobs_of_an_engine_that_goes_down_in_mid_queue_wait_for_its_return(cloud: Cloud, engine: Any) -> None:
    with proxied(engine, SLOW) as proxy, agent_on(cloud, proxy) as agent:
        jobs = {cloud.send(message(engine, seed, LONG)): seed for seed in range(1, 4)}
        eventually(lambda: proxy.gpu.finished)
        proxy.kill()
        eventually(lambda: agent.health("/readyz") == 503)
        proxy.start()
        assert_ended_once(cloud, jobs)
    assert len(proxy.gpu.begun) <= len(jobs) + 1
    assert sorted(set(proxy.gpu.begun)) == [1, 2, 3]


@web_ui_or_slow
def test_an_engine_that_hangs_in_a_job_is_restarted_by_its_probe_and_the_job_is_done(cloud: Cloud, engine: Any) -> None:
    with proxied(engine, SLOW) as proxy, agent_on(cloud, proxy, times=10, job_timeout_seconds=20) as agent:
        proxy.fail(Fault.IGNORED, "POST /(sdapi/v1/)?(interrupt|queue)")
        endless = cloud.send(message(engine, 1, steps=150))
        eventually(lambda: proxy.gpu.begun)
        other = cloud.send(message(engine, 2))
        with kubelet(agent, proxy) as restarts:
            eventually(lambda: restarts)
            state = state_of(cloud, endless)
            assert state is not None
            assert state.last_error is not None
            assert state.last_error.code is JobErrorCode.TIMED_OUT
            eventually(lambda: result_of(cloud, other))
    assert proxy.gpu.begun.count(2) == 1


@comfyui_or_slow
def test_an_engine_that_answers_nothing_any_more_is_restarted_by_its_probe_and_the_job_is_done(
    cloud: Cloud, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom_agent.engines.comfyui._POLL_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("darkroom_agent.engines.comfyui._STOP_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("darkroom_agent.engines.sdwebui_queue._QUESTION_SECONDS", 0.5)
    with proxied(engine, SLOW) as proxy, agent_on(cloud, proxy, times=10, job_timeout_seconds=15) as agent:
        with held(proxy.tempo):
            job_id = cloud.send(message(engine, 1, LONG))
            eventually(lambda: proxy.gpu.begun)
            proxy.hang()
        with kubelet(agent, proxy) as restarts:
            eventually(lambda: restarts)
            assert_ended_once(cloud, {job_id: 1})
    # ComfyUI keeps what it has made until it is asked for it; but its restart took that away.
    assert proxy.gpu.begun == [1, 1]


@pytest.mark.slow
@both_engines
def test_an_idle_engine_that_answers_nothing_any_more_is_restarted_by_its_probe(
    cloud: Cloud, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.agent.support.DEADLINE", 15)
    with proxied(engine) as proxy, agent_on(cloud, proxy, job_timeout_seconds=10) as agent:
        eventually(lambda: agent.health("/readyz") == 200)
        proxy.hang()
        eventually(lambda: agent.health("/readyz") == 503)
        eventually(lambda: agent.health("/livez/engine") == 503)
