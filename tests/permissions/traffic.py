"""What the function, the agent and their clients do in ordinary life, and what strangers try."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from darkroom_agent.janitor import Janitor, Settings
from darkroom_agent.lost_jobs import Step
from darkroom_contract.job import Api, Job
from darkroom_contract.names import Bucket, registry_key
from darkroom_contract.records import RequestRecord
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.store import JobStore
from darkroom_contract.types import Engine, Task, utcnow
from darkroom_function import policy
from tests.permissions.proxy import Decided
from tests.permissions.system import (
    API_ROLE,
    FILES,
    INPUT_BUCKETS,
    JANITOR_ROLE,
    KEDA_ROLE,
    MOUNTPOINT_ROLE,
    NAMES,
    OPERATOR,
    POLICIES,
    QUEUES,
    RUNTIME,
    TOPICS,
    Customer,
    System,
)
from tests.unit.agent.support import eventually, picture, same_clients

CHECKPOINT = "v1-5-pruned-emaonly.safetensors"
#: So many steps outlast the first third of the agent's visibility timeout.
_MANY_STEPS = 120


@dataclass(frozen=True)
class Recorded:
    """The calls of a system's life, as they were decided."""

    ordinary: tuple[Decided, ...]
    #: What nobody is to do.
    hostile: tuple[Decided, ...]


def record(system: System) -> Recorded:
    """Let everything happen once."""
    customer = Customer(system)
    cancelled = customer.submit()
    assert customer.post(f"v1/jobs/{cancelled}/cancel", "").status_code == 202
    agent = system.start_agent()
    try:
        _jobs(system, customer, cancelled)
        _poison(system, customer)
    finally:
        agent.stop()
        customer.close()
    _lambda_itself(system)
    _add_ons(system)
    _janitor(system)
    ordinary = tuple(system.proxy.decided)
    system.proxy.decided.clear()
    _undeliverable(system)
    _strangers(system)
    return Recorded(ordinary, tuple(system.proxy.decided))


def _jobs(system: System, customer: Customer, cancelled: str) -> None:
    s3, outputs = system.stack.aws_client("s3"), system.stack.bucket(Bucket.OUTPUTS)
    for bucket in (outputs, *INPUT_BUCKETS):
        s3.put_object(Bucket=bucket, Key="inputs/a.png", Body=picture())
    slow = customer.submit(content={"steps": _MANY_STEPS}, notify_running=True)
    eventually(lambda: customer.get(f"v1/jobs/{slow}").json()["status"] == "running")
    good = [
        customer.submit(output={"format": "webp"}),
        customer.submit(content={"styles": ["x" * 300_000]}),  # its message carries no more than where it is
        *(
            customer.submit(task="image-to-image", content={"init_images": [f"s3://{bucket}/inputs/a.png"]})
            for bucket in (outputs, *INPUT_BUCKETS)
        ),
        *_guidance_clients(system, customer),
    ]
    bad = [
        customer.submit(task="image-to-image", content={"init_images": [f"s3://{bucket}/inputs/b.png"]})
        for bucket in (outputs, "somebody-elses")
    ]
    ends = customer.ends(cancelled, slow, *good, *bad)
    assert {job_id: ends[job_id]["status"] for job_id in (slow, *good)} == dict.fromkeys((slow, *good), "completed")
    assert {ends[job_id]["status"] for job_id in bad} == {"failed"}
    assert ends[cancelled]["status"] == "cancelled"
    view = customer.get(f"v1/jobs/{slow}").json()
    assert system.download(view["images"][0]["url"]).status_code == 200
    assert customer.get(f"v1/jobs/{uuid.uuid4().hex}").status_code == 404
    assert customer.post("v1/jobs", {"runtime": "nowhere", "content": {"prompt": "a"}}).status_code == 404
    entry = RegistryEntry(name="elsewhere", engine=Engine.COMFYUI)
    s3.put_object(Bucket=system.stack.bucket(Bucket.JOBS), Key=registry_key(entry.name), Body=entry.to_json().encode())
    unknown = customer.post("v1/jobs", {"runtime": entry.name, "workflow": "unknown"}).json()
    assert unknown["error"]["code"] == "unknown_workflow"
    again = {"id": uuid.uuid4().hex, "runtime": RUNTIME, "content": {"prompt": "a", "steps": 1}}
    assert [customer.post("v1/jobs", again).status_code for _ in range(2)] == [202, 202]
    assert customer.ends(str(again["id"]))


def _guidance_clients(system: System, customer: Customer) -> list[str]:
    labels = [uuid.uuid4().hex for _ in range(3)]
    content = {"prompt": "a", "steps": 1, "width": 64, "height": 64}
    routing = {"task": "text-to-image", "sd_model_checkpoint": CHECKPOINT, "id_task": labels[0], "save_dir": "a"}
    answer = customer.post("v1alpha1", {**content, "alwayson_scripts": routing})
    assert answer.status_code == 200, answer.text
    metadata = {"id": labels[1], "runtime": RUNTIME, "tasktype": "text-to-image", "prefix": "a"}
    answer = customer.post("v1alpha2", {"task": {"metadata": metadata, "content": content}})
    assert answer.status_code == 200, answer.text
    system.client(OPERATOR, "sns").publish(
        TopicArn=NAMES.topic_arn(NAMES.prompt_topic),
        Message=json.dumps({"metadata": {**metadata, "id": labels[2], "context": {}}, "content": content}),
        MessageAttributes={"runtime": {"DataType": "String", "StringValue": RUNTIME}},
    )
    return labels


def _poison(system: System, customer: Customer) -> None:
    customer.sqs.send_message(QueueUrl=system.stack.queue_url(NAMES.runtime_queue(RUNTIME)), MessageBody="no message")
    eventually(lambda: customer.waiting(NAMES.dead_letter_queue(RUNTIME)) == 1)


def _lambda_itself(system: System) -> None:
    """Lambda logs, and its X-Ray daemon sends traces, with the function's role."""
    logs, xray = system.client(API_ROLE, "logs"), system.client(API_ROLE, "xray")
    stream = {"logGroupName": NAMES.api_log_group, "logStreamName": "2024/01/01/[$LATEST]0123"}
    logs.create_log_stream(**stream)
    logs.put_log_events(**stream, logEvents=[{"timestamp": int(time.time() * 1000), "message": "{}"}])
    xray.put_trace_segments(TraceSegmentDocuments=[json.dumps({"trace_id": "1-67891233-abcdef012345678912345678"})])
    xray.put_telemetry_records(TelemetryRecords=[{"Timestamp": 1}])


def _add_ons(system: System) -> None:
    """KEDA measures the queue, and Mountpoint finds and reads a model."""
    system.client(KEDA_ROLE, "sqs").get_queue_attributes(
        QueueUrl=NAMES.queue_url(NAMES.runtime_queue(RUNTIME)), AttributeNames=["ApproximateNumberOfMessages"]
    )
    models, key = system.stack.bucket(Bucket.MODELS), "checkpoints/a.safetensors"
    system.stack.aws_client("s3").put_object(Bucket=models, Key=key, Body=b"")
    mountpoint = system.client(MOUNTPOINT_ROLE, "s3")
    mountpoint.list_objects_v2(Bucket=models, Prefix="checkpoints/")
    mountpoint.head_object(Bucket=models, Key=key)
    mountpoint.get_object(Bucket=models, Key=key)


def _janitor(system: System) -> None:
    """The janitor finds a job whose runtime is gone, and answers it; then it has nothing to do."""
    store = JobStore(system.stack.aws_client("s3"), system.stack.bucket(Bucket.JOBS))
    job = Job(
        tenant="default",
        job_id="abandoned",
        label="abandoned",
        api=Api.V1,
        runtime="gone",
        task=Task.TEXT_TO_IMAGE,
        content={},
        submitted_at=utcnow(),
    )
    store.create_request(RequestRecord(job=job, nonce="n", recorded_at=utcnow()))
    clients = same_clients(*(system.client(JANITOR_ROLE, service) for service in ("sqs", "sns", "s3")))
    settings = Settings(cluster=NAMES.cluster, account=NAMES.account, aws_region=FILES.cluster.region)
    in_an_hour = Janitor(settings, clients, lambda: utcnow() + timedelta(hours=1))
    assert in_an_hour.run().steps[Step.ANSWER] == 1
    assert in_an_hour.run().jobs == 0


def _undeliverable(system: System) -> None:
    """What a queue's policy keeps out goes to the subscription's dead-letter queue."""
    topics = {NAMES.prompt_topic: QUEUES[:2], NAMES.result_topic: QUEUES[2:4]}
    for topic, (queue, dead_letters) in topics.items():
        closed = POLICIES.changed("resource", NAMES.queue_arn(queue), policy.document())
        before = count(system, dead_letters)
        with system.proxy.under(closed):
            publish(system, topic)
        assert count(system, dead_letters) == before + 1


def publish(system: System, topic: str, **client: bool) -> None:
    """Publish a message for the runtime as somebody who may."""
    system.client(OPERATOR, "sns", **client).publish(
        TopicArn=NAMES.topic_arn(topic),
        Message="a message",
        MessageAttributes={"runtime": {"DataType": "String", "StringValue": RUNTIME}},
    )


def count(system: System, queue: str) -> int:
    """How many messages wait in a queue."""
    attribute = "ApproximateNumberOfMessages"
    answer = system.stack.aws_client("sqs").get_queue_attributes(
        QueueUrl=system.stack.queue_url(queue), AttributeNames=[attribute]
    )
    return int(answer["Attributes"][attribute])


def _strangers(system: System) -> None:
    sns = system.stack.aws_client("sns")
    stranger = sns.create_topic(Name="stranger")["TopicArn"]
    for queue in QUEUES[:4]:
        sns.subscribe(TopicArn=stranger, Protocol="sqs", Endpoint=NAMES.queue_arn(queue))
    before = [count(system, queue) for queue in QUEUES[:4]]
    publish(system, "stranger")
    assert [count(system, queue) for queue in QUEUES[:4]] == before
    for call in without_tls(system):
        with pytest.raises(ClientError, match="an explicit deny"):
            call()


def without_tls(system: System) -> list[Callable[[], Any]]:
    """A call of every kind over plain HTTP, by somebody who may do everything."""
    s3, sqs = (system.client(OPERATOR, service, plain=True) for service in ("s3", "sqs"))
    buckets = [system.stack.bucket(bucket) for bucket in Bucket]
    return [
        *(lambda topic=topic: publish(system, topic, plain=True) for topic in TOPICS),
        *(lambda queue=queue: sqs.receive_message(QueueUrl=NAMES.queue_url(queue)) for queue in QUEUES),
        *(lambda bucket=bucket: s3.list_objects_v2(Bucket=bucket) for bucket in buckets),
        *(lambda bucket=bucket: s3.get_object(Bucket=bucket, Key="a") for bucket in buckets),
    ]
