"""The janitor: jobs whose runtime was removed are answered, once told at least, and no others are touched."""

import json
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from darkroom_agent import janitor
from darkroom_agent.aws import Clients
from darkroom_agent.janitor import Janitor, Memory, Settings
from darkroom_agent.lost_jobs import Queues, Step, Sweep, Tally, next_step
from darkroom_contract.errors import JobErrorCode
from darkroom_contract.job import Api, Job
from darkroom_contract.names import JANITOR_KEY, Bucket, JobFact, Names, job_key, registry_key
from darkroom_contract.records import AnsweringRecord, RequestRecord, ResultRecord, StateRecord
from darkroom_contract.store import JobStore
from darkroom_contract.types import Task, utcnow
from darkroom_contract.v1 import JobStatus
from tests.unit.agent.support import eventually, same_clients

TENANT, RUNTIME = "default", "sdxl"
_ACCOUNT, _REGION = "123456789012", "us-east-1"


def later(**span: float) -> Callable[[], datetime]:
    """A clock that is ahead, so that what was written until now was written a while ago."""
    return lambda: utcnow() + timedelta(**span)


def next_second() -> datetime:
    """Wait for the next whole second, and return it: AWS counts in seconds."""
    second = int(time.time()) + 1
    eventually(lambda: time.time() >= second)
    return datetime.fromtimestamp(second, UTC)


#: A run after the pause between two.
IN_TEN_MINUTES = later(minutes=10)
IN_TWENTY_MINUTES, TOMORROW = later(minutes=20), later(hours=25)


class World:
    """A cluster's jobs bucket, result topic and runtimes' queues."""

    def __init__(self, endpoint: str) -> None:
        self.names = Names(f"t{uuid.uuid4().hex[:12]}", _ACCOUNT, _REGION)
        self.endpoint = endpoint
        session = boto3.Session("test", "test", region_name=_REGION)
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=32)
        self.sqs = session.client("sqs", endpoint_url=endpoint, config=config)
        self.sns = session.client("sns", endpoint_url=endpoint, config=config)
        self.s3 = session.client("s3", endpoint_url=endpoint, config=config)
        self.clients = same_clients(self.sqs, self.sns, self.s3)
        self.bucket = self.names.bucket(Bucket.JOBS)
        self.s3.create_bucket(Bucket=self.bucket)
        self.store = JobStore(self.s3, self.bucket)
        topic = self.sns.create_topic(Name=self.names.result_topic)["TopicArn"]
        self.results = self.sqs.create_queue(QueueName=self.names.result_topic)["QueueUrl"]
        queue = self.names.queue_arn(self.names.result_topic)
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})

    def register(self, runtime: str = RUNTIME) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=registry_key(runtime), Body=b"{}")

    def make_queue(self, runtime: str = RUNTIME) -> None:
        self.sqs.create_queue(QueueName=self.names.runtime_queue(runtime))

    def add_runtime(self, runtime: str = RUNTIME) -> None:
        self.make_queue(runtime)
        self.register(runtime)

    def remove_runtime(self, runtime: str = RUNTIME) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=registry_key(runtime))
        self.sqs.delete_queue(QueueUrl=self.names.queue_url(self.names.runtime_queue(runtime)))

    def accept(self, job_id: str = "picture", runtime: str = RUNTIME, api: Api = Api.V1) -> None:
        job = Job(
            tenant=TENANT,
            job_id=job_id,
            label=job_id,
            context={"order": 7},
            api=api,
            runtime=runtime,
            task=Task.TEXT_TO_IMAGE,
            content={"prompt": "a lighthouse"},
            submitted_at=utcnow(),
        )
        self.store.create_request(RequestRecord(job=job, nonce="n", recorded_at=utcnow()))

    def hold(self, job_id: str, seconds: float) -> None:
        now = utcnow()
        lease = now + timedelta(seconds=seconds)
        state = StateRecord(starts=1, holder="pod", lease_until=lease, started_at=now, updated_at=now)
        found = self.store.state(TENANT, job_id)
        self.store.put_state(TENANT, job_id, state, found[1] if found else None)

    def finish(self, job_id: str) -> ResultRecord:
        result = ResultRecord(status=JobStatus.COMPLETED, runtime=RUNTIME, finished_at=utcnow(), nonce=uuid.uuid4().hex)
        return self.store.create_result(TENANT, job_id, result)

    def begin_answer(self, job_id: str) -> None:
        self.store.begin_answer(TENANT, job_id, AnsweringRecord(nonce="another's", begun_at=utcnow()))

    def run(self, now: Callable[[], datetime] = IN_TEN_MINUTES) -> Tally:
        settings = Settings(cluster=self.names.cluster, account=_ACCOUNT, aws_region=_REGION)
        return Janitor(settings, self.clients, now).run()

    def result(self, job_id: str = "picture") -> ResultRecord | None:
        return self.store.result(TENANT, job_id)

    def facts(self, job_id: str = "picture") -> set[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=job_key(TENANT, job_id, cast("JobFact", "")))
        return {each["Key"].rpartition("/")[2] for each in found["Contents"]}

    def told(self) -> list[dict[str, Any]]:
        """The notifications until now."""
        found = []
        while messages := self.sqs.receive_message(
            QueueUrl=self.results, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.results, ReceiptHandle=message["ReceiptHandle"])
        return found

    def memory(self) -> Memory:
        return Memory.model_validate_json(self.s3.get_object(Bucket=self.bucket, Key=JANITOR_KEY)["Body"].read())

    def before(self, operation: str, key_end: str, act: Callable[[], object]) -> None:
        """Let something happen once, right before the janitor's next call of an operation on such a key."""
        client = {"s3": self.s3, "sns": self.sns}[operation.partition(".")[0]]
        event = f"before-parameter-build.{operation}"

        def hook(params: dict[str, Any], **_: Any) -> None:
            if str(params.get("Key", "")).endswith(key_end):
                client.meta.events.unregister(event, hook)
                act()

        client.meta.events.register(event, hook)


@pytest.fixture
def world(aws_endpoint: str) -> World:
    return World(aws_endpoint)


@pytest.fixture
def abandoned(world: World) -> World:
    """A world whose runtime was removed while a job waited."""
    world.add_runtime()
    world.accept()
    world.remove_runtime()
    return world


# What becomes of a job

_NOW = utcnow()
_QUIET = _NOW - timedelta(minutes=5)
_LONG_AGO, _JUST_NOW = _NOW - timedelta(hours=1), _NOW - timedelta(minutes=1)
_THEN, _HALF_AN_HOUR_AGO = _NOW - timedelta(minutes=45), _NOW - timedelta(minutes=30)
_ALL = datetime.max.replace(tzinfo=UTC)
_REQUEST, _RESULT, _ANSWERING = JobFact.REQUEST, JobFact.RESULT, JobFact.ANSWERING


def state(lease_until: datetime) -> StateRecord:
    return StateRecord(holder="pod", lease_until=lease_until, started_at=_LONG_AGO, updated_at=_LONG_AGO)


@pytest.mark.parametrize(
    ("written", "held", "lost_before", "step"),
    [
        ({_REQUEST: _LONG_AGO}, None, None, Step.NOTHING),
        ({_REQUEST: _LONG_AGO}, None, _LONG_AGO - timedelta(hours=1), Step.NOTHING),
        ({_REQUEST: _LONG_AGO}, None, _LONG_AGO + timedelta(seconds=1), Step.ANSWER),
        ({_REQUEST: _LONG_AGO, "result-1.json": _HALF_AN_HOUR_AGO}, None, _THEN, Step.NOTHING),
        ({_REQUEST: _LONG_AGO, JobFact.CANCEL: _HALF_AN_HOUR_AGO}, None, _THEN, Step.ANSWER),
        ({_REQUEST: _LONG_AGO, _ANSWERING: _HALF_AN_HOUR_AGO}, None, _THEN, Step.ANSWER),
        ({_REQUEST: _LONG_AGO, JobFact.STATE: _HALF_AN_HOUR_AGO}, _LONG_AGO, _THEN, Step.ANSWER),
        ({_REQUEST: _LONG_AGO - timedelta(hours=1), JobFact.STATE: _LONG_AGO}, _LONG_AGO, _LONG_AGO, Step.NOTHING),
        ({_REQUEST: _LONG_AGO}, None, _ALL, Step.ANSWER),
        ({_REQUEST: _JUST_NOW}, None, _ALL, Step.LATER),
        ({_REQUEST: _LONG_AGO, JobFact.STATE: _JUST_NOW}, None, _ALL, Step.LATER),
        ({_REQUEST: _LONG_AGO}, utcnow() + timedelta(hours=1), _ALL, Step.LATER),
        ({_REQUEST: _LONG_AGO}, _LONG_AGO, _ALL, Step.ANSWER),
        ({_REQUEST: _LONG_AGO, _ANSWERING: _LONG_AGO}, None, _ALL, Step.ANSWER),
        ({_REQUEST: _LONG_AGO, _ANSWERING: _JUST_NOW}, None, _ALL, Step.LATER),
        ({_REQUEST: _LONG_AGO, _RESULT: _LONG_AGO}, None, _ALL, Step.NOTHING),
        ({_REQUEST: _LONG_AGO, _ANSWERING: _LONG_AGO, _RESULT: _LONG_AGO}, None, None, Step.TELL),
        ({_REQUEST: _LONG_AGO, _ANSWERING: _JUST_NOW, _RESULT: _JUST_NOW}, None, _ALL, Step.LATER),
    ],
    ids=[
        "nobody knows of its queue",
        "its queue is older",
        "its queue was made anew since",
        "its queue was made anew, and it was sent again",
        "its queue was made anew, and it was cancelled",
        "its queue was made anew, and an earlier run began to answer it",
        "its queue was made anew, and the agent that had it gave it back",
        "its queue was made anew, and an agent had it from there",
        "its queue is gone",
        "it was accepted just now",
        "an agent wrote of it just now",
        "an agent holds it",
        "no agent holds it any more",
        "an earlier run began to answer it",
        "another janitor answers it",
        "it is finished",
        "an earlier run may not have told it",
        "another janitor is about to tell it",
    ],
)
def test_a_jobs_next_step(
    written: dict[str, datetime], held: datetime | None, lost_before: datetime | None, step: Step
) -> None:
    assert next_step(written, state(held) if held else None, lost_before, _QUIET) is step


_times = st.timedeltas(timedelta(0), timedelta(days=1)).map(lambda age: _NOW - age)


@given(
    st.dictionaries(st.sampled_from([fact.value for fact in JobFact]), _times, min_size=1),
    _times,
    _times,
)
def test_nothing_is_answered_that_has_a_result_or_was_sent_or_written_since(
    written: dict[str, datetime], lost_before: datetime, quiet_since: datetime
) -> None:
    written[_REQUEST] = written.get(_REQUEST, _LONG_AGO)
    step = next_step(written, None, lost_before, quiet_since)
    touched = max(written.values())
    assert step is not Step.ANSWER or (_RESULT not in written and written[_REQUEST] < lost_before)
    assert step is not Step.ANSWER or touched < quiet_since
    assert step is not Step.TELL or (_RESULT in written and _ANSWERING in written and touched < quiet_since)


# What the client is told


@pytest.mark.parametrize("api", [Api.V1, Api.V1ALPHA1, Api.V1ALPHA2])
def test_a_job_whose_runtime_was_removed_is_answered_as_failed_and_told(world: World, api: Api) -> None:
    world.accept(api=api)
    tally = world.run()
    result = world.result()
    assert result is not None
    assert result.error is not None
    assert (result.status, result.error.code) == (JobStatus.FAILED, JobErrorCode.RUNTIME_REMOVED)
    assert not result.error.retryable
    (notification,) = world.told()
    assert notification == {
        "runtime": RUNTIME,
        "id": "picture",
        "result": False,
        "status": "failed",
        "image_url": [],
        "context": {"order": 7},
        "job_id": "picture",
        "tenant": TENANT,
        "error": {"code": "runtime_removed", "message": result.error.message, "retryable": False},
    }
    assert world.facts() == {"request.json", "result.json"}
    assert (tally.jobs, tally.steps) == (1, {Step.ANSWER: 1})


def test_a_job_that_its_client_cancelled_is_answered_as_cancelled(abandoned: World) -> None:
    abandoned.store.create_cancel(TENANT, "picture")
    abandoned.run()
    assert [told["status"] for told in abandoned.told()] == ["cancelled"]


def test_a_job_is_answered_and_told_once(abandoned: World) -> None:
    abandoned.run()
    abandoned.run(IN_TWENTY_MINUTES)
    assert len(abandoned.told()) == 1


def test_what_the_janitor_knew_may_be_damaged(abandoned: World) -> None:
    abandoned.s3.put_object(Bucket=abandoned.bucket, Key=JANITOR_KEY, Body=b"{")
    abandoned.run()
    assert len(abandoned.told()) == 1
    assert abandoned.memory().swept_at


# What is left alone


def test_jobs_of_a_runtime_with_a_queue_are_left_alone_whether_it_is_registered_or_not(world: World) -> None:
    world.make_queue()
    world.accept()
    world.run()
    assert world.facts() == {"request.json"}
    assert not world.told()


def test_jobs_of_a_registered_runtime_without_a_queue_are_left_alone_until_it_is_gone(world: World) -> None:
    world.add_runtime()
    world.accept()
    world.run()
    world.sqs.delete_queue(QueueUrl=world.names.queue_url(world.names.runtime_queue(RUNTIME)))
    world.run()
    assert world.facts() == {"request.json"}
    world.s3.delete_object(Bucket=world.bucket, Key=registry_key(RUNTIME))
    world.run()
    assert len(world.told()) == 1


def test_a_finished_job_is_left_alone(abandoned: World) -> None:
    kept = abandoned.finish("picture")
    abandoned.run()
    assert abandoned.result() == kept
    assert not abandoned.told()


def test_an_object_that_is_no_job_is_left_alone(abandoned: World) -> None:
    for key in ("jobs/default/nobody/state.json", "jobs/default/stray", "jobs/default/a/b/request.json"):
        abandoned.s3.put_object(Bucket=abandoned.bucket, Key=key, Body=b"?")
    assert abandoned.run().steps == {Step.ANSWER: 1}


def test_a_job_that_was_accepted_just_now_is_answered_by_a_later_run(abandoned: World) -> None:
    assert abandoned.run(utcnow).steps == {Step.LATER: 1}
    assert abandoned.facts() == {"request.json"}
    assert abandoned.run().steps == {Step.ANSWER: 1}


def test_a_job_that_an_agent_still_runs_is_answered_once_its_lease_is_over(abandoned: World) -> None:
    abandoned.hold("picture", 3600)
    assert abandoned.run().steps == {Step.LATER: 1}
    assert abandoned.memory().unsettled == (RUNTIME,)
    abandoned.hold("picture", 0)
    assert abandoned.run().steps == {Step.ANSWER: 1}
    result = abandoned.result()
    assert result is not None
    assert result.starts == 1


def test_jobs_from_before_a_runtime_was_removed_and_brought_back_are_answered(world: World) -> None:
    world.add_runtime()
    world.accept("before")
    world.run()
    world.remove_runtime()
    next_second()
    world.add_runtime()
    world.accept("since")
    assert world.run().steps == {Step.ANSWER: 1, Step.NOTHING: 1}
    assert [told["id"] for told in world.told()] == ["before"]


# At the same time


def test_an_agent_that_finishes_first_is_the_one_that_counts(abandoned: World) -> None:
    abandoned.before("s3.PutObject", "result.json", lambda: abandoned.finish("picture"))
    abandoned.run()
    result = abandoned.result()
    assert result is not None
    assert result.status is JobStatus.COMPLETED
    assert not abandoned.told()
    assert abandoned.facts() == {"request.json", "result.json"}


def test_a_job_that_another_janitor_has_begun_to_answer_stays_in_its_hands(abandoned: World) -> None:
    abandoned.before("s3.PutObject", "answering.json", lambda: abandoned.begin_answer("picture"))
    assert abandoned.run().steps == {Step.LATER: 1}
    assert abandoned.facts() == {"request.json", "answering.json"}
    assert abandoned.run().steps == {Step.ANSWER: 1}, "should it have died"


def test_a_result_is_told_whose_recorder_may_have_died_before_it_told(abandoned: World) -> None:
    abandoned.begin_answer("picture")
    abandoned.before("s3.PutObject", "result.json", lambda: abandoned.finish("picture"))
    abandoned.run()
    assert [told["status"] for told in abandoned.told()] == ["completed"]
    assert abandoned.facts() == {"request.json", "result.json"}


def test_two_janitors_tell_every_job_once(world: World) -> None:
    jobs = {f"job-{number}" for number in range(30)}
    for job in jobs:
        world.accept(job)
    since = next_second()
    with ThreadPoolExecutor(2) as pool:
        # What was accepted is old enough, and what either of them writes is not.
        list(pool.map(lambda _: world.run(lambda: since + timedelta(minutes=5)), range(2)))
    world.run(IN_TWENTY_MINUTES)
    told = [notification["id"] for notification in world.told()]
    assert set(told) == jobs
    assert len(told) == len(jobs)
    assert all(world.facts(job) == {"request.json", "result.json"} for job in jobs)


# When something fails


def fail() -> None:
    raise ConnectionError("cut")


@pytest.mark.parametrize(
    ("call", "key_end", "left"),
    [
        ("s3.PutObject", "result.json", {"request.json", "answering.json"}),
        ("sns.Publish", "", {"request.json", "answering.json", "result.json"}),
        ("s3.DeleteObject", "answering.json", {"request.json", "answering.json", "result.json"}),
    ],
    ids=["before it records", "before it tells", "after it told"],
)
def test_a_janitor_that_dies_has_its_job_told_by_the_next_run(
    abandoned: World, call: str, key_end: str, left: set[str]
) -> None:
    abandoned.before(call, key_end, fail)
    assert abandoned.run().steps == {Step.FAILED: 1}
    assert abandoned.facts() == left
    abandoned.run()
    told = abandoned.told()
    assert {notification["status"] for notification in told} == {"failed"}
    assert len(told) == (2 if call == "s3.DeleteObject" else 1)
    assert abandoned.facts() == {"request.json", "result.json"}


def test_a_job_that_cannot_be_read_keeps_no_other_from_being_answered(abandoned: World) -> None:
    key = job_key(TENANT, "broken", JobFact.REQUEST)
    abandoned.s3.put_object(Bucket=abandoned.bucket, Key=key, Body=b'{"job": 1}')
    assert abandoned.run().steps == {Step.UNREADABLE: 1, Step.ANSWER: 1}


@pytest.mark.parametrize("fact", [JobFact.REQUEST, JobFact.STATE])
def test_a_job_that_cannot_be_read_has_all_jobs_read_once_a_day_as_without_it(world: World, fact: JobFact) -> None:
    world.accept()
    world.s3.put_object(Bucket=world.bucket, Key=job_key(TENANT, "picture", fact), Body=b'{"job": 1}')
    assert world.run().steps == {Step.UNREADABLE: 1}
    assert world.run().jobs == 0
    assert world.run(TOMORROW).steps == {Step.UNREADABLE: 1}


def test_all_jobs_are_read_again_after_aws_failed(abandoned: World) -> None:
    abandoned.before("s3.PutObject", "answering.json", fail)
    assert abandoned.run().steps == {Step.FAILED: 1}
    assert abandoned.run().steps == {Step.ANSWER: 1}
    abandoned.run()
    assert abandoned.run().jobs == 0


# What it costs


def test_all_jobs_are_read_only_when_a_queue_has_gone_and_once_a_day(world: World) -> None:
    world.add_runtime()
    world.accept()
    assert [world.run().jobs for _ in range(2)] == [1, 0]
    assert world.run(TOMORROW).jobs == 1
    world.add_runtime("flux")
    assert world.run(TOMORROW).jobs == 0
    assert world.memory().queues.keys() == {RUNTIME, "flux"}
    world.remove_runtime("flux")
    assert [world.run(TOMORROW).jobs for _ in range(3)] == [1, 1, 0], "twice, for what was on its way"
    assert world.memory().queues.keys() == {RUNTIME}


def test_jobs_on_the_second_page_are_found(abandoned: World) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda n: abandoned.s3.put_object(Bucket=abandoned.bucket, Key=f"jobs/default/a{n}/state.json"),
                range(1001),
            )
        )
    tally = abandoned.run()
    assert (tally.jobs, tally.steps) == (1002, {Step.ANSWER: 1})


def pages(jobs: int) -> Iterator[dict[str, Any]]:
    for page in range(jobs // 500):
        numbers = range(page * 500, (page + 1) * 500)
        facts = (JobFact.REQUEST, JobFact.RESULT)
        keys = [job_key(TENANT, f"{number:09}", fact) for number in numbers for fact in facts]
        yield {"Contents": [{"Key": key, "LastModified": _LONG_AGO} for key in keys]}


def peak(jobs: int) -> int:
    """Bytes that reading so many jobs takes at most."""
    paginator = SimpleNamespace(paginate=lambda **_: pages(jobs))
    clients = cast("Clients", SimpleNamespace(s3=SimpleNamespace(get_paginator=lambda _: paginator)))
    names = Names("studio", _ACCOUNT, _REGION)
    sweep = Sweep(clients, names, Queues(clients, names, frozenset()), _QUIET)
    tracemalloc.start()
    assert sweep.run().jobs == jobs
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_stays_flat_however_many_jobs_there_are() -> None:
    # In a process of its own: servers of other tests run on in this one, and take memory when they like.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        few, many = pool.map(peak, (4_000, 40_000))
    assert many < 1.5 * few


# As a program


def environment(world: World, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    values = {
        "CLUSTER": world.names.cluster,
        "ACCOUNT": _ACCOUNT,
        "AWS_REGION": _REGION,
        "AWS_ENDPOINT_URL": world.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        **changes,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_it_says_what_it_did_and_ends_with_0(
    abandoned: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(abandoned, monkeypatch)
    assert janitor.main() == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["event"], summary["jobs"], summary["later"]) == ("janitor done", 1, 1)


def test_it_names_a_job_that_it_cannot_read_and_ends_with_0(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = job_key(TENANT, "broken", JobFact.REQUEST)
    world.s3.put_object(Bucket=world.bucket, Key=key, Body=b"secret prompt")
    environment(world, monkeypatch)
    assert janitor.main() == 0
    out = capsys.readouterr().out
    lines = [json.loads(line) for line in out.splitlines()]
    warning, summary = (line for line in lines if line["logger"].startswith("darkroom_agent."))
    assert (warning["level"], warning["tenant"], warning["job_id"]) == ("WARNING", TENANT, "broken")
    assert (summary["event"], summary["unreadable"], "failed" in summary) == ("janitor done", 1, False)
    assert "secret" not in out


def test_it_ends_with_1_when_a_job_failed_or_aws_does_not_answer(
    abandoned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(abandoned, monkeypatch)
    monkeypatch.setattr(Clients, "create", lambda: abandoned.clients)
    abandoned.before("s3.GetObject", "request.json", fail)
    assert janitor.main() == 1
    environment(abandoned, monkeypatch, CLUSTER="nowhere")
    assert janitor.main() == 1


def test_it_ends_with_2_when_a_setting_is_wrong(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(world, monkeypatch, ACCOUNT="12", QUIET_SECONDS="5")
    assert janitor.main() == 2
    said = capsys.readouterr().err
    assert "ACCOUNT: " in said
    assert "QUIET_SECONDS: " in said
