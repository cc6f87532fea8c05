"""The runtime's queue: receive, keep, give back, delete, dead-letter. It talks to SQS and to nothing else."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from darkroom_agent.lifecycle import repeating
from darkroom_agent.settings import Settings
from darkroom_contract.errors import JobError

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageAttributeValueTypeDef

log = getLogger(__name__)

#: SQS's limit, from the moment of the receive.
_LONGEST_VISIBILITY_SECONDS = 12 * 3600
#: SQS takes ten attributes a message.
_MOST_ATTRIBUTES = 10
_LONGEST_REASON = 1000
#: What SQS takes in an attribute (API reference of SendMessage); everything else is replaced.
_NOT_IN_SQS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class QueueMessage:
    """A message that this agent received, and until when SQS keeps it from other agents."""

    id: str
    body: str
    receipt: str
    receive_count: int
    trace_header: str | None
    attributes: dict[str, MessageAttributeValueOutputTypeDef]
    #: By this host's monotonic clock, from before SQS was asked: never later than SQS's own.
    held_until: float
    #: Set when SQS says that the receipt counts no more.
    is_lost: bool = field(default=False)

    @property
    def is_held(self) -> bool:
        """Whether no other agent can have got the message."""
        return not self.is_lost and time.monotonic() < self.held_until


class RuntimeQueue:
    """The queue of one runtime's jobs. Raises botocore's errors as they are, where it does not say otherwise."""

    def __init__(self, receiving: SQSClient, sqs: SQSClient, settings: Settings) -> None:
        """``receiving`` is for receives, which wait; ``sqs`` gives up before the visibility timeout is over."""
        self._receiving = receiving
        self._sqs = sqs
        self._url = settings.queue_url
        self._dead_letter_url = settings.dead_letter_queue_url
        self._runtime = settings.runtime_name
        self._visibility = settings.visibility_timeout_seconds
        self._wait = settings.receive_wait_seconds

    def receive(self) -> QueueMessage | None:
        """The next message, if one comes while the receive waits."""
        asked_at = time.monotonic()
        answer = self._receiving.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=self._wait,
            VisibilityTimeout=self._visibility,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "AWSTraceHeader"],
            MessageAttributeNames=["All"],
        )
        for message in answer.get("Messages", []):
            system = message.get("Attributes", {})
            return QueueMessage(
                id=message["MessageId"],
                body=message["Body"],
                receipt=message["ReceiptHandle"],
                receive_count=int(system.get("ApproximateReceiveCount", 1)),
                trace_header=system.get("AWSTraceHeader"),
                attributes=message.get("MessageAttributes", {}),
                held_until=asked_at + self._visibility,
            )
        return None

    @contextmanager
    def keeping(self, message: QueueMessage) -> Iterator[None]:
        """Keep a message from other agents for as long as the context lasts."""
        with repeating(self._visibility / 3, lambda: self._extend(message)):
            yield

    def _extend(self, message: QueueMessage) -> None:
        if message.is_lost:
            return
        asked_at = time.monotonic()
        try:
            self._change_visibility(message, self._visibility)
        except ClientError as error:
            if not _is_gone(error):
                raise
            message.is_lost = True
            log.warning("message lost", extra={"message_id": message.id})
        else:
            message.held_until = asked_at + self._visibility

    def release(self, message: QueueMessage, seconds: float) -> None:
        """Give a message back, to be received again after so many seconds."""
        try:
            self._change_visibility(message, min(math.ceil(seconds), _LONGEST_VISIBILITY_SECONDS))
        except ClientError as error:
            if not _is_gone(error):
                raise

    def delete(self, message: QueueMessage) -> None:
        """Take a message off the queue for good."""
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message.receipt)

    def dead_letter(self, message: QueueMessage, error: JobError) -> None:
        """Move a message to the dead-letter queue; the reason goes with it as message attributes."""
        reason = _NOT_IN_SQS.sub("\N{REPLACEMENT CHARACTER}", error.message)[:_LONGEST_REASON]
        attributes = {
            "darkroom-reason": _text(error.code),
            "darkroom-message": _text(reason or error.code),
            "darkroom-runtime": _text(self._runtime),
        }
        for name, value in message.attributes.items():
            if len(attributes) < _MOST_ATTRIBUTES and name not in attributes:
                attributes[name] = _copy(value)
        self._sqs.send_message(
            QueueUrl=self._dead_letter_url,
            MessageBody=message.body,
            MessageAttributes=attributes,
            MessageSystemAttributes={"AWSTraceHeader": _text(message.trace_header)} if message.trace_header else {},
        )
        self.delete(message)

    def _change_visibility(self, message: QueueMessage, seconds: int) -> None:
        self._sqs.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=message.receipt, VisibilityTimeout=seconds
        )


def _is_gone(error: ClientError) -> bool:
    """Whether SQS refuses the receipt: the message was deleted, or is no longer this agent's.

    The query protocol calls an expired receipt an ``InvalidParameterValue``.
    """
    code = error.response["Error"]["Code"].rpartition(".")[2]
    return code in ("MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidParameterValue")


def _text(value: str) -> MessageAttributeValueTypeDef:
    return {"DataType": "String", "StringValue": value}


def _copy(attribute: MessageAttributeValueOutputTypeDef) -> MessageAttributeValueTypeDef:
    """A received attribute as one to send."""
    if "BinaryValue" in attribute:
        return {"DataType": attribute["DataType"], "BinaryValue": attribute["BinaryValue"]}
    return {"DataType": attribute["DataType"], "StringValue": attribute.get("StringValue", "")}
