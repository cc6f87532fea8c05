"""What a job leaves behind: pictures and the engine's response in the output bucket, and the notification.

Objects are only ever created: a key that is taken makes a run of another name. It talks to S3 and SNS.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from logging import getLogger
from types import MappingProxyType
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from pydantic import JsonValue

from darkroom_agent.aws import AWS_ERRORS, Clients, Patience, status_of
from darkroom_agent.media import media_type
from darkroom_agent.settings import Settings
from darkroom_contract import names
from darkroom_contract.job import Job, JobReference
from darkroom_contract.records import Notification, ResultRecord

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient
    from types_boto3_sns.type_defs import MessageAttributeValueTypeDef

log = getLogger(__name__)

#: Of all jobs' pictures together.
_UPLOADS = 8
#: The metadata that tells a run's own objects from those of another run with the same name.
_NONCE = "darkroom-nonce"
_NO_TRACE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Saved:
    """Where a job's pictures and the engine's response are, as ``s3://`` URLs."""

    images: tuple[str, ...]
    output: str


class _KeyTaken(Exception):  # noqa: N818 - it says what is the case
    """Another run has the same name."""


class Delivery:
    """Saves and announces. Raises ``AwsUnavailableError`` when patience with AWS is at its end."""

    def __init__(self, clients: Clients, settings: Settings) -> None:
        self._s3 = clients.s3
        self._sns = clients.sns
        self._bucket = settings.output_bucket
        self._topic = settings.result_topic_arn
        self._uploads = ThreadPoolExecutor(_UPLOADS, "upload")

    def close(self) -> None:
        """Let its threads end."""
        self._uploads.shutdown()

    def save(self, job: Job, pictures: Sequence[bytes], response: dict[str, JsonValue], patience: Patience) -> Saved:
        """Save the pictures and the engine's response, side by side."""
        while True:
            run, nonce = secrets.token_hex(2), secrets.token_hex(8)
            uploads = [
                self._uploads.submit(
                    copy_context().run,
                    partial(
                        self._create,
                        names.picture_key(job.folder, job.label, run, number, kind.extension),
                        picture,
                        kind.name,
                        nonce,
                        patience,
                    ),
                )
                for number, (picture, kind) in enumerate(zip(pictures, map(media_type, pictures), strict=True), 1)
            ]
            output = names.response_key(job.folder, job.label, run)
            try:
                body = json.dumps(response).encode()
                output_url = self._create(output, body, "application/json", nonce, patience)
                return Saved(tuple(upload.result() for upload in uploads), output_url)
            except _KeyTaken:
                continue
            finally:
                for upload in uploads:
                    upload.cancel()  # one has failed: those that have not begun need not
                wait(uploads)

    def _create(self, key: str, body: bytes, content_type: str, nonce: str, patience: Patience) -> str:
        """Create an object, unless it is there; its URL. Raises ``_KeyTaken`` when it is not this run's own."""

        def put() -> None:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                Metadata={_NONCE: nonce},
                IfNoneMatch="*",
            )

        try:
            patience(put)
        except ClientError as error:
            if status_of(error) != HTTPStatus.PRECONDITION_FAILED:
                raise
            # A write that is repeated because its answer was lost finds what it wrote.
            found = patience(lambda: self._s3.head_object(Bucket=self._bucket, Key=key))
            if found["Metadata"].get(_NONCE) != nonce:
                raise _KeyTaken from error
        return names.s3_url(self._bucket, key)

    def notify(self, job: JobReference, result: ResultRecord, patience: Patience, trace: Mapping[str, str]) -> None:
        """Tell the result topic what came of a job; ``trace`` are the attributes that continue its trace."""
        patience(lambda: publish(self._sns, self._topic, Notification.of(job, result), trace))

    def notify_running(self, job: Job, runtime: str, trace: Mapping[str, str]) -> None:
        """Tell the result topic that a runtime begins a job. It is told once or not at all: the job does not wait."""
        try:
            publish(self._sns, self._topic, Notification.running(job, runtime), trace)
        except AWS_ERRORS as error:
            log.warning("start not notified", extra={"reason": str(error)})


def publish(sns: SNSClient, topic: str, notification: Notification, trace: Mapping[str, str] = _NO_TRACE) -> None:
    """Tell the result topic; raises botocore's errors."""
    attributes: dict[str, MessageAttributeValueTypeDef] = {
        name: {"DataType": "String", "StringValue": value}
        for name, value in {**notification.attributes, **trace}.items()
    }
    sns.publish(TopicArn=topic, Message=notification.to_json(), MessageAttributes=attributes)
