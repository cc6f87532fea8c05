"""One job is followed by its facts in S3."""

from datetime import timedelta
from typing import Any

import pytest

from darkroom.doctor import job as jobs
from darkroom.doctor.finding import Finding, Health
from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.job import Job
from darkroom_contract.names import Bucket, s3_url
from darkroom_contract.records import RequestRecord, ResultRecord, StateRecord
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus
from tests.unit.darkroom.doctor.world import World

FAILURE = JobError(code=JobErrorCode.ENGINE_FAILED, message="out of memory", retryable=True)
REFUSAL = JobError(code=JobErrorCode.ENGINE_REFUSED, message="no such sampler", retryable=False)


def followed(intact: World, job: Job) -> dict[str, Finding]:
    found = jobs.find(intact.store, ["default", "studio"], job.job_id)
    told = {each.name: each for each in jobs.follow(intact.context(), found)}
    assert all(each.is_cause is each.finding.is_wrong for each in told.values())
    assert "a secret wish" not in repr(told)
    return {name: each.finding for name, each in told.items()}


def run(intact: World, job: Job, lease: timedelta) -> None:
    now = utcnow()
    state = StateRecord(
        starts=2, holder="sdxl-abc", lease_until=now + lease, started_at=now, updated_at=now, progress=0.5
    )
    intact.store.put_state(job.tenant, job.job_id, state.model_copy(update={"last_error": FAILURE}), None)


def end(intact: World, job: Job, **said: Any) -> None:
    result = {"status": JobStatus.COMPLETED, "runtime": "sdxl", "starts": 3, "finished_at": utcnow(), "nonce": "n"}
    intact.store.create_result(job.tenant, job.job_id, ResultRecord.model_validate({**result, **said}))


def test_a_job_of_nobody_is_refused_with_where_to_look(intact: World) -> None:
    with pytest.raises(jobs.UnknownJob, match=r"there is no job nothing: .* x-darkroom-job"):
        jobs.find(intact.store, ["default", "studio"], "nothing")


def test_a_job_that_waits_leaves_the_chain_to_say_why(intact: World) -> None:
    job = intact.submit("waits", tenant="studio")
    intact.store.mark_published("studio", job.job_id, "m-1")
    told = followed(intact, job)
    assert "waits of studio for sdxl" in told["request"].words
    assert told["message"].words == "SNS has it as m-1"
    assert told["state"].health is Health.UNKNOWN
    assert "no agent has begun it" in told["state"].words


def test_a_job_that_sns_never_got_is_told(intact: World) -> None:
    job = intact.submit("lost")
    assert "message" not in followed(intact, job)  # it may be on its way
    old = intact.store.request("default", "lost")
    assert old
    earlier = RequestRecord(**{**dict(old), "recorded_at": utcnow() - timedelta(minutes=2)})
    found = jobs.Found("default", earlier)
    told = {each.name: each.finding for each in jobs.follow(intact.context(), found)}
    assert told["message"].is_wrong
    assert "SNS never got its message" in told["message"].words
    assert "--filter-pattern lost" in told["message"].remedy[0]


def test_who_is_at_a_job_and_who_was_is_told_apart(intact: World) -> None:
    run(intact, job := intact.submit("held"), timedelta(minutes=1))
    told = followed(intact, job)["state"]
    assert told.health is Health.OK
    assert told.words == "sdxl-abc is at it, start 2, 50% done; before that engine_failed: out of memory"
    run(intact, gone := intact.submit("left"), timedelta(minutes=-1))
    told = followed(intact, gone)["state"]
    assert told.health is Health.UNKNOWN
    assert "and is gone, start 2" in told.words


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(FAILURE, "darkroom runtime redrive sdxl --id failed-engine_failed"), (REFUSAL, "send it anew")],
)
def test_a_job_that_failed_says_why_and_whether_it_may_be_sent_back(
    intact: World, error: JobError, remedy: str
) -> None:
    end(intact, job := intact.submit(f"failed-{error.code}"), status=JobStatus.FAILED, error=error)
    told = followed(intact, job)["result"]
    assert told.is_wrong
    assert f"failed after 3 starts: {error.code}: {error.message}" in told.words
    assert told.remedy[0].startswith(remedy)


def test_the_pictures_of_a_job_are_looked_for(intact: World) -> None:
    bucket = intact.names.bucket(Bucket.OUTPUTS)
    end(intact, job := intact.submit("drawn"), images=(s3_url(bucket, "a.png"), s3_url(bucket, "b.png")))
    intact.client("s3").put_object(Bucket=bucket, Key="a.png", Body=b"a picture")
    told = followed(intact, job)["pictures"]
    assert told.is_wrong
    assert "1 of 2 are not there any more" in told.words
    intact.client("s3").put_object(Bucket=bucket, Key="b.png", Body=b"a picture")
    assert followed(intact, job)["pictures"].health is Health.OK


def test_a_job_that_was_taken_back_is_well(intact: World) -> None:
    job = intact.submit("cancelled")
    intact.store.create_cancel(job.tenant, job.job_id)
    end(intact, job, status=JobStatus.CANCELLED)
    told = followed(intact, job)
    assert "its client took it back" in told["cancel"].words
    assert told["result"].health is Health.OK
