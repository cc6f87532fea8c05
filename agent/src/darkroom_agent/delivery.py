"""What a job leaves behind: pictures and the engine's response in the output bucket, and the notification.

Objects are only ever created: a key that is taken makes a run of another name. It talks to S3 and SNS.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger
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
    from types_boto3_sns.type_defs import MessageAttributeValueTypeDef


log = getLogger(__name__)


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

    def save(self, job: Job, pictures: Sequence[bytes], response: dict[str, JsonValue], patience: Patience) -> Saved:
        """Save the pictures, then the engine's response."""
        while True:
            try:
                return self._save(job, pictures, response, patience, run=secrets.token_hex(2))
            except _KeyTaken:
                continue

    def _save(
        self, job: Job, pictures: Sequence[bytes], response: dict[str, JsonValue], patience: Patience, run: str
    ) -> Saved:
        def create(key: str, body: bytes, content_type: str) -> str:
            try:
                patience(
                    lambda: self._s3.put_object(
                        Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
                    )
                )
            except ClientError as error:
                if status_of(error) == 412:
                    raise _KeyTaken from error
                raise
            return names.s3_url(self._bucket, key)

        images = []
        for number, picture in enumerate(pictures, 1):
            kind = media_type(picture)
            key = names.picture_key(job.folder, job.label, run, number, kind.extension)
            images.append(create(key, picture, kind.name))
        output = create(
            names.response_key(job.folder, job.label, run), json.dumps(response).encode(), "application/json"
        )
        return Saved(tuple(images), output)

    def notify(self, job: JobReference, result: ResultRecord, patience: Patience) -> None:
        """Tell the result topic what came of a job."""
        patience(lambda: self._publish(Notification.of(job, result)))

    def notify_running(self, job: Job, runtime: str) -> None:
        """Tell the result topic that a runtime begins a job. It is told once or not at all: the job does not wait."""
        try:
            self._publish(Notification.running(job, runtime))
        except AWS_ERRORS as error:
            log.warning("start not notified", extra={"reason": str(error)})

    def _publish(self, notification: Notification) -> None:
        attributes: dict[str, MessageAttributeValueTypeDef] = {
            name: {"DataType": "String", "StringValue": value} for name, value in notification.attributes.items()
        }
        self._sns.publish(TopicArn=self._topic, Message=notification.to_json(), MessageAttributes=attributes)
