"""Dead letters: how they are listed, and what becomes of those that are sent back."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3
import pytest
from botocore.client import BaseClient
from typer.testing import CliRunner, Result

from darkroom import dead_letters, endpoint
from darkroom.cli import app
from darkroom.cluster_files import load_cluster
from darkroom_agent.clock import Clock
from darkroom_agent.metrics import Metrics
from darkroom_agent.records import HeldElsewhere, StoredRecords
from darkroom_agent.settings import Settings
from darkroom_agent.transport import RuntimeQueue
from darkroom_contract import v1
from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.job import Job
from darkroom_contract.message import Message, receive
from darkroom_contract.names import Bucket, JobFact, archived_result_key, job_key
from darkroom_contract.records import RequestRecord, ResultRecord, StateRecord
from darkroom_contract.store import JobStore, StateConflict
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus
from tests.emulator import emulated_aws

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageTypeDef

PROMPT = "nobody may read this prompt"
FAILURE = JobError(code=JobErrorCode.ENGINE_FAILED, message="out of memory", retryable=True)
POISON = JobError(code=JobErrorCode.INVALID_TASK, message="not JSON: expected value")
TRACE = "Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1"
_Final = Literal[JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED]


@dataclass(frozen=True)
class Submitted:
    """A job that the API took, and its message."""

    job: Job
    body: str

    @property
    def id(self) -> str:
        return self.job.job_id


class World:
    """A cluster with a runtime, its queues, and the bucket for jobs."""

    def __init__(self, root: Path, sqs: SQSClient, s3: S3Client) -> None:
        self.sqs = sqs
        self.s3 = s3
        name = f"c{uuid.uuid4().hex[:8]}"
        self.folder = root / name
        (self.folder / "runtimes" / "sdxl").mkdir(parents=True)
        (self.folder / "runtimes" / "sdxl" / "runtime.yaml").write_text("runtime: {engine: comfyui}\n")
        (self.folder / "cluster.yaml").write_text(
            f'cluster: {{name: {name}, account: "123456789012", region: eu-west-1, eksName: {name}}}\n'
        )
        names = self.names = load_cluster(self.folder).cluster.names
        self.bucket = names.bucket(Bucket.JOBS)
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.store = JobStore(self.s3, self.bucket)
        self.dead_letters = self.sqs.create_queue(QueueName=names.dead_letter_queue("sdxl"))["QueueUrl"]
        self.queue = self.sqs.create_queue(QueueName=names.runtime_queue("sdxl"))["QueueUrl"]
        settings = Settings.model_validate(
            {
                "queue_url": self.queue,
                "dead_letter_queue_url": self.dead_letters,
                "result_topic_arn": names.topic_arn(names.result_topic),
                "output_bucket": names.bucket(Bucket.OUTPUTS),
                "engine": "comfyui",
                "runtime_name": "sdxl",
                "runtime_url": "http://127.0.0.1:1",
                "receive_wait_seconds": 0,
            }
        )
        self._agents_queue = RuntimeQueue(self.sqs, self.sqs, self.sqs, settings, Clock(), Metrics("sdxl"))
        self.records = StoredRecords(self.store, "an-agent", 60, Clock())

    def submit(self, job_id: str, tenant: str = "default") -> Submitted:
        content = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT}}}
        request = v1.SubmitRequest.model_validate(
            {"id": job_id, "runtime": "sdxl", "task": "pipeline", "content": content}
        )
        job = request.to_job(tenant=tenant)
        record = RequestRecord(job=job, fingerprint="f", nonce=f"nonce-of-{job_id}", recorded_at=utcnow())
        self.store.create_request(record)
        return Submitted(job, Message.of(job, record.nonce).to_body())

    def ended(self, job: Job, status: _Final = JobStatus.FAILED) -> ResultRecord:
        """Record the end of a job, and three starts."""
        error = FAILURE if status is JobStatus.FAILED else None
        result = ResultRecord(
            status=status, runtime="sdxl", error=error, finished_at=utcnow(), nonce=f"run-{uuid.uuid4().hex}"
        )
        self.store.create_result(job.tenant, job.job_id, result)
        self.started(job, ago=timedelta(minutes=10))
        return result

    def started(self, job: Job, ago: timedelta) -> None:
        """Record that an agent started a job for the third time, with a lease of a minute."""
        at = utcnow() - ago
        state = StateRecord(
            starts=3,
            holder="an-agent",
            lease_until=at + timedelta(minutes=1),
            started_at=at,
            updated_at=at,
            progress=0.5,
            last_error=FAILURE,
        )
        self.store.put_state(job.tenant, job.job_id, state, None)

    def dead_letter(self, body: str, error: JobError = FAILURE) -> None:
        """Let an agent receive a message, and give it up."""
        self.sqs.send_message(
            QueueUrl=self.queue,
            MessageBody=body,
            MessageAttributes={"runtime": {"DataType": "String", "StringValue": "sdxl"}},
            MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
        )
        [message] = self._agents_queue.receive(1)
        self._agents_queue.dead_letter(message, error)

    def failed(self, job_id: str, tenant: str = "default") -> Submitted:
        """A job that failed, and whose message is a dead letter."""
        submitted = self.submit(job_id, tenant)
        self.ended(submitted.job)
        self.dead_letter(submitted.body)
        return submitted

    def redrive(self, *options: str) -> Result:
        return CliRunner().invoke(app, ["runtime", "redrive", "sdxl", "--cluster", str(self.folder), *options])

    def listed(self) -> list[dict[str, Any]]:
        done = self.redrive("--json")
        assert done.exit_code == 0, done.output
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def sent(self) -> list[MessageTypeDef]:
        """The messages on the runtime's queue."""
        return self.sqs.receive_message(
            QueueUrl=self.queue,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["AWSTraceHeader"],
        ).get("Messages", [])

    def keys(self, job: Job) -> set[str]:
        """The names of what is kept of a job."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"jobs/{job.tenant}/{job.job_id}/")
        return {item["Key"].rpartition("/")[2] for item in listed["Contents"]}


@pytest.fixture(scope="module")
def aws_endpoint() -> Iterator[str]:
    with emulated_aws() as url:
        yield url


@pytest.fixture(scope="module")
def clients(aws_endpoint: str) -> tuple[SQSClient, S3Client]:
    session = boto3.Session("test", "test", region_name="eu-west-1")
    return session.client("sqs", endpoint_url=aws_endpoint), session.client("s3", endpoint_url=aws_endpoint)


@pytest.fixture
def world(
    tmp_path: Path, aws_endpoint: str, clients: tuple[SQSClient, S3Client], monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(dead_letters, "_WAIT_SECONDS", 0)  # the emulator has one server
    return World(tmp_path, *clients)


# The list


def test_a_dead_letter_is_listed_with_its_job_and_the_reason(world: World) -> None:
    world.failed("job-1", "studio")
    [letter] = world.listed()
    assert re.fullmatch(r"[0-9a-f-]{36}", letter.pop("message_id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\+00:00", letter.pop("sent_at"))
    assert 0 <= letter.pop("age_seconds") < 3600
    assert letter == {
        "id": "job-1",
        "job_id": "job-1",
        "tenant": "studio",
        "label": "job-1",
        "runtime": "sdxl",
        "reason": {"code": "engine_failed", "message": "out of memory"},
        "receives": 1,
    }


def test_the_list_for_people_says_the_same_and_no_content(world: World) -> None:
    world.failed("job-1", "studio")
    world.dead_letter("no job", POISON)
    done = world.redrive()
    assert done.exit_code == 0
    job, why, poison, its_why = done.stdout.splitlines()
    assert re.fullmatch(r"job-1  job of studio, \d+ (s|min) old, received once", job)
    assert why.strip() == "engine_failed: out of memory"
    assert "  no job, " in poison
    assert its_why.strip().startswith("invalid_task: not JSON")


def test_an_id_is_in_one_piece_however_narrow_the_terminal_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long_id = "x" * 128
    world.failed(long_id)
    world.dead_letter(json.dumps(direct("order-1" * 9)))
    listed = world.redrive().stdout.splitlines()
    for letter in world.listed():
        assert any(line.startswith(f"{letter['id']}  ") for line in listed)


def test_what_sqs_moved_itself_is_listed_without_a_reason(world: World) -> None:
    submitted = world.submit("job-1")
    world.sqs.send_message(QueueUrl=world.dead_letters, MessageBody=submitted.body)
    [letter] = world.listed()
    assert (letter["id"], letter["reason"]) == ("job-1", None)
    assert "SQS moved it" in world.redrive().stdout


def test_all_dead_letters_are_listed_and_can_be_looked_at_again_at_once(world: World) -> None:
    for number in range(23):
        world.sqs.send_message(QueueUrl=world.dead_letters, MessageBody=world.submit(f"job-{number}").body)
    expected = {f"job-{number}" for number in range(23)}
    assert {letter["job_id"] for letter in world.listed()} == expected
    again = world.listed()
    assert {letter["job_id"] for letter in again} == expected
    assert {letter["receives"] for letter in again} == {2}


def test_an_empty_queue_is_said_to_be_empty(world: World) -> None:
    assert "there are no dead letters" in world.redrive().stdout
    assert world.listed() == []


# Sending back


def test_a_failed_job_is_sent_back_as_it_was(world: World) -> None:
    submitted = world.failed("job-1", "studio")
    done = world.redrive("--id", "job-1")
    assert done.exit_code == 0, done.output
    assert "job-1  sent back" in done.stdout
    [message] = world.sent()
    assert message["Body"] == submitted.body
    assert message["MessageAttributes"] == {"runtime": {"DataType": "String", "StringValue": "sdxl"}}
    assert message["Attributes"]["AWSTraceHeader"] == TRACE
    assert world.listed() == []


def test_its_result_is_archived_and_its_starts_are_counted_from_zero(world: World) -> None:
    submitted = world.submit("job-1", "studio")
    result = world.ended(submitted.job)
    world.dead_letter(submitted.body)
    world.redrive("--all")
    assert world.store.result("studio", "job-1") is None
    archived = world.s3.get_object(Bucket=world.bucket, Key=archived_result_key("studio", "job-1", result.nonce))
    assert ResultRecord.model_validate_json(archived["Body"].read()) == result
    found = world.store.state("studio", "job-1")
    assert found is not None
    assert (found[0].starts, found[0].progress, found[0].last_error) == (0, 0, None)
    assert found[0].lease_until < utcnow()


def test_an_agent_takes_it_as_a_job_that_was_never_begun(world: World) -> None:
    world.failed("job-1", "studio")
    world.redrive("--all")
    [message] = world._agents_queue.receive(1)
    job = world.records.job(receive(message.body, message.id))
    claim = world.records.claim(job, message)
    assert not isinstance(claim, HeldElsewhere | ResultRecord)
    assert (claim.starts, claim.last_error) == (1, None)


def test_only_those_that_are_meant_are_sent_back(world: World) -> None:
    for number in range(12):
        world.failed(f"job-{number}")
    done = world.redrive("--id", "job-3", "--id", "job-11", "--json")
    outcomes = {letter["job_id"]: letter["outcome"] for letter in json.loads(done.stdout)}
    assert outcomes == {"job-3": "sent", "job-11": "sent"}
    assert len(world.sent()) == 2
    assert {letter["job_id"] for letter in world.listed()} == {f"job-{n}" for n in range(12)} - outcomes.keys()


def test_all_are_sent_back(world: World) -> None:
    for number in range(12):
        world.failed(f"job-{number}")
    assert world.redrive("--all").exit_code == 0
    assert len(world.sent()) + len(world.sent()) == 12
    assert world.listed() == []


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.CANCELLED])
def test_a_job_that_ended_otherwise_is_not_run_but_told_again(world: World, status: _Final) -> None:
    submitted = world.submit("job-1")
    result = world.ended(submitted.job, status)
    world.dead_letter(submitted.body)
    done = world.redrive("--all")
    assert "job-1  sent back: its job has ended" in done.stdout
    assert len(world.sent()) == 1
    assert world.listed() == []
    assert world.store.result("default", "job-1") == result


def test_a_job_that_is_at_work_is_left(world: World) -> None:
    submitted = world.submit("job-1")
    world.started(submitted.job, ago=timedelta(0))
    world.dead_letter(submitted.body)
    before = world.store.state("default", "job-1")
    done = world.redrive("--all")
    assert done.exit_code == 1
    assert "job-1  left" in done.stdout
    assert world.sent() == []
    assert world.store.state("default", "job-1") == before
    assert [letter["job_id"] for letter in world.listed()] == ["job-1"]


class CrashError(Exception):
    """The command ends here."""


@pytest.mark.parametrize(
    ("step", "key"),
    [
        ("PutObject", "/result-"),
        ("DeleteObject", "/result.json"),
        ("PutObject", "/state.json"),
        ("SendMessage", ""),
        ("DeleteMessage", ""),
    ],
)
def test_after_a_crash_at_any_step_it_is_run_again_and_nothing_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, key: str
) -> None:
    submitted = world.submit("job-1")
    result = world.ended(submitted.job)
    world.dead_letter(submitted.body)
    real_call = vars(BaseClient)["_make_api_call"]

    def call(client: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == step and key in parameters.get("Key", ""):
            raise CrashError
        return real_call(client, operation, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", call)
        assert isinstance(world.redrive("--all").exception, CrashError)
    assert world.redrive("--all").exit_code == 0
    assert {message["Body"] for message in world.sent()} == {submitted.body}
    assert world.listed() == []
    assert world.keys(submitted.job) == {JobFact.REQUEST, JobFact.STATE, f"result-{result.nonce}.json"}
    assert (world.store.state("default", "job-1") or [StateRecord])[0].starts == 0


def test_a_result_that_came_in_between_is_not_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = world.failed("job-1")
    real_call = vars(BaseClient)["_make_api_call"]

    def call(client: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "PutObject" and "/result-" in parameters["Key"]:
            key = job_key("default", "job-1", JobFact.RESULT)
            real_call(client, "DeleteObject", {"Bucket": world.bucket, "Key": key})
            world.store.create_result(
                "default",
                "job-1",
                ResultRecord(status=JobStatus.COMPLETED, runtime="sdxl", finished_at=utcnow(), nonce="new"),
            )
        return real_call(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    done = world.redrive("--all")
    assert (done.exit_code, world.sent()) == (1, [])
    kept = world.store.result("default", submitted.id)
    assert kept is not None
    assert kept.nonce == "new"


def test_a_job_that_is_begun_in_between_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.failed("job-1")

    def conflict(*_: Any) -> str:
        raise StateConflict

    monkeypatch.setattr(JobStore, "put_state", conflict)
    assert world.redrive("--all").exit_code == 1
    assert world.sent() == []
    assert len(world.listed()) == 1


# Messages without records


@pytest.fixture
def forged(world: World) -> str:
    """A dead letter that names a job of the API's, whose message it is not."""
    submitted = world.submit("job-1")
    world.ended(submitted.job)
    body = submitted.body.replace("nonce-of-job-1", "guessed")
    world.dead_letter(body)
    return body


@pytest.mark.parametrize(("option", "status"), [(["--all"], 0), (["--id", "job-1"], 1)])
def test_a_message_with_the_wrong_nonce_is_left_since_it_would_come_back(
    world: World, forged: str, option: list[str], status: int
) -> None:
    result = world.store.result("default", "job-1")
    done = world.redrive(*option)
    assert done.exit_code == status
    [letter] = world.listed()
    assert "would be refused again; --id " + letter["message_id"] in done.stdout
    assert ("1 is no job and is left" in done.stdout) is (option == ["--all"])
    assert world.sent() == []
    assert world.store.result("default", "job-1") == result


@pytest.mark.parametrize("by_id", [True, False])
def test_it_is_sent_if_that_is_meant_and_touches_no_record(world: World, forged: str, by_id: bool) -> None:
    result = world.store.result("default", "job-1")
    [letter] = world.listed()
    done = world.redrive(*(["--id", letter["message_id"]] if by_id else ["--all", "--include-poison"]))
    assert done.exit_code == 0
    assert "will be refused again" in done.stdout
    assert [message["Body"] for message in world.sent()] == [forged]
    assert world.store.result("default", "job-1") == result
    assert world.listed() == []


def test_a_job_whose_records_are_gone_would_be_refused_too(world: World) -> None:
    submitted = world.submit("job-1")
    world.dead_letter(submitted.body)
    world.s3.delete_object(Bucket=world.bucket, Key=job_key("default", "job-1", JobFact.REQUEST))
    [letter] = json.loads(world.redrive("--all", "--json").stdout)
    assert letter["outcome"] == "unsent"
    assert world.sent() == []


def direct(label: str = "order-1") -> dict[str, Any]:
    """A message as clients of the AWS guidance publish it."""
    metadata = {"id": label, "runtime": "sdxl", "tasktype": "pipeline", "prefix": "team", "context": {}}
    return {"metadata": metadata, "content": {"1": {"class_type": "SaveImage", "inputs": {}}}}


def test_a_clients_own_message_is_listed_by_its_label_and_sent_back_by_its_messages_id(world: World) -> None:
    body = json.dumps(direct())
    world.dead_letter(body)
    [letter] = world.listed()
    assert (letter["job_id"], letter["tenant"], letter["label"]) == (None, "default", "order-1")
    assert world.redrive("--id", letter["message_id"]).exit_code == 0
    assert [message["Body"] for message in world.sent()] == [body]


def test_a_clients_own_message_in_snss_envelope_is_run_as_the_job_that_it_was(world: World) -> None:
    envelope = {"Type": "Notification", "MessageId": "sns-1", "Message": json.dumps(direct())}
    received = receive(json.dumps(envelope), "unused")
    job = received.message.to_job(received.message_id)
    assert job is not None
    world.ended(job)
    world.dead_letter(json.dumps(envelope))
    assert world.redrive("--id", "sns-1").exit_code == 0
    assert world.store.result("default", "sns-1") is None
    assert len(world.sent()) == 1


def test_an_envelope_that_names_a_job_of_the_apis_touches_no_record(world: World) -> None:
    submitted = world.submit("job-1")
    result = world.ended(submitted.job)
    world.dead_letter(json.dumps({"Type": "Notification", "MessageId": "job-1", "Message": json.dumps(direct())}))
    assert world.redrive("--all").exit_code == 0
    assert world.store.result("default", "job-1") == result


def test_poison_is_left_unless_it_is_asked_for(world: World) -> None:
    world.failed("job-1")
    world.dead_letter("no job", POISON)
    done = world.redrive("--all")
    assert done.exit_code == 0
    assert "1 is no job and is left: send back with --all --include-poison" in done.stdout
    assert len(world.sent()) == 1
    [poison] = world.listed()
    assert (poison["job_id"], poison["label"], poison["reason"]["code"]) == (None, None, "invalid_task")
    assert poison["id"] == poison["message_id"]
    assert world.redrive("--all", "--include-poison").exit_code == 0
    assert [message["Body"] for message in world.sent()] == ["no job"]


def test_several_that_are_poison_are_counted(world: World) -> None:
    for body in ("no job", "none either"):
        world.dead_letter(body, POISON)
    done = world.redrive("--all")
    assert "there is nothing to send back" in done.stdout
    assert "2 are no jobs and are left" in done.stdout


def test_one_that_is_poison_is_sent_back_by_its_messages_id(world: World) -> None:
    world.dead_letter("no job", POISON)
    [poison] = world.listed()
    assert world.redrive("--id", poison["message_id"]).exit_code == 0
    assert [message["Body"] for message in world.sent()] == ["no job"]


def test_a_message_of_a_newer_version_is_a_job_if_it_says_which(world: World) -> None:
    submitted = world.submit("job-1")
    world.ended(submitted.job)
    newer = json.loads(submitted.body)
    newer["metadata"]["prefix"] = {"of": "a newer form"}
    world.dead_letter(json.dumps(newer), POISON)
    assert world.redrive("--all").exit_code == 0
    assert world.store.result("default", "job-1") is None
    assert len(world.sent()) == 1


# The local stack


@pytest.fixture
def local_stack(world: World, aws_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The world is that of the local stack which runs in this folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with endpoint.reserved() as publish:
        publish(endpoint.LocalStack(world.names.cluster, "http://127.0.0.1:1", "key", aws_endpoint))
        yield


@pytest.mark.usefixtures("local_stack")
def test_the_local_stack_is_found(world: World, aws_endpoint: str) -> None:
    submitted = world.failed("job-1")
    assert f"of the local stack, {aws_endpoint}" in world.redrive().stdout
    assert [letter["id"] for letter in world.listed()] == ["job-1"]
    assert world.redrive("--all").exit_code == 0
    assert [message["Body"] for message in world.sent()] == [submitted.body]
    assert world.store.result("default", "job-1") is None


@pytest.mark.usefixtures("local_stack")
def test_who_says_which_aws_is_meant_gets_that(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.failed("job-1")
    monkeypatch.setenv("AWS_PROFILE", "production")
    done = world.redrive()
    assert done.exit_code == 1
    assert "The config profile (production) could not be found" in done.stdout


@pytest.mark.usefixtures("local_stack")
def test_another_cluster_is_not_looked_for_in_the_local_stack(world: World) -> None:
    assert endpoint.aws(world.names)[1] is not None
    assert endpoint.aws(replace(world.names, cluster="other"))[1] is None


# Errors


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--id", "job-1", "--all"], "give either --id or --all"),
        (["--include-poison"], "--include-poison goes with --all"),
        (["--id", "job-7"], "there is no dead letter job-7"),
    ],
)
def test_what_cannot_be_done_is_said(world: World, options: list[str], problem: str) -> None:
    world.failed("job-1")
    done = world.redrive(*options)
    assert done.exit_code == 1
    assert problem in done.stdout
    assert world.sent() == []
    assert len(world.listed()) == 1


def test_an_unknown_runtime_is_said(world: World) -> None:
    done = CliRunner().invoke(app, ["runtime", "redrive", "flux", "--cluster", str(world.folder)])
    assert (done.exit_code, "has no runtime flux; there are sdxl" in done.stdout) == (1, True)


def test_a_queue_that_is_not_there_is_said(world: World) -> None:
    world.sqs.delete_queue(QueueUrl=world.dead_letters)
    done = world.redrive()
    assert done.exit_code == 1
    assert "AWS:" in done.stdout
    assert "queue does not exist" in done.stdout
