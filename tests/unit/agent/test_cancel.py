"""Jobs that their clients want no more."""

from typing import Any

import pytest

from darkroom_contract.job import Job
from darkroom_contract.types import Task
from darkroom_contract.v1 import JobStatus
from darkroom_demo.server import serving
from tests.unit.agent.support import Cloud, eventually, running
from tests.unit.agent.test_messages import message_of, new_job, pictures, submit
from tests.unit.agent.test_shutdown import is_idle, long_job


def long_new_job(engine: str) -> Job:
    task = Task.TEXT_TO_IMAGE if engine == "sdwebui" else Task.PIPELINE
    return new_job(long_job(engine)["content"], task=task)


def is_running(cloud: Cloud, job: Job) -> bool:
    found = cloud.store.state(job.tenant, job.job_id)
    return bool(found and found[0].progress > 0)


def test_a_job_that_was_cancelled_before_it_began_never_reaches_the_engine(cloud: Cloud, webui: str) -> None:
    job = new_job()
    cloud.store.create_cancel(job.tenant, job.job_id)
    submit(cloud, job)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
        notification = cloud.notification()
        cloud.wait_until_empty()
    assert (notification["status"], notification["result"]) == ("cancelled", False)
    assert "error" not in notification
    result = cloud.store.result(job.tenant, job.job_id)
    assert result is not None
    assert result.status is JobStatus.CANCELLED
    assert (result.starts, result.images, result.output) == (0, (), None)
    assert pictures(cloud, job) == []
    assert cloud.count(cloud.dead_letter_queue) == 0


@pytest.mark.parametrize("engine", ["sdwebui", "comfyui"])
def test_a_running_job_that_is_cancelled_ends_soon_and_the_next_one_is_unharmed(cloud: Cloud, engine: Any) -> None:
    with serving(engine=engine, seconds_per_step=0.2) as server:
        job = long_new_job(engine)
        submit(cloud, job)
        with running(cloud.settings(engine=engine, runtime_url=server.url), cloud):
            eventually(lambda: is_running(cloud, job))
            cloud.store.create_cancel(job.tenant, job.job_id)
            assert cloud.notification()["status"] == "cancelled"
            eventually(lambda: is_idle(engine, server.url))
            cloud.send(long_job(engine, steps=2))
            assert cloud.notification()["status"] == "completed"
            cloud.wait_until_empty()
    result = cloud.store.result(job.tenant, job.job_id)
    assert result is not None
    assert (result.status, result.starts) == (JobStatus.CANCELLED, 1)


def test_a_job_that_ended_before_it_was_cancelled_stays_completed(cloud: Cloud, webui: str) -> None:
    job = new_job()
    submit(cloud, job)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
        assert cloud.notification()["status"] == "completed"
        cloud.store.create_cancel(job.tenant, job.job_id)
        cloud.send(message_of(job))  # once more
        assert cloud.notification()["status"] == "completed"
