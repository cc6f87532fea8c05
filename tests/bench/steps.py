"""What the AWS guidance's queue agent does with a message, step by step, and nothing else: for the baselines.

The AWS calls and the objects are those of the guidance's contract. Nothing is repeated, checked or given back.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from typing import TYPE_CHECKING

import boto3
import httpx
from botocore.config import Config

if TYPE_CHECKING:
    from types_boto3_sqs.type_defs import MessageTypeDef


class Steps:
    """The steps of a job. They may be called by several threads."""

    def __init__(self, connections: int = 10) -> None:
        """``connections``: how many threads call AWS at once."""
        session, config = boto3.Session(), Config(max_pool_connections=connections)
        self._sqs = session.client("sqs", config=config)
        self._sns = session.client("sns", config=config)
        self._s3 = session.client("s3", config=config)
        self._web_ui = httpx.Client(base_url=os.environ["RUNTIME_URL"], timeout=None)
        self._queue = os.environ["QUEUE_URL"]
        self._topic = os.environ["RESULT_TOPIC_ARN"]
        self._bucket = os.environ["OUTPUT_BUCKET"]

    def receive(self, most: int = 1) -> list[MessageTypeDef]:
        """The next messages, if any comes within seconds."""
        answer = self._sqs.receive_message(
            QueueUrl=self._queue, MaxNumberOfMessages=most, WaitTimeSeconds=5, MessageAttributeNames=["All"]
        )
        return answer.get("Messages", [])

    def generate(self, message: MessageTypeDef) -> httpx.Response:
        """Have the web UI do what the message asks for."""
        return self._web_ui.post("/sdapi/v1/txt2img", json=json.loads(message["Body"])["content"])

    def deliver(self, message: MessageTypeDef, response: httpx.Response) -> None:
        """Save the pictures and the web UI's answer, notify, delete the message."""
        metadata, answer = json.loads(message["Body"])["metadata"], response.json()
        name = f"{metadata['prefix']}/{metadata['id']}/{metadata['id']}-{secrets.token_hex(2)}"
        images = [
            self._save(f"{name}-{number}.png", base64.b64decode(image), "image/png")
            for number, image in enumerate(answer["images"], 1)
        ]
        seeds = ",".join(map(str, json.loads(answer["info"])["all_seeds"]))
        parameters = {**answer["parameters"], "id_task": metadata["id"], "image_seed": seeds, "error_msg": ""}
        record = {"images": [""], "parameters": parameters, "info": ""}
        output = self._save(f"{name}.out", json.dumps(record).encode(), "application/json")
        notification = {
            "runtime": metadata["runtime"],
            "id": metadata["id"],
            "result": True,
            "status": "completed",
            "image_url": images,
            "output_url": output,
            "context": metadata["context"],
        }
        self._sns.publish(TopicArn=self._topic, Message=json.dumps(notification))
        self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    def _save(self, key: str, body: bytes, content_type: str) -> str:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type)
        return f"s3://{self._bucket}/{key}"
