"""What a client of a stack does and sees: posts requests, reads notifications, looks at pictures."""

import io
import json
import math
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
from PIL import Image

from darkroom.local.stack import Stack
from darkroom_contract.names import Bucket, split_s3_url

#: Far above what anything here takes: reached only when it never comes.
PATIENCE_SECONDS = 120


class Flow:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx.Client(timeout=60)
        self.sqs, self.sns, self.s3 = (stack.aws_client(service) for service in ("sqs", "sns", "s3"))
        name = f"test-{uuid.uuid4().hex}"
        self.queue = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.subscription = self.sns.subscribe(
            TopicArn=stack.names.topic_arn(stack.names.result_topic),
            Protocol="sqs",
            Endpoint=stack.names.queue_arn(name),
            Attributes={"RawMessageDelivery": "true"},
        )["SubscriptionArn"]

    def close(self) -> None:
        self.sns.unsubscribe(SubscriptionArn=self.subscription)
        self.sqs.delete_queue(QueueUrl=self.queue)
        self.http.close()

    def post(self, path: str, body: Any, tenant: str = "default", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        return self.http.post(
            f"{self.stack.url}/{path}",
            content=content,
            headers={"x-api-key": self.stack.api_keys[tenant], "content-type": "application/json", **headers},
        )

    def get(self, path: str, tenant: str = "default") -> httpx.Response:
        return self.http.get(f"{self.stack.url}/{path}", headers={"x-api-key": self.stack.api_keys[tenant]})

    def notifications(self, count: int, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> list[Any]:
        """The next notifications that are wanted; others are passed over."""
        found: list[Any] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                found += filter(wanted, [json.loads(message["Body"])])
            if len(found) >= count:
                return found
        raise AssertionError(f"{len(found)} of {count} notifications came")

    def has_further_notification(self, wanted: Callable[[dict[str, Any]], bool]) -> bool:
        """Whether one more that is wanted comes within two seconds; jobs of other tests may end meanwhile."""
        deadline = time.monotonic() + 2
        while (left := deadline - time.monotonic()) > 0:
            answer = self.sqs.receive_message(QueueUrl=self.queue, WaitTimeSeconds=math.ceil(left))
            if any(wanted(json.loads(message["Body"])) for message in answer.get("Messages", [])):
                return True
        return False

    def picture(self, url: str) -> Image.Image:
        bucket, key = split_s3_url(url)
        return Image.open(io.BytesIO(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()))

    def json_object(self, url: str) -> Any:
        bucket, key = split_s3_url(url)
        return json.loads(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def keys(self, purpose: Bucket, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.stack.bucket(purpose), Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def waiting(self, queue: str) -> int:
        """How many messages are on a queue, waiting or in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.stack.queue_url(queue)
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(value) for value in answer["Attributes"].values())
