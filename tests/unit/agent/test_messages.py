"""What becomes of messages: poison, duplicates, claim checks, retries, dead letters."""

import json
import secrets
from datetime import timedelta
from typing import Any

import pytest

from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.job import Api, Job
from darkroom_contract.message import Message
from darkroom_contract.records import RequestRecord, ResultRecord, StateRecord
from darkroom_contract.types import Task, utcnow
from darkroom_contract.v1 import JobStatus
from darkroom_demo.server import serving
from tests.unit.agent.support import SMALL, Cloud, eventually, failed_state, guidance_message, held, running

TOO_LARGE = {**SMALL, "width": 4096, "height": 4096}


def new_job(content: dict[str, Any] | None = None, **changes: Any) -> Job:
    """A job that the API took."""
    job_id = secrets.token_hex(8)
    values = {
        "api": Api.V1,
        "job_id": job_id,
        "tenant": "default",
        "label": job_id,
        "runtime": "sdxl",
        "task": Task.TEXT_TO_IMAGE,
        "prefix": "team",
        "content": content or SMALL,
        "submitted_at": utcnow(),
    }
    return Job.model_validate(values | changes)


def message_of(job: Job, nonce: str = "nonce") -> str:
    return Message.of(job, nonce).to_body()


def submit(cloud: Cloud, job: Job) -> None:
    """Record a job and send its message, as the API does."""
    cloud.store.create_request(RequestRecord(job=job, nonce="nonce", recorded_at=utcnow()))
    cloud.send(message_of(job))


def stale_state(starts: int, last_error: JobError | None = None) -> StateRecord:
    """The state of a job whose agent vanished."""
    then = utcnow() - timedelta(minutes=5)
    return StateRecord(
        starts=starts, holder="gone", lease_until=then, started_at=then, updated_at=then, last_error=last_error
    )


def pictures(cloud: Cloud, job: Job) -> list[str]:
    found = cloud.s3.list_objects_v2(Bucket=cloud.outputs, Prefix=job.folder).get("Contents", [])
    return [item["Key"] for item in found if item["Key"].endswith(".png")]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not json", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "metadata"),
        (json.dumps({"metadata": {"id": "a", "tasktype": "text-to-image"}}), "content is missing"),
        (json.dumps(guidance_message(SMALL, label="../escape")), "label"),
        (json.dumps(guidance_message(SMALL, prefix="a/../b")), "prefix"),
    ],
)
def test_a_poison_message_goes_to_the_dead_letter_queue_with_its_reason(
    webui_cloud: Cloud, body: str, reason: str
) -> None:
    attribute: Any = {"DataType": "String", "StringValue": "kept"}
    webui_cloud.sqs.send_message(QueueUrl=webui_cloud.queue, MessageBody=body, MessageAttributes={"origin": attribute})
    letter, attributes = webui_cloud.dead_letter()
    assert letter == body
    assert attributes["darkroom-reason"] == JobErrorCode.INVALID_TASK
    assert reason in attributes["darkroom-message"]
    assert attributes["darkroom-runtime"] == "sdxl"
    assert attributes["origin"] == "kept"
    webui_cloud.wait_until_empty()


def test_the_agent_lives_on_after_poison(webui_cloud: Cloud) -> None:
    webui_cloud.send("poison")
    webui_cloud.send(guidance_message(SMALL))
    assert webui_cloud.notification()["status"] == "completed"
    webui_cloud.dead_letter()


def test_a_claim_check_is_answered_from_the_request_record(webui_cloud: Cloud) -> None:
    job = new_job({**SMALL, "negative_prompt": "x" * 300_000}, context={"large": True})
    webui_cloud.store.create_request(RequestRecord(job=job, nonce="nonce", recorded_at=utcnow()))
    body = message_of(job)
    assert "content" not in json.loads(body)
    webui_cloud.send(body)
    notification = webui_cloud.notification()
    assert notification["status"] == "completed"
    assert notification["context"] == {"large": True}
    assert notification["job_id"] == job.job_id


def test_a_claim_check_without_its_request_is_poison(webui_cloud: Cloud) -> None:
    webui_cloud.send(message_of(new_job({**SMALL, "negative_prompt": "x" * 300_000})))
    assert "request.json" in webui_cloud.dead_letter()[1]["darkroom-message"]


def test_another_tenants_pictures_are_in_its_own_folder(webui_cloud: Cloud) -> None:
    job = new_job(tenant="acme")
    submit(webui_cloud, job)
    [url] = webui_cloud.notification()["image_url"]
    assert url.startswith(f"s3://{webui_cloud.outputs}/acme/team/{job.label}/")


def test_a_client_of_the_topic_cannot_write_into_another_tenants_folder(cloud: Cloud, webui: str) -> None:
    settings = cloud.settings(engine="sdwebui", runtime_url=webui, tenants=("default", "acme"))
    with running(settings, cloud):
        cloud.send(guidance_message(SMALL, prefix="acme/team"))
        error = cloud.notification()["error"]
    assert error["code"] == JobErrorCode.INVALID_TASK
    assert error["field"] == "metadata.prefix"
    assert cloud.s3.list_objects_v2(Bucket=cloud.outputs)["KeyCount"] == 0


def test_a_duplicate_of_a_finished_job_is_notified_again_and_not_run(webui_cloud: Cloud) -> None:
    job = new_job()
    submit(webui_cloud, job)
    first = webui_cloud.notification()
    submit(webui_cloud, job)
    assert webui_cloud.notification() == first
    webui_cloud.wait_until_empty()
    assert len(pictures(webui_cloud, job)) == 1


def test_two_agents_with_two_messages_of_one_job_run_it_once(cloud: Cloud, slow_webui: str) -> None:
    job = new_job({**SMALL, "steps": 8})

    def settings(name: str) -> Any:
        return cloud.settings(engine="sdwebui", runtime_url=slow_webui, pod_name=name, visibility_timeout_seconds=2)

    submit(cloud, job)
    submit(cloud, job)
    with running(settings("one"), cloud), running(settings("two"), cloud):
        first, second = cloud.notification(), cloud.notification()
        cloud.wait_until_empty()
    assert first == second
    assert len(pictures(cloud, job)) == 1
    result = cloud.store.result("default", job.job_id)
    assert result is not None
    assert result.starts == 1


def test_a_job_longer_than_the_visibility_timeout_is_delivered_once(cloud: Cloud, slow_webui: str) -> None:
    job = new_job({**SMALL, "steps": 10})
    settings = cloud.settings(engine="sdwebui", runtime_url=slow_webui, visibility_timeout_seconds=2)
    submit(cloud, job)
    with running(settings, cloud):
        started = eventually(lambda: cloud.store.state("default", job.job_id))
        waiting = cloud.sqs.receive_message(QueueUrl=cloud.queue, WaitTimeSeconds=2)
        assert "Messages" not in waiting
        assert cloud.notification()["status"] == "completed"
        cloud.wait_until_empty()
    ended = cloud.store.state("default", job.job_id)
    assert ended is not None
    assert ended[0].lease_until > started[0].lease_until
    assert ended[0].progress > 0
    assert len(pictures(cloud, job)) == 1


def test_the_job_of_an_agent_that_vanished_is_taken_over(webui_cloud: Cloud) -> None:
    job = new_job()
    webui_cloud.store.put_state("default", job.job_id, stale_state(starts=2), None)
    submit(webui_cloud, job)
    assert webui_cloud.notification()["status"] == "completed"
    result = webui_cloud.store.result("default", job.job_id)
    assert result is not None
    assert result.starts == 3


def test_a_job_whose_starts_are_used_up_fails_without_another(webui_cloud: Cloud) -> None:
    job = new_job()
    why = JobError(code=JobErrorCode.TIMED_OUT, message="the job ran longer than 900 seconds", retryable=True)
    webui_cloud.store.put_state("default", job.job_id, stale_state(3, why), None)
    submit(webui_cloud, job)
    notification = webui_cloud.notification()
    body, attributes = webui_cloud.dead_letter()
    webui_cloud.wait_until_empty()
    assert notification["status"] == "failed"
    assert notification["error"] == json.loads(why.to_json())
    assert attributes["darkroom-reason"] == JobErrorCode.TIMED_OUT
    assert attributes["darkroom-message"] == why.message
    assert body == message_of(job)
    assert pictures(webui_cloud, job) == []
    result = webui_cloud.store.result("default", job.job_id)
    assert result is not None
    assert result.status is JobStatus.FAILED
    assert result.starts == 3


@pytest.mark.parametrize("records", [True, False])
def test_a_failure_that_may_pass_is_tried_again_until_the_starts_are_used_up(
    cloud: Cloud, webui: str, records: bool
) -> None:
    jobs = cloud.jobs if records else None
    job = new_job(TOO_LARGE)
    submit(cloud, job)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, max_starts=2, jobs_bucket=jobs), cloud):
        if records:
            state = eventually(lambda: failed_state(cloud, "default", job.job_id))
            assert state.starts == 1
            assert state.lease_until <= utcnow()
        notification = cloud.notification()
        _, attributes = cloud.dead_letter()
        cloud.wait_until_empty()
    assert notification["status"] == "failed"
    assert notification["error"]["code"] == JobErrorCode.ENGINE_FAILED
    assert notification["error"]["retryable"] is True
    assert "out of memory" in notification["error"]["message"]
    assert attributes["darkroom-reason"] == JobErrorCode.ENGINE_FAILED
    if records:
        result = cloud.store.result("default", job.job_id)
        assert result is not None
        assert result.starts == 2


def test_another_agents_result_is_the_one_that_is_told(cloud: Cloud) -> None:
    job = new_job({**SMALL, "steps": 6})
    foreign = ResultRecord(
        status=JobStatus.COMPLETED,
        runtime="other",
        images=(f"s3://{cloud.outputs}/theirs.png",),
        finished_at=utcnow(),
        nonce="theirs",
    )
    submit(cloud, job)
    with serving("sdwebui") as server, running(cloud.settings(engine="sdwebui", runtime_url=server.url), cloud):
        with held(server.tempo):
            eventually(lambda: cloud.store.state("default", job.job_id))
            cloud.store.create_result("default", job.job_id, foreign)
        notification = cloud.notification()
        cloud.wait_until_empty()
    assert notification["runtime"] == "other"
    assert notification["image_url"] == list(foreign.images)


def test_a_finished_picture_waits_for_aws_and_is_not_made_again(
    cloud: Cloud, webui: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = new_job()
    bucket = f"{cloud.outputs}-late"
    submit(cloud, job)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, output_bucket=bucket), cloud):
        eventually(lambda: "AWS call failed" in caplog.text)
        cloud.s3.create_bucket(Bucket=bucket)
        notification = cloud.notification()
    assert notification["status"] == "completed"
    result = cloud.store.result("default", job.job_id)
    assert result is not None
    assert result.starts == 1


def test_a_key_that_is_taken_is_not_overwritten(cloud: Cloud, webui: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter(["aaaa", "bbbb"])
    original = secrets.token_hex
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(runs) if size == 2 else original(size))
    cloud.s3.put_object(Bucket=cloud.outputs, Key="team/job-1/job-1-aaaa-1.png", Body=b"mine")
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
        cloud.send(guidance_message(SMALL))
        notification = cloud.notification()
    assert notification["image_url"] == [f"s3://{cloud.outputs}/team/job-1/job-1-bbbb-1.png"]
    assert cloud.read(f"s3://{cloud.outputs}/team/job-1/job-1-aaaa-1.png")[0] == b"mine"
