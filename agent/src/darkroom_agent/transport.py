"""The runtime's queue: receive, keep, give back, delete, dead-letter. It talks to SQS and to nothing else."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging import getLogger
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from darkroom_agent.aws import AWS_ERRORS
from darkroom_agent.clock import Clock
from darkroom_agent.metrics import Metrics
from darkroom_agent.settings import Settings
from darkroom_contract.errors import JobError

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import (
        MessageAttributeValueOutputTypeDef,
        MessageAttributeValueTypeDef,
        MessageTypeDef,
    )

log = getLogger(__name__)

#: SQS keeps a message for twelve hours in all, however often that is extended; a minute for the clocks.
_LONGEST_VISIBILITY_SECONDS = 12 * 3600 - 60
#: SQS takes ten attributes a message.
_MOST_ATTRIBUTES = 10
_LONGEST_REASON = 1000
#: What SQS takes in an attribute (API reference of SendMessage); everything else is replaced.
_NOT_IN_SQS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(eq=False)
class QueueMessage:
    """A message that this agent received, and until when SQS keeps it from other agents."""

    id: str
    body: str
    receipt: str
    receive_count: int
    sent_at: datetime | None
    trace_header: str | None
    attributes: dict[str, MessageAttributeValueOutputTypeDef]
    clock: Clock = field(repr=False)
    #: All times by this clock. From before SQS was asked: never later than SQS's own.
    received_at: float
    held_until: float
    #: Set when SQS says that the receipt counts no more.
    is_gone: bool = False
    #: Set when the agent is about to give the message back: no heartbeat may hide it again.
    is_ending: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether another agent may have got the message. It stays so, whatever a late extension answers."""
        return self.is_gone or self.clock.now() >= self.held_until


class RuntimeQueue:
    """The queue of one runtime's jobs. Raises botocore's errors as they are, where it does not say otherwise."""

    def __init__(
        self,
        receiving: SQSClient,
        sqs: SQSClient,
        keeping: SQSClient,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """``receiving`` waits; ``sqs``, and ``keeping`` of the heartbeat, give up before the visibility is over."""
        self._receiving = receiving
        self._sqs = sqs
        self._keeping = keeping
        self._clock = clock
        self._metrics = metrics
        #: Of the runtime's queue.
        self.url = settings.queue_url
        self._dead_letter_url = settings.dead_letter_queue_url
        self._runtime = settings.runtime_name
        self._visibility = settings.visibility_timeout_seconds
        self._wait = settings.receive_wait_seconds
        self._extending = threading.Lock()
        #: How often ``keep`` is to be called, at least.
        self.heartbeat_seconds = min(1.0, self._visibility / 6)

    def receive(self, most: int) -> list[QueueMessage]:
        """Up to ``most`` messages (SQS gives ten at once), if any come while the receive waits."""
        asked_at = self._clock.now()
        answer = self._receiving.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=min(most, 10),
            WaitTimeSeconds=self._wait,
            VisibilityTimeout=self._visibility,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "AWSTraceHeader", "SentTimestamp"],
            MessageAttributeNames=["All"],
        )
        return [self._received(message, asked_at) for message in answer.get("Messages", [])]

    def _received(self, message: MessageTypeDef, asked_at: float) -> QueueMessage:
        system = message.get("Attributes", {})
        sent = system.get("SentTimestamp")
        return QueueMessage(
            id=message["MessageId"],
            body=message["Body"],
            receipt=message["ReceiptHandle"],
            receive_count=int(system.get("ApproximateReceiveCount", 1)),
            sent_at=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
            trace_header=system.get("AWSTraceHeader"),
            attributes=message.get("MessageAttributes", {}),
            clock=self._clock,
            received_at=self._clock.now(),
            held_until=asked_at + self._visibility,
        )

    def keep(self, messages: Sequence[QueueMessage]) -> None:
        """Keep those messages from other agents whose hold is a third over. For the heartbeat's thread alone."""
        now = self._clock.now()
        due = [one for one in messages if not one.is_lost and one.held_until - now <= self._visibility * 2 / 3]
        for start in range(0, len(due), 10):
            with self._extending:
                if held := [one for one in due[start : start + 10] if not one.is_ending]:
                    self._extend(held)

    def _extend(self, messages: Sequence[QueueMessage]) -> None:
        asked_at = self._clock.now()
        until = [min(asked_at + self._visibility, one.received_at + _LONGEST_VISIBILITY_SECONDS) for one in messages]
        try:
            answer = self._keeping.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(n), "ReceiptHandle": one.receipt, "VisibilityTimeout": max(0, int(until[n] - asked_at))}
                    for n, one in enumerate(messages)
                ],
            )
        except AWS_ERRORS as error:
            log.warning("messages not kept", extra={"messages": len(messages), "reason": str(error)})
            for _ in messages:
                self._metrics.extended(ok=False)
            return
        for entry in answer.get("Successful", []):
            message = messages[int(entry["Id"])]
            if not message.is_lost:
                message.held_until = until[int(entry["Id"])]
            self._metrics.extended(ok=True)
        for failure in answer.get("Failed", []):
            message = messages[int(failure["Id"])]
            self._metrics.extended(ok=False)
            if _is_gone(failure["Code"]):
                message.is_gone = True
                log.warning("message lost", extra={"message_id": message.id})
            else:
                log.warning("message not kept", extra={"message_id": message.id, "reason": failure["Code"]})

    def release(self, message: QueueMessage, seconds: float) -> None:
        """Give a message back, to be received again after so many seconds."""
        message.is_ending = True
        with self._extending:
            pass  # a heartbeat that is on its way would hide the message again
        try:
            self._sqs.change_message_visibility(
                QueueUrl=self.url,
                ReceiptHandle=message.receipt,
                VisibilityTimeout=min(math.ceil(seconds), _LONGEST_VISIBILITY_SECONDS),
            )
        except ClientError as error:
            if not _is_gone(error.response["Error"]["Code"]):
                raise

    def delete(self, message: QueueMessage) -> None:
        """Take a message off the queue for good."""
        message.is_ending = True
        self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)

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


def _is_gone(code: str) -> bool:
    """Whether SQS says that a receipt counts no more: the message was deleted, or is no longer this agent's.

    The query protocol calls an expired receipt an ``InvalidParameterValue``.
    """
    return code.rpartition(".")[2] in ("MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidParameterValue")


def _text(value: str) -> MessageAttributeValueTypeDef:
    return {"DataType": "String", "StringValue": value}


def _copy(attribute: MessageAttributeValueOutputTypeDef) -> MessageAttributeValueTypeDef:
    """A received attribute as one to send."""
    if "BinaryValue" in attribute:
        return {"DataType": attribute["DataType"], "BinaryValue": attribute["BinaryValue"]}
    return {"DataType": attribute["DataType"], "StringValue": attribute.get("StringValue", "")}
