"""An emulator of AWS with a cluster's buckets, topic and queue in it, and the function's environment."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

import boto3
import pytest

from darkroom_api.service import service
from darkroom_contract.message import Received, receive
from darkroom_contract.names import JobFact, job_key, registry_key
from darkroom_contract.records import RequestRecord
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.store import JobStore
from darkroom_contract.types import Engine
from tests.emulator import emulated_aws

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient

REGION: Final = "eu-west-1"
JOBS = "jobs-bucket"
OUTPUTS = "outputs-bucket"
CHECKPOINT = "v1-5-pruned.safetensors"
#: A web UI, a ComfyUI, and a runtime that takes no jobs.
RUNTIMES = (
    RegistryEntry(name="sdxl", engine=Engine.SDWEBUI, checkpoint=CHECKPOINT),
    RegistryEntry(name="flux", engine=Engine.COMFYUI),
    RegistryEntry(name="closed", engine=Engine.SDWEBUI, accepting=False, checkpoint="closed.ckpt"),
)


@dataclass
class Cloud:
    """What the function talks to, seen from the other side."""

    s3: S3Client
    sqs: SQSClient
    topic_arn: str
    queue_url: str
    _received: list[dict[str, Any]] = field(default_factory=list)

    @property
    def store(self) -> JobStore:
        return JobStore(self.s3, JOBS)

    def register(self, entry: RegistryEntry) -> None:
        """Add a runtime, or change one, and make the function look it up anew."""
        self.put(registry_key(entry.name), entry.to_json())
        service.cache_clear()

    def put(self, key: str, body: str) -> None:
        self.s3.put_object(Bucket=JOBS, Key=key, Body=body.encode())

    def keep(self, record: RequestRecord) -> None:
        """Put a request in the place of the one that is kept."""
        self.put(job_key(record.job.tenant, record.job.job_id, JobFact.REQUEST), record.to_json())

    def requests(self) -> list[RequestRecord]:
        listed = self.s3.list_objects_v2(Bucket=JOBS, Prefix="jobs/").get("Contents", [])
        keys = [entry["Key"] for entry in listed if entry["Key"].endswith(JobFact.REQUEST)]
        bodies = [self.s3.get_object(Bucket=JOBS, Key=key)["Body"].read() for key in keys]
        return [RequestRecord.model_validate_json(body) for body in bodies]

    def envelopes(self) -> list[dict[str, Any]]:
        """Everything that was published so far, in SNS's envelope."""
        while messages := self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self._received.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return self._received

    def published(self) -> list[Received]:
        """Everything that was published so far, as an agent reads it."""
        return [receive(json.dumps(envelope), "unused") for envelope in self.envelopes()]

    def attributes(self) -> dict[str, str]:
        """The message attributes of the only message that was published."""
        [envelope] = self.envelopes()
        return {name: attribute["Value"] for name, attribute in envelope["MessageAttributes"].items()}

    @contextmanager
    def down(self, name: str) -> Iterator[None]:
        """The time while an AWS service, SNS or S3, does not answer the function."""
        with nobody_listens() as url, environment(**{f"AWS_ENDPOINT_URL_{name}": url}):
            yield


@contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Other environment variables of the function, and the service that they describe; None takes one away."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            if value is None:
                patch.delenv(name)
            else:
                patch.setenv(name, value)
        service.cache_clear()
        yield
    service.cache_clear()


@contextmanager
def nobody_listens() -> Iterator[str]:
    """A URL at which every connection is refused: its port is taken, but nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@dataclass(frozen=True)
class Emulator:
    """AWS on loopback, and clients of it."""

    url: str
    s3: S3Client
    sns: SNSClient
    sqs: SQSClient


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    session = boto3.Session("test", "test", region_name=REGION)
    with emulated_aws() as url:
        yield Emulator(
            url,
            session.client("s3", endpoint_url=url),
            session.client("sns", endpoint_url=url),
            session.client("sqs", endpoint_url=url),
        )
        service.cache_clear()


@pytest.fixture
def cloud(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cluster with the three runtimes.

    The function's service is kept from test to test, as an execution environment keeps it: what it remembers, the
    runtimes, is the same in each. Whatever changes its environment clears it.
    """
    s3, sns, sqs = emulator.s3, emulator.sns, emulator.sqs
    for bucket in (JOBS, OUTPUTS):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    topic_arn = sns.create_topic(Name="prompts")["TopicArn"]
    queue_url = sqs.create_queue(QueueName="everything")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=queue_arn)
    environment = {
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PROMPT_TOPIC_ARN": topic_arn,
        "OUTPUT_BUCKET": OUTPUTS,
        "JOBS_BUCKET": JOBS,
        "TENANTS": "default,studio",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cloud = Cloud(s3, sqs, topic_arn, queue_url)
    for entry in RUNTIMES:
        cloud.put(registry_key(entry.name), entry.to_json())
    yield cloud
    with urlopen(Request(f"{emulator.url}/moto-api/reset", method="POST")):
        pass


@pytest.fixture
def without_records(cloud: Cloud) -> Iterator[Cloud]:
    """The cluster without a bucket for jobs, and so without a registry."""
    with environment(JOBS_BUCKET=None):
        yield cloud
