"""The job that an engine is given before any client's."""

import json

import httpx
import pytest

from darkroom_agent.engines.base import Output, Run
from darkroom_agent.engines.sdwebui import WebUI
from darkroom_contract.job import Job
from tests.unit.agent.support import SMALL, Cloud, eventually, guidance_message, running
from tests.unit.agent.test_messages import TOO_LARGE

WARMUP = json.dumps({**SMALL, "prompt": "warm"})


def test_an_engine_is_ready_once_it_has_run_the_warm_up_job(
    cloud: Cloud, webui: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.send(guidance_message(SMALL))
    settings = cloud.settings(engine="sdwebui", runtime_url=webui, warmup=WARMUP)
    with caplog.at_level("INFO", "darkroom_agent"), running(settings, cloud):
        assert cloud.notification()["status"] == "completed"
    events = [record.message for record in caplog.records]
    assert events.index("runtime warm") < events.index("runtime ready") < events.index("job starts")
    assert events.count("runtime warm") == 1


def test_a_warm_up_job_that_is_wrong_is_said_and_keeps_no_job_waiting(
    cloud: Cloud, webui: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.send(guidance_message(SMALL))
    wrong = json.dumps({**SMALL, "sampler_name": "unknown"})
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, warmup=wrong), cloud):
        assert cloud.notification()["status"] == "completed"
    assert "the warm-up job is wrong" in caplog.text


def test_an_agent_that_is_stopped_while_its_engine_warms_up_ends(cloud: Cloud, slow_webui: str) -> None:
    long = json.dumps({**SMALL, "steps": 150})
    settings = cloud.settings(engine="sdwebui", runtime_url=slow_webui, warmup=long)
    with running(settings, cloud) as agent:
        eventually(lambda: httpx.get(f"{slow_webui}/sdapi/v1/progress").json()["progress"] > 0)
        assert agent.health("/readyz") == 503
        agent.stop()


def test_an_engine_that_never_warms_up_fails_its_probe_so_that_it_is_restarted(cloud: Cloud, webui: str) -> None:
    cloud.send(guidance_message(SMALL))
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, warmup=json.dumps(TOO_LARGE)), cloud) as agent:
        eventually(lambda: agent.health("/livez/engine") == 503)
        assert agent.health("/readyz") == 503
        assert cloud.count(cloud.result_queue) == 0


def test_a_fault_of_the_agents_own_in_the_warm_up_ends_no_agent(
    cloud: Cloud, webui: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    generate = WebUI.generate

    def broken(engine: WebUI, job: Job, run: Run) -> Output:
        if job.job_id == "warm-up" and "warm-up failed" not in caplog.text:
            raise TypeError
        return generate(engine, job, run)

    monkeypatch.setattr(WebUI, "generate", broken)
    cloud.send(guidance_message(SMALL))
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, warmup=WARMUP), cloud):
        assert cloud.notification()["status"] == "completed"
