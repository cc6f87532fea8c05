"""What is told of a job that ended: it fits SNS, whatever the job."""

import json
from typing import Any

import pytest

from darkroom_contract.errors import MAX_MESSAGE_LENGTH, MAX_NAME_LENGTH, ApiError, ErrorCode, JobError, JobErrorCode
from darkroom_contract.job import MAX_CONTEXT_BYTES, JobReference
from darkroom_contract.records import MAX_NOTIFICATION_BYTES, Notification, ResultRecord
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus
from tests.unit.contract.test_jobs import v1_job

OUTPUT = "s3://outputs/a.out"


def result(pictures: int, prefix: str = "a", error: JobError | None = None) -> ResultRecord:
    return ResultRecord(
        status=JobStatus.FAILED if error else JobStatus.COMPLETED,
        runtime="sdxl",
        images=tuple(f"s3://outputs/{prefix}/job/job-0a1b-{n}.png" for n in range(pictures)),
        output=OUTPUT,
        error=error,
        finished_at=utcnow(),
        nonce="n",
    )


def test_a_notification_has_every_picture() -> None:
    notification = Notification.of(v1_job(context=[1]), result(300))
    assert len(notification.image_url or ()) == 300
    assert notification.context == [1]


def test_a_notification_says_how_long_the_job_took() -> None:
    seconds = {"wait": 0.8, "generate": 4.2, "total": 5.1}
    timed = result(1).model_copy(update={"seconds": seconds})
    assert json.loads(Notification.of(v1_job(), timed).to_json())["seconds"] == seconds


def test_the_guidance_s_clients_find_the_fields_that_they_know() -> None:
    notification = json.loads(Notification.of(v1_job(id="j"), result(1)).to_json())
    assert notification == {
        "runtime": "sdxl",
        "id": "j",
        "result": True,
        "status": "completed",
        "image_url": ["s3://outputs/a/job/job-0a1b-0.png"],
        "output_url": OUTPUT,
        "context": {},
        "job_id": "j",
        "tenant": "default",
    }


def test_a_cancelled_job_is_told_as_one_without_success_and_without_error() -> None:
    cancelled = ResultRecord(status=JobStatus.CANCELLED, runtime="sdxl", finished_at=utcnow(), nonce="n")
    notification = Notification.of(v1_job(id="j", context=[1]), cancelled)
    assert json.loads(notification.to_json()) == {
        "runtime": "sdxl",
        "id": "j",
        "result": False,
        "status": "cancelled",
        "image_url": [],
        "context": [1],
        "job_id": "j",
        "tenant": "default",
    }
    assert notification.attributes["status"] == "cancelled"


def test_a_notification_that_would_be_too_large_leaves_the_pictures_out() -> None:
    job = v1_job(prefix="p" * 500, context="c" * (MAX_CONTEXT_BYTES - 2))
    notification = Notification.of(job, result(2000, "p" * 500))
    text = notification.to_json()
    assert len(text.encode()) <= MAX_NOTIFICATION_BYTES
    assert "image_url" not in json.loads(text)
    assert (notification.result, notification.output_url, notification.context) == (True, OUTPUT, job.context)


@pytest.mark.parametrize("context", ["c" * MAX_NOTIFICATION_BYTES, {"é" * MAX_CONTEXT_BYTES: 1}])
def test_a_context_that_is_refused_for_its_size_does_not_come_back(context: Any) -> None:
    error = JobError(code=JobErrorCode.INVALID_TASK, message="é" * 10_000, field="f" * 10_000, node="1" * 10_000)
    notification = Notification.of(v1_job(context=context), result(0, error=error))
    assert notification.context == {}
    assert len(notification.to_json().encode()) < 10_000


def test_a_job_of_which_little_is_known_can_be_answered() -> None:
    reference = JobReference(tenant="studio", job_id="j", label="mine")
    notification = Notification.of(reference, result(0, error=JobError(code=JobErrorCode.INVALID_TASK, message="no")))
    assert (notification.tenant, notification.job_id, notification.id) == ("studio", "j", "mine")
    assert (notification.result, notification.status) == (False, JobStatus.FAILED)


@pytest.mark.parametrize("length", [0, 1, MAX_MESSAGE_LENGTH])
def test_an_error_s_message_is_kept_up_to_its_limit(length: int) -> None:
    assert JobError(code=JobErrorCode.INTERNAL, message="m" * length).message == "m" * length


def test_an_error_s_texts_are_cut_at_their_limits() -> None:
    error = JobError(code=JobErrorCode.INTERNAL, message="m" * 10_000, field="f" * 201, node="n" * 201)
    assert error.message == "m" * (MAX_MESSAGE_LENGTH - 1) + "…"
    assert (error.field, error.node) == ("f" * (MAX_NAME_LENGTH - 1) + "…", "n" * (MAX_NAME_LENGTH - 1) + "…")
    assert ApiError(code=ErrorCode.INVALID_FIELD, message="m", field="f" * 201).field == error.field
    assert JobError.model_validate_json(error.to_json()) == error
