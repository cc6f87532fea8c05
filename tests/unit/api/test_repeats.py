"""A v1 request that is sent again: one job, published once it is sure that it would be lost otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Lock
from typing import Any

import pytest
from moto.s3.responses import S3Response

from darkroom_api.service import service
from darkroom_contract.errors import ErrorCode
from darkroom_contract.names import JobFact, job_key, registry_key
from darkroom_contract.records import CancelRecord, PublishedRecord, RequestRecord, ResultRecord, StateRecord
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.types import Engine, utcnow
from darkroom_contract.v1 import JobStatus, SubmitRequest
from tests.unit.api.conftest import JOBS, OUTPUTS, Cloud, environment
from tests.unit.api.events import V1, V1ALPHA2, Answer, Context, post, v1_body, v1alpha2_body

BODY = v1_body(id="mine")
#: The function's default timeout: whoever recorded a request this long ago is no longer at it.
TIMEOUT = timedelta(seconds=10)
#: An invocation that has hardly any time left to wait for another.
IMPATIENT = Context(remaining_milliseconds=1100)


def recorded(cloud: Cloud, age: timedelta = timedelta(), nonce: str = "the-first") -> RequestRecord:
    """The request as an invocation left it that was killed before it published."""
    request = SubmitRequest.model_validate(BODY)
    record = RequestRecord(
        job=request.to_job(tenant="default"),
        fingerprint=request.fingerprint(),
        nonce=nonce,
        recorded_at=utcnow() - age,
    )
    cloud.keep(record)
    return record


def submit(context: Context = IMPATIENT) -> Answer:
    return post(V1, BODY, context=context)


def put(cloud: Cloud, fact: JobFact, record: CancelRecord | PublishedRecord | ResultRecord | StateRecord) -> None:
    cloud.put(job_key("default", "mine", fact), record.to_json())


def state(*, lease: timedelta) -> StateRecord:
    now = utcnow()
    return StateRecord(starts=1, holder="pod", lease_until=now + lease, started_at=now, updated_at=now, progress=0.25)


def assert_later(answer: Answer, *, at_most: int = 10) -> None:
    assert (answer.status, answer.error["code"]) == (503, ErrorCode.UNAVAILABLE)
    assert 1 <= int(answer.headers["Retry-After"]) <= at_most


def test_the_same_request_again_is_the_same_job(cloud: Cloud) -> None:
    answers = [submit() for _ in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 202]
    assert answers[0].body == answers[1].body == answers[2].body
    assert len(cloud.published()) == 1


def test_key_order_and_white_space_do_not_make_another_request(cloud: Cloud) -> None:
    assert post(V1, {"id": "mine", "runtime": "sdxl", "content": {"prompt": "a cat", "steps": 20}}).status == 202
    assert post(V1, {"content": {"steps": 20, "prompt": "a cat"}, "runtime": "sdxl", "id": "mine"}).status == 202
    assert len(cloud.published()) == 1


def test_another_request_under_the_same_id_is_refused(cloud: Cloud) -> None:
    submit()
    answer = post(V1, v1_body(id="mine", content={"prompt": "another"}))
    assert (answer.status, answer.error["code"], answer.error["field"]) == (409, ErrorCode.ID_IN_USE, "id")
    assert len(cloud.published()) == 1


def drain(cloud: Cloud) -> None:
    cloud.register(RegistryEntry(name="sdxl", engine=Engine.SDWEBUI, accepting=False))


def remove(cloud: Cloud) -> None:
    cloud.s3.delete_object(Bucket=JOBS, Key=registry_key("sdxl"))


#: How a runtime goes, and what a new request for it is told.
LEAVING = pytest.mark.parametrize(
    ("leave", "code"), [(drain, ErrorCode.RUNTIME_NOT_ACCEPTING), (remove, ErrorCode.UNKNOWN_RUNTIME)]
)


@LEAVING
def test_what_was_accepted_stays_accepted_when_its_runtime_goes(
    cloud: Cloud, leave: Callable[[Cloud], None], code: ErrorCode
) -> None:
    first = submit()
    leave(cloud)
    with environment():
        again = submit()
        others = [post(V1, body) for body in (v1_body(id="mine", content={}), v1_body(id="other"), v1_body())]
    assert (again.status, again.body) == (202, first.body)
    assert len(cloud.published()) == 1
    assert {(other.status, other.error["code"]) for other in others} == {(code.status, code)}


@LEAVING
def test_what_was_never_published_is_refused_when_its_runtime_goes(
    cloud: Cloud, leave: Callable[[Cloud], None], code: ErrorCode
) -> None:
    recorded(cloud, TIMEOUT)
    leave(cloud)
    with environment():
        answer = submit()
    assert (answer.status, answer.error["code"]) == (code.status, code)
    assert cloud.published() == []


def test_two_tenants_may_have_the_same_id(cloud: Cloud) -> None:
    assert submit().status == 202
    assert post(V1, v1_body(id="mine", content={"prompt": "another"}), tenant="studio").status == 202
    assert len(cloud.published()) == 2


def test_a_v1_id_cannot_take_the_place_of_a_v1alpha_job(cloud: Cloud) -> None:
    job_id = post(V1ALPHA2, v1alpha2_body()).headers["x-darkroom-job"]
    assert post(V1, v1_body(id=job_id)).status == 409


def test_a_request_that_its_first_invocation_may_still_publish_is_to_be_sent_again(cloud: Cloud) -> None:
    recorded(cloud)
    assert_later(submit())
    assert cloud.published() == []


def test_a_request_whose_first_invocation_is_dead_is_published(cloud: Cloud) -> None:
    record = recorded(cloud, TIMEOUT)
    assert submit().status == 202
    [received] = cloud.published()
    assert received.message.metadata.darkroom is not None
    assert received.message.metadata.darkroom.nonce == "the-first"
    assert received.message.to_job("unused") == record.job
    assert submit().status == 202
    assert len(cloud.published()) == 1


def test_how_long_the_first_invocation_may_take_is_a_setting(cloud: Cloud) -> None:
    recorded(cloud, timedelta(seconds=5))
    with environment(TIMEOUT_SECONDS="20"):
        assert_later(submit(), at_most=15)
    with environment(TIMEOUT_SECONDS="4"):
        assert submit().status == 202
    assert len(cloud.published()) == 1


def test_a_repeat_waits_for_the_mark_of_the_invocation_that_is_at_it(cloud: Cloud) -> None:
    recorded(cloud)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(submit, Context(remaining_milliseconds=10_000))
        put(cloud, JobFact.PUBLISHED, PublishedRecord(message_id="m", published_at=utcnow()))
        assert answer.result().status == 202
    assert cloud.published() == []


def test_a_repeat_that_waits_publishes_once_the_first_invocation_is_dead(cloud: Cloud) -> None:
    recorded(cloud, TIMEOUT - timedelta(seconds=1))
    assert submit(Context(remaining_milliseconds=10_000)).status == 202
    assert len(cloud.published()) == 1


def test_a_job_that_an_agent_began_is_not_published_again(cloud: Cloud) -> None:
    recorded(cloud, TIMEOUT)
    put(cloud, JobFact.STATE, state(lease=timedelta(minutes=1)))
    answer = submit()
    assert (answer.status, answer.body["status"], answer.body["progress"]) == (202, "running", 0.25)
    assert cloud.published() == []


def test_a_job_that_an_agent_gave_back_is_not_published_again(cloud: Cloud) -> None:
    recorded(cloud, TIMEOUT)
    put(cloud, JobFact.STATE, state(lease=timedelta(minutes=-1)))
    answer = submit()
    assert (answer.status, answer.body["status"]) == (202, "accepted")
    assert cloud.published() == []


def test_a_finished_job_is_answered_with_its_result(cloud: Cloud) -> None:
    recorded(cloud, TIMEOUT)
    result = ResultRecord(
        status=JobStatus.COMPLETED,
        runtime="sdxl",
        images=(f"s3://{OUTPUTS}/mine/a.png",),
        finished_at=utcnow(),
        nonce="n",
    )
    put(cloud, JobFact.RESULT, result)
    answer = submit()
    assert (answer.status, answer.body["status"]) == (202, "completed")
    assert answer.body["images"][0]["location"] == f"s3://{OUTPUTS}/mine/a.png"
    assert cloud.published() == []


def test_a_cancelled_job_that_was_never_published_is_published_so_that_it_is_answered(cloud: Cloud) -> None:
    recorded(cloud, TIMEOUT)
    put(cloud, JobFact.CANCEL, CancelRecord(requested_at=utcnow()))
    answer = submit()
    assert (answer.status, answer.body["status"]) == (202, "cancelled")
    assert len(cloud.published()) == 1


def test_a_request_that_sns_did_not_take_is_published_by_a_repeat_after_the_timeout(cloud: Cloud) -> None:
    with cloud.down("SNS"):
        assert_later(submit())
    assert_later(submit())
    assert cloud.published() == []

    [record] = cloud.requests()
    cloud.keep(record.model_copy(update={"recorded_at": record.recorded_at - TIMEOUT}))
    with cloud.down("SNS"):
        assert_later(submit())
    assert submit().status == 202
    [received] = cloud.published()
    assert received.message.to_job("unused") == record.job


def test_a_request_that_was_published_but_not_marked_is_accepted(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    put_object = S3Response._key_response_put

    def without_marks(self: S3Response, query: dict[str, Any], key_name: str) -> Any:
        if key_name.endswith(JobFact.PUBLISHED):
            return 403, {}, "<Error><Code>AccessDenied</Code></Error>"
        return put_object(self, query, key_name)

    monkeypatch.setattr(S3Response, "_key_response_put", without_marks)
    assert submit().status == 202
    assert len(cloud.published()) == 1


def test_a_record_that_the_sdk_wrote_twice_is_its_own(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    put_object = S3Response._key_response_put
    answers: Counter[str] = Counter()

    def written_but_not_answered(self: S3Response, query: dict[str, Any], key_name: str) -> Any:
        answer = put_object(self, query, key_name)
        answers[key_name] += 1
        return (500, {}, "") if answers[key_name] == 1 else answer

    monkeypatch.setattr(S3Response, "_key_response_put", written_but_not_answered)
    assert submit().status == 202
    assert len(cloud.published()) == 1


@pytest.fixture
def atomic_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """S3's conditional writes are atomic; the emulator's, in threads, are not."""
    put_object, lock = S3Response._key_response_put, Lock()

    def one_at_a_time(self: S3Response, query: dict[str, Any], key_name: str) -> Any:
        with lock:
            return put_object(self, query, key_name)

    monkeypatch.setattr(S3Response, "_key_response_put", one_at_a_time)
    return iter(())


@pytest.mark.usefixtures("atomic_writes")
def test_fifty_clients_that_submit_the_same_job_at_once_publish_it_once(cloud: Cloud) -> None:
    clients = 50
    start = Barrier(clients)
    service()  # one for all

    def client(_: int) -> Answer:
        start.wait()
        return submit(Context())

    with ThreadPoolExecutor(clients) as threads:
        answers = list(threads.map(client, range(clients)))
    assert {answer.status for answer in answers} <= {202, 503}
    assert any(answer.status == 202 for answer in answers)
    for answer in answers:
        if answer.status == 503:
            assert_later(answer)
    assert len(cloud.published()) == 1
    assert {key["Key"] for key in cloud.s3.list_objects_v2(Bucket=JOBS, Prefix="jobs/")["Contents"]} == {
        job_key("default", "mine", fact) for fact in (JobFact.REQUEST, JobFact.PUBLISHED)
    }
