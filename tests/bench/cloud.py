"""The AWS of the benchmark: an emulator in a process of its own, and what one run needs of it.

The emulator has its own virtual environment (``make bench`` makes it): it pins versions of the AWS SDK.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx

from darkroom.local import child
from darkroom_contract.job import Api, Job, new_job_id
from darkroom_contract.message import Message
from darkroom_contract.records import RequestRecord
from darkroom_contract.store import JobStore
from darkroom_contract.types import DEFAULT_TENANT, Task, utcnow

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

_PYTHON = Path(__file__).parents[2] / ".venv-bench" / "bin" / "python"
_START_SECONDS = 30
#: What clients of the emulator say they are.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}
RUNTIME = "bench"
_PREFIX = "bench"


@contextmanager
def emulator() -> Iterator[int]:
    """Run the emulator for as long as the context lasts; its port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = {**os.environ, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"}
    if not _PYTHON.exists():
        raise SystemExit(f"{_PYTHON} does not exist: `make bench` makes it")
    # By its file, since its package is not in that environment; isolated, so that nothing of ours is.
    command = [str(_PYTHON), "-I", str(child.__file__), "ministack"]
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_it_answers(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/_ministack/health", trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the emulator does not answer")


class Cloud:
    """The queues, the topic and the buckets of one run, in an emulator that has nothing else."""

    def __init__(self, port: int, *, has_records: bool) -> None:
        endpoint = f"http://127.0.0.1:{port}"
        httpx.post(f"{endpoint}/_ministack/reset", trust_env=False, timeout=60).raise_for_status()
        session = boto3.Session(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=CREDENTIALS["AWS_REGION"],
        )
        self._s3, self._sns, self._sqs = (
            session.client("s3", endpoint_url=endpoint),
            session.client("sns", endpoint_url=endpoint),
            session.client("sqs", endpoint_url=endpoint),
        )
        self._queue, self._dead_letters, self._results = map(self._create_queue, ("jobs", "dead-letters", "results"))
        self._topic = self._sns.create_topic(Name="results")["TopicArn"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._results, AttributeNames=["QueueArn"])["Attributes"]
        self._sns.subscribe(
            TopicArn=self._topic, Protocol="sqs", Endpoint=arn["QueueArn"], Attributes={"RawMessageDelivery": "true"}
        )
        self._outputs, self._jobs = "bench-outputs", "bench-jobs"
        for bucket in (self._outputs, self._jobs):
            self._s3.create_bucket(Bucket=bucket)
        self._store = JobStore(self._s3, self._jobs) if has_records else None
        self.sent = 0

    def _create_queue(self, name: str) -> str:
        # Baselines do not keep a message from others: none may come twice.
        return self._sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "3600"})["QueueUrl"]

    @property
    def environment(self) -> dict[str, str]:
        """What a contestant is told of it."""
        return {
            **CREDENTIALS,
            "QUEUE_URL": self._queue,
            "DEAD_LETTER_QUEUE_URL": self._dead_letters,
            "RESULT_TOPIC_ARN": self._topic,
            "OUTPUT_BUCKET": self._outputs,
            "RUNTIME_NAME": RUNTIME,
            **({"JOBS_BUCKET": self._jobs} if self._store else {}),
        }

    def send(self, count: int) -> None:
        """Put so many jobs on the queue, as the API would."""
        for first in range(0, count, 10):
            bodies = [self._submit(self.sent + number) for number in range(first, min(first + 10, count))]
            self._sqs.send_message_batch(
                QueueUrl=self._queue,
                Entries=[{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)],
            )
        self.sent += count

    def _submit(self, number: int) -> str:
        job = Job(
            api=Api.V1,
            tenant=DEFAULT_TENANT,
            job_id=new_job_id(),
            label=f"job-{number}",
            runtime=RUNTIME,
            task=Task.TEXT_TO_IMAGE,
            prefix=_PREFIX,
            content={"prompt": "a lighthouse on a cliff at dusk", "steps": 20, "width": 512, "height": 512, "seed": 7},
            submitted_at=utcnow(),
        )
        record = RequestRecord(job=job, nonce=secrets.token_hex(8), recorded_at=utcnow())
        if self._store:
            self._store.create_request(record)
        return Message.of(job, record.nonce).to_body()

    def messages_left(self) -> int:
        """How many messages the queue has, received ones included."""
        return self._count(self._queue)

    def notifications(self) -> int:
        """How many notifications there were."""
        return self._count(self._results)

    def _count(self, queue: str) -> int:
        answer = self._sqs.get_queue_attributes(
            QueueUrl=queue,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        return sum(map(int, answer["Attributes"].values()))

    def take_outputs(self) -> list[str]:
        """Remove what the output bucket has, which is in the emulator's memory; the keys."""
        keys: list[str] = []
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._outputs):
            objects: list[ObjectIdentifierTypeDef] = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if objects:
                self._s3.delete_objects(Bucket=self._outputs, Delete={"Objects": objects, "Quiet": True})
            keys += [item["Key"] for item in objects]
        return keys
