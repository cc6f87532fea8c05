"""A client that wants its job no more."""

from datetime import timedelta

import pytest

from darkroom_contract.errors import ErrorCode
from darkroom_contract.names import JobFact
from darkroom_contract.v1 import JobStatus
from tests.unit.api.conftest import Cloud
from tests.unit.api.events import V1, V1ALPHA2, cancel, event, get, invoke, post, v1_body, v1alpha2_body
from tests.unit.api.test_status import put, result, state


@pytest.fixture
def job(cloud: Cloud) -> str:
    assert post(V1, v1_body(id="mine")).status == 202
    return "mine"


def test_a_job_that_waits_is_cancelled(cloud: Cloud, job: str) -> None:
    answer = cancel(job)
    assert (answer.status, answer.body["id"], answer.body["status"]) == (202, job, "cancelled")
    assert cloud.store.cancel("default", job) is not None
    assert get(job).body == answer.body


@pytest.mark.parametrize("body", ["{}", '{"reason": "too late"}', "no JSON"])
def test_a_body_of_a_cancellation_is_ignored(cloud: Cloud, job: str, body: str) -> None:
    assert invoke(event("POST", "/v1/jobs/{id}/cancel", body, job_id=job)).status == 202
    assert cloud.store.cancel("default", job) is not None


def test_a_job_that_runs_is_cancelled(cloud: Cloud, job: str) -> None:
    put(cloud, JobFact.STATE, state(timedelta(minutes=1)))
    answer = cancel(job)
    assert (answer.status, answer.body["status"]) == (202, "cancelled")
    assert not {"progress", "started_at", "finished_at"} & set(answer.body)


def test_to_cancel_a_job_again_changes_nothing(cloud: Cloud, job: str) -> None:
    first = cancel(job)
    recorded = cloud.store.cancel("default", job)
    second = cancel(job)
    assert (second.status, second.body) == (first.status, first.body)
    assert cloud.store.cancel("default", job) == recorded


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_job_that_has_ended_stays_as_it_is(cloud: Cloud, job: str, status: JobStatus) -> None:
    put(cloud, JobFact.RESULT, result(status))
    answer = cancel(job)
    assert (answer.status, answer.body["status"]) == (200, status)
    assert "finished_at" in answer.body
    assert cloud.store.cancel("default", job) is None


def test_a_job_that_ends_before_its_agent_learns_of_the_cancellation_counts_as_it_ended(cloud: Cloud, job: str) -> None:
    cancel(job)
    put(cloud, JobFact.RESULT, result())
    answer = cancel(job)
    assert (answer.status, answer.body["status"]) == (200, "completed")
    assert get(job).body["status"] == "completed"


def test_a_v1alpha_job_can_be_cancelled_too(cloud: Cloud) -> None:
    job_id = post(V1ALPHA2, v1alpha2_body()).headers["x-darkroom-job"]
    assert cancel(job_id).status == 202
    assert get(job_id).body["status"] == "cancelled"


def test_a_request_that_is_sent_again_does_not_bring_its_job_back(cloud: Cloud, job: str) -> None:
    cancel(job)
    answer = post(V1, v1_body(id=job))
    assert (answer.status, answer.body["status"]) == (202, "cancelled")
    assert len(cloud.published()) == 1


def test_an_unknown_job_cannot_be_cancelled(cloud: Cloud) -> None:
    answer = cancel("nobody-s")
    assert (answer.status, answer.error["code"]) == (404, ErrorCode.UNKNOWN_JOB)
    assert cloud.store.cancel("default", "nobody-s") is None


def test_another_tenant_s_job_cannot_be_cancelled(cloud: Cloud, job: str) -> None:
    assert cancel(job, tenant="studio").status == 404
    assert cloud.store.cancel("default", job) is None
    assert cloud.store.cancel("studio", job) is None
    assert get(job).body["status"] == "accepted"


def test_without_records_no_job_can_be_cancelled(without_records: Cloud) -> None:
    post(V1, v1_body(id="mine"))
    assert cancel("mine").status == 404


def test_a_cancellation_that_cannot_be_recorded_may_be_asked_for_again(cloud: Cloud, job: str) -> None:
    with cloud.down("S3"):
        answer = cancel(job)
    assert (answer.status, answer.error["code"]) == (503, ErrorCode.UNAVAILABLE)
    assert cancel(job).status == 202
