"""What a client is told of a job."""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from darkroom_api.service import service
from darkroom_api.status import JobFacts
from darkroom_contract.errors import ErrorCode, JobError, JobErrorCode
from darkroom_contract.names import JobFact, job_key
from darkroom_contract.records import CancelRecord, RequestRecord, ResultRecord, StateRecord
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus, SubmitRequest
from tests.unit.api.conftest import OUTPUTS, Cloud, environment
from tests.unit.api.events import V1, V1ALPHA1, Answer, cancel, get, post, v1_body, v1alpha1_body

PICTURE = "shop/mine/mine-1a2b-1.png"


@pytest.fixture
def job(cloud: Cloud) -> str:
    assert post(V1, v1_body(id="mine", prefix="shop")).status == 202
    return "mine"


def put(cloud: Cloud, fact: JobFact, record: StateRecord | ResultRecord | CancelRecord) -> None:
    cloud.put(job_key("default", "mine", fact), record.to_json())


def state(lease: timedelta) -> StateRecord:
    now = utcnow()
    return StateRecord(starts=1, holder="pod", lease_until=now + lease, started_at=now, updated_at=now, progress=0.5)


def result(
    status: JobStatus = JobStatus.COMPLETED, error: JobError | None = None, seconds: dict[str, float] | None = None
) -> ResultRecord:
    assert status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
    return ResultRecord(
        status=status,
        runtime="sdxl",
        images=() if error else (f"s3://{OUTPUTS}/{PICTURE}",),
        output=f"s3://{OUTPUTS}/shop/mine/mine-1a2b.out",
        error=error,
        started_at=utcnow(),
        finished_at=utcnow(),
        seconds=seconds or {},
        nonce="n",
    )


def test_a_job_that_waits_is_accepted(job: str) -> None:
    answer = get(job)
    assert answer.status == 200
    del answer.body["submitted_at"]
    assert answer.body == {
        "id": "mine",
        "status": "accepted",
        "runtime": "sdxl",
        "task": "text-to-image",
        "output_location": f"s3://{OUTPUTS}/shop/mine",
        "images": [],
    }


def test_a_job_under_a_live_lease_is_running(cloud: Cloud, job: str) -> None:
    put(cloud, JobFact.STATE, state(timedelta(minutes=1)))
    answer = get(job)
    assert (answer.body["status"], answer.body["progress"]) == ("running", 0.5)
    assert "started_at" in answer.body


def test_a_job_whose_lease_ended_waits_again(cloud: Cloud, job: str) -> None:
    put(cloud, JobFact.STATE, state(timedelta(seconds=-1)))
    answer = get(job)
    assert answer.body["status"] == "accepted"
    assert not {"started_at", "progress"} & set(answer.body)


def test_a_job_that_its_client_cancelled_is_cancelled(cloud: Cloud, job: str) -> None:
    put(cloud, JobFact.STATE, state(timedelta(minutes=1)))
    put(cloud, JobFact.CANCEL, CancelRecord(requested_at=utcnow()))
    assert get(job).body["status"] == "cancelled"


def test_a_result_counts_more_than_a_cancellation(cloud: Cloud, job: str) -> None:
    put(cloud, JobFact.CANCEL, CancelRecord(requested_at=utcnow()))
    put(cloud, JobFact.RESULT, result())
    assert get(job).body["status"] == "completed"


def test_the_pictures_of_a_completed_job_can_be_downloaded(cloud: Cloud, job: str) -> None:
    cloud.s3.put_object(Bucket=OUTPUTS, Key=PICTURE, Body=b"a picture")
    put(cloud, JobFact.RESULT, result())
    answer = get(job)
    assert answer.body["status"] == "completed"
    assert {"started_at", "finished_at"} <= set(answer.body)
    assert answer.body["output"] == f"s3://{OUTPUTS}/shop/mine/mine-1a2b.out"
    [image] = answer.body["images"]
    assert image["location"] == f"s3://{OUTPUTS}/{PICTURE}"
    with urlopen(image["url"]) as download:
        assert download.read() == b"a picture"


def test_a_finished_job_says_how_long_it_took(cloud: Cloud, job: str) -> None:
    seconds = {"wait": 0.8, "fetch": 0.1, "generate": 4.2, "upload": 0.3, "total": 5.4}
    put(cloud, JobFact.RESULT, result(seconds=seconds))
    assert get(job).body["seconds"] == seconds


def test_a_failed_job_says_why(cloud: Cloud, job: str) -> None:
    put(cloud, JobFact.RESULT, result(JobStatus.FAILED, JobError(code=JobErrorCode.NO_PICTURES, message="none")))
    answer = get(job)
    assert answer.body["status"] == "failed"
    assert answer.body["error"] == {"code": "no_pictures", "message": "none", "retryable": False}


def test_a_v1alpha_job_can_be_asked_for_too(cloud: Cloud) -> None:
    job_id = post(V1ALPHA1, v1alpha1_body()).headers["x-darkroom-job"]
    answer = get(job_id)
    assert (answer.status, answer.body["runtime"]) == (200, "sdxl")


@pytest.mark.parametrize("job_id", ["", "a b", "../mine", "a" * 129, "mine/request.json"])
@pytest.mark.parametrize("ask", [get, cancel])
def test_an_id_outside_the_grammar_is_invalid(cloud: Cloud, ask: Callable[[str], Answer], job_id: str) -> None:
    answer = ask(job_id)
    assert (answer.status, answer.error["field"]) == (422, "id")
    assert "letters, digits" in answer.error["message"]


def test_an_unknown_job_is_not_found(cloud: Cloud) -> None:
    answer = get("nobody-s")
    assert (answer.status, answer.error["code"]) == (404, ErrorCode.UNKNOWN_JOB)


def test_another_tenant_s_job_is_not_found(job: str) -> None:
    assert get(job, tenant="studio").status == 404
    assert get(job).status == 200


def test_without_records_every_job_is_unknown(without_records: Cloud) -> None:
    post(V1, v1_body(id="mine"))
    assert get("mine").status == 404


def test_a_status_that_cannot_be_read_may_be_asked_for_again(cloud: Cloud, job: str) -> None:
    with cloud.down("S3"):
        answer = get(job)
    assert (answer.status, answer.error["code"]) == (503, ErrorCode.UNAVAILABLE)
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "ap-southeast-3"])
def test_a_picture_s_url_is_signed_for_its_region_by_the_current_signature(cloud: Cloud, region: str) -> None:
    job = SubmitRequest.model_validate(v1_body()).to_job(tenant="default")
    facts = JobFacts(RequestRecord(job=job, nonce="n", recorded_at=utcnow()), result())
    with environment(AWS_ENDPOINT_URL=None, AWS_DEFAULT_REGION=region):
        url = urlsplit(service().jobs.view(facts).images[0].url)
    query = parse_qs(url.query)
    assert url.hostname == f"{OUTPUTS}.s3.{region}.amazonaws.com"
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["3600"]
    assert f"/{region}/s3/aws4_request" in query["X-Amz-Credential"][0]
