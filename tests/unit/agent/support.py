"""What the agent's tests share: a small AWS, jobs to send to it, and agents that run in threads."""

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import httpx
from botocore.config import Config
from PIL import Image

from darkroom_agent.agent import Agent
from darkroom_agent.aws import Clients
from darkroom_agent.clock import Clock
from darkroom_agent.engines.base import Presence
from darkroom_agent.errors import HandedBackError
from darkroom_agent.fetcher import Fetcher
from darkroom_agent.settings import Settings
from darkroom_agent.transport import QueueMessage
from darkroom_contract.records import StateRecord
from darkroom_contract.store import JobStore
from darkroom_demo.drawing import Tempo
from tests.workflows import text_to_image

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient

DEADLINE = 30
#: What trouble with a connection says about an engine.
PRESENCES = [
    (httpx.ReadTimeout, Presence.BUSY),
    (httpx.ConnectTimeout, Presence.BUSY),
    (httpx.ConnectError, Presence.AWAY),
    (httpx.ReadError, Presence.AWAY),
    (httpx.RemoteProtocolError, Presence.AWAY),
]
SMALL = {"prompt": "a lighthouse", "steps": 1, "width": 64, "height": 64, "seed": 7}

_Value = TypeVar("_Value")


def eventually(look: Callable[[], _Value | None]) -> _Value:
    """What `look` returns, as soon as it is true."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if value := look():
            return value
        threading.Event().wait(0.02)
    raise AssertionError("it did not happen")


@contextmanager
def held(*tempos: Tempo) -> Iterator[None]:
    """Let no run of those engines go on after its first step for as long as the context lasts."""
    for tempo in tempos:
        tempo.held.set()
    try:
        yield
    finally:
        for tempo in tempos:
            tempo.held.clear()


def picture(kind: str = "PNG", colour: str = "teal") -> bytes:
    """A small picture."""
    data = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(data, kind)
    return data.getvalue()


def seconds_for(steps: int) -> Callable[[], float]:
    """A job that has time for so many steps, and is then handed back."""
    left = iter([1.0] * steps)

    def seconds_left() -> float:
        for seconds in left:
            return seconds
        raise HandedBackError

    return seconds_left


def guidance_message(
    content: dict[str, Any], task: str = "text-to-image", label: str = "job-1", **metadata: Any
) -> dict[str, Any]:
    """A message as clients of the AWS guidance publish it."""
    return {
        "metadata": {"id": label, "runtime": "sdxl", "tasktype": task, "prefix": "team", "context": {}, **metadata},
        "content": content,
    }


def workflow(**changes: Any) -> dict[str, Any]:
    """A text-to-image workflow in API format; `changes` are nodes that replace or join it."""
    return {**text_to_image("a lighthouse", width=64, height=64, steps=1), **changes}


def workflow_with_input(image: str) -> dict[str, Any]:
    """A workflow that draws over an input picture."""
    nodes = workflow()
    nodes["10"] = {"class_type": "LoadImage", "inputs": {"image": image}}
    nodes["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    nodes["3"]["inputs"]["latent_image"] = ["11", 0]
    return nodes


class ToldClock(Clock):
    """A clock that goes when it is told to; who waits for an event by it waits but a moment."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wait(self, event: threading.Event | threading.Condition, seconds: float) -> bool:
        return event.wait(min(seconds, 0.01))


def held_message(clock: Clock, number: int = 1) -> QueueMessage:
    """A message that was just received, and is held for a minute."""
    return QueueMessage(
        id=str(number),
        body="{}",
        receipt="receipt",
        receive_count=1,
        sent_at=None,
        trace_header=None,
        attributes={},
        clock=clock,
        received_at=clock.now(),
        held_until=clock.now() + 60,
    )


_SESSION = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
_CONFIG = Config(retries={"total_max_attempts": 1}, max_pool_connections=32)


def same_clients(sqs: "SQSClient", sns: "SNSClient", s3: "S3Client") -> Clients:
    """Clients of an agent that does not keep its calls apart."""
    return Clients(sqs=sqs, sns=sns, s3=s3, brief_s3=s3, brief_sqs=sqs, heartbeat_sqs=sqs)


class Cloud:
    """A topic for prompts, a runtime's queues, a topic for results with a queue, and three buckets."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.sqs = _SESSION.client("sqs", endpoint_url=endpoint, config=_CONFIG)
        self.sns = _SESSION.client("sns", endpoint_url=endpoint, config=_CONFIG)
        self.s3 = _SESSION.client("s3", endpoint_url=endpoint, config=_CONFIG)
        self.clients = same_clients(self.sqs, self.sns, self.s3)
        self.prompts = self.sns.create_topic(Name=f"{name}-prompts")["TopicArn"]
        self.results = self.sns.create_topic(Name=f"{name}-results")["TopicArn"]
        self.queue = self._queue(f"{name}-runtime")
        self.dead_letter_queue = self._queue(f"{name}-dead-letter")
        self.result_queue = self._queue(f"{name}-results")
        self._subscribe(self.results, self.result_queue, raw=True)
        self.jobs, self.outputs, self.inputs = (f"{name}-{purpose}" for purpose in ("jobs", "outputs", "inputs"))
        for bucket in (self.jobs, self.outputs, self.inputs):
            self.s3.create_bucket(Bucket=bucket)
        # The tests' own eyes: moto answers 500 to who reads an object while it is written anew.
        patient = _CONFIG.merge(Config(retries={"total_max_attempts": 5}))
        self.store = JobStore(_SESSION.client("s3", endpoint_url=endpoint, config=patient), self.jobs)

    def _queue(self, name: str) -> str:
        return self.sqs.create_queue(QueueName=name)["QueueUrl"]

    def _subscribe(self, topic: str, queue: str, *, raw: bool) -> None:
        arn = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        attributes = {"RawMessageDelivery": "true"} if raw else {}
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)

    def subscribe_runtime(self, *, raw: bool) -> None:
        """Let the topic's prompts come to the runtime's queue."""
        self._subscribe(self.prompts, self.queue, raw=raw)

    def send(self, message: dict[str, Any] | str) -> str:
        """Put a message on the runtime's queue; returns its id."""
        body = message if isinstance(message, str) else json.dumps(message)
        return self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)["MessageId"]

    def notification(self) -> dict[str, Any]:
        """The next notification."""
        found: dict[str, Any] = json.loads(self._next(self.result_queue)["Body"])
        return found

    def dead_letter(self) -> tuple[str, dict[str, str]]:
        """The next dead letter: its body and its attributes."""
        message = self._next(self.dead_letter_queue)
        attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
        return message["Body"], attributes

    def _next(self, queue: str) -> Any:
        def look() -> Any:
            answer = self.sqs.receive_message(
                QueueUrl=queue, WaitTimeSeconds=1, MessageAttributeNames=["All"], MaxNumberOfMessages=1
            )
            return next(iter(answer.get("Messages", [])), None)

        message = eventually(look)
        self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return message

    def count(self, queue: str) -> int:
        """How many messages a queue has, received ones included."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)
        return sum(int(value) for value in answer["Attributes"].values())

    def in_flight(self) -> int:
        """How many messages of the runtime's queue agents have received, and hold."""
        names: Any = ["ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)
        return int(answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"])

    def wait_until_empty(self) -> None:
        """Wait until the runtime's queue has no message, received ones included."""
        eventually(lambda: self.count(self.queue) == 0)

    def read(self, url: str) -> tuple[bytes, str]:
        """An object by its `s3://` URL: its bytes and its content type."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        answer = self.s3.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["ContentType"]

    def read_json(self, url: str) -> Any:
        """A JSON object by its `s3://` URL."""
        data, content_type = self.read(url)
        assert content_type == "application/json"
        return json.loads(data)

    def settings(self, **changes: Any) -> Settings:
        """Settings of an agent of the runtime's; `changes` by field name."""
        values: dict[str, Any] = {
            "queue_url": self.queue,
            "dead_letter_queue_url": self.dead_letter_queue,
            "result_topic_arn": self.results,
            "output_bucket": self.outputs,
            "jobs_bucket": self.jobs,
            "input_buckets": (self.inputs,),
            "runtime_name": "sdxl",
            "health_port": 0,
            "receive_wait_seconds": 1,
            **changes,
        }
        return Settings.model_validate(values)

    def environment(self, engine: str, runtime_url: str, **changes: str) -> dict[str, str]:
        """The environment of an agent's process; `changes` by variable."""
        return {
            "PATH": os.environ["PATH"],
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": self.sqs.meta.endpoint_url,
            "QUEUE_URL": self.queue,
            "DEAD_LETTER_QUEUE_URL": self.dead_letter_queue,
            "RESULT_TOPIC_ARN": self.results,
            "OUTPUT_BUCKET": self.outputs,
            "JOBS_BUCKET": self.jobs,
            "ENGINE": engine,
            "RUNTIME_NAME": "sdxl",
            "RUNTIME_URL": runtime_url,
            "HEALTH_PORT": "0",
            "RECEIVE_WAIT_SECONDS": "1",
            **changes,
        }


def failed_state(cloud: Cloud, tenant: str, job_id: str) -> StateRecord | None:
    """A job's state, once a start of it has failed."""
    found = cloud.store.state(tenant, job_id)
    return found[0] if found and found[0].last_error else None


@dataclass
class RunningAgent:
    """An agent in a thread."""

    agent: Agent
    thread: threading.Thread

    def health(self, path: str) -> int:
        """What a health path answers with."""
        url = f"http://127.0.0.1:{self.agent.health_port.result(DEADLINE)}{path}"
        return httpx.get(url, timeout=DEADLINE).status_code

    def stop(self) -> None:
        """Stop it, and wait until it has."""
        self.agent.stop()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


def running(settings: Settings, cloud: Cloud, fetcher: Fetcher | None = None) -> AbstractContextManager[RunningAgent]:
    """Run an agent of a cloud's for as long as the context lasts."""
    return at_work(settings, cloud.clients, fetcher=fetcher)


@contextmanager
def at_work(
    settings: Settings, aws: Clients, clock: Clock | None = None, fetcher: Fetcher | None = None
) -> Iterator[RunningAgent]:
    """Run an agent for as long as the context lasts."""
    agent = Agent(settings, aws=aws, clock=clock, fetcher=fetcher)
    thread = threading.Thread(target=agent.run, name=settings.pod_name)
    thread.start()
    started = RunningAgent(agent, thread)
    try:
        yield started
    finally:
        started.stop()
