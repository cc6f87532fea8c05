"""What an agent with records believes of a message that says whose job it is."""

import json

import pytest

from darkroom_contract.errors import JobErrorCode
from darkroom_contract.records import RequestRecord
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus
from tests.unit.agent.support import SMALL, Cloud, running
from tests.unit.agent.test_messages import message_of, new_job


def test_a_message_without_a_record_of_its_job_is_poison(webui_cloud: Cloud) -> None:
    webui_cloud.send(message_of(new_job()))
    assert "request.json does not exist" in webui_cloud.dead_letter()[1]["darkroom-message"]


def test_a_message_with_another_nonce_is_poison_and_nothing_is_written(webui_cloud: Cloud) -> None:
    job = new_job(tenant="acme")
    webui_cloud.store.create_request(RequestRecord(job=job, nonce="nonce", recorded_at=utcnow()))
    webui_cloud.send(message_of(job, nonce="guessed"))
    assert "nonce" in webui_cloud.dead_letter()[1]["darkroom-message"]
    assert webui_cloud.store.state("acme", job.job_id) is None
    assert webui_cloud.store.result("acme", job.job_id) is None


def test_the_recorded_job_is_run_whatever_the_message_says(webui_cloud: Cloud) -> None:
    job = new_job({**SMALL, "prompt": "the client's own"})
    webui_cloud.store.create_request(RequestRecord(job=job, nonce="nonce", recorded_at=utcnow()))
    webui_cloud.send(message_of(job.model_copy(update={"content": {**SMALL, "prompt": "forged"}})))
    response = webui_cloud.read_json(webui_cloud.notification()["output_url"])
    assert response["parameters"]["prompt"] == "the client's own"


@pytest.mark.parametrize("records", [True, False])
def test_a_job_whose_message_is_not_understood_is_answered_as_failed(cloud: Cloud, webui: str, records: bool) -> None:
    job = new_job(context={"a": 1})
    cloud.store.create_request(RequestRecord(job=job, nonce="nonce", recorded_at=utcnow()))
    message = json.loads(message_of(job))
    message["metadata"]["prefix"] = "a//b"
    jobs = cloud.jobs if records else None
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, jobs_bucket=jobs), cloud):
        cloud.send(message)
        notification = cloud.notification()
        cloud.dead_letter()
    assert (notification["job_id"], notification["context"]) == (job.job_id, {"a": 1})
    assert notification["error"]["code"] == JobErrorCode.INVALID_TASK
    result = cloud.store.result("default", job.job_id)
    assert (result.status if result else None) == (JobStatus.FAILED if records else None)


@pytest.mark.parametrize("known", [True, False])
def test_a_message_that_is_not_understood_fails_no_job_that_was_begun_or_is_unknown(
    webui_cloud: Cloud, known: bool
) -> None:
    job = new_job()
    if known:
        webui_cloud.store.create_request(RequestRecord(job=job, nonce="nonce", recorded_at=utcnow()))
        webui_cloud.send(message_of(job))
        webui_cloud.notification()
    message = json.loads(message_of(job))
    message["metadata"]["prefix"] = "a//b"
    webui_cloud.send(message)
    webui_cloud.dead_letter()
    assert webui_cloud.count(webui_cloud.result_queue) == 0
    result = webui_cloud.store.result("default", job.job_id)
    assert (result.status if result else None) == (JobStatus.COMPLETED if known else None)


def test_a_message_that_is_not_understood_and_has_another_nonce_fails_no_job(webui_cloud: Cloud) -> None:
    job = new_job()
    webui_cloud.store.create_request(RequestRecord(job=job, nonce="nonce", recorded_at=utcnow()))
    message = json.loads(message_of(job, nonce="guessed"))
    message["metadata"]["prefix"] = "a//b"
    webui_cloud.send(message)
    webui_cloud.dead_letter()
    assert webui_cloud.count(webui_cloud.result_queue) == 0
    assert webui_cloud.store.result("default", job.job_id) is None
