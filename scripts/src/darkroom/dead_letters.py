"""The dead letters of a runtime: what they are and why, and sending them back to be run again.

It talks to SQS and S3, and does each step so that a crash after it loses nothing and a second run goes on: the failed
result is archived, the starts are reset, the message is sent, the dead letter is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import boto3

from darkroom_contract.job import JobReference
from darkroom_contract.message import ClaimedReference, NotAMessage, receive
from darkroom_contract.names import Bucket, Names
from darkroom_contract.store import JobStore, StateConflict
from darkroom_contract.types import utcnow
from darkroom_contract.v1 import JobStatus

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageTypeDef

#: What the agent adds to a message that it moves to the dead-letter queue.
_OWN_ATTRIBUTES = "darkroom-"
#: SQS's limit for one receive, and for one batch.
_BATCH = 10
#: A receive that waits asks all of SQS's servers: when it brings nothing, there is nothing.
_WAIT_SECONDS = 1


class Outcome(StrEnum):
    """What became of a dead letter that was to be sent back."""

    SENT = "sent back"
    TOLD = "sent back: its job has ended, and that is told once more"
    REFUSED = "sent back: it is not its job's own message, and will be refused again"
    UNSENT = "left: it is not its job's own message, and would be refused again"
    BUSY = "left: somebody else is at the job; look again later"

    @property
    def is_sent(self) -> bool:
        """Whether it is on the runtime's queue."""
        return self in (Outcome.SENT, Outcome.TOLD, Outcome.REFUSED)


@dataclass(frozen=True)
class DeadLetter:
    """A message in the dead-letter queue."""

    message_id: str
    receipt: str
    body: str
    attributes: dict[str, MessageAttributeValueOutputTypeDef]
    trace_header: str | None
    sent_at: datetime
    receives: int
    #: The job that it is; None for poison, which is no job.
    job: JobReference | None

    @classmethod
    def of(cls, message: MessageTypeDef) -> Self:
        """A dead letter as it was received."""
        system = message.get("Attributes", {})
        return cls(
            message_id=message["MessageId"],
            receipt=message["ReceiptHandle"],
            body=message["Body"],
            attributes=message.get("MessageAttributes", {}),
            trace_header=system.get("AWSTraceHeader"),
            sent_at=datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC),
            receives=int(system["ApproximateReceiveCount"]),
            job=_job_of(message["Body"], message["MessageId"]),
        )

    @property
    def job_id(self) -> str | None:
        """The id of its job; None also where a message's id was the job's, since every move changes that."""
        return self.job.job_id if self.job and self.job.job_id != self.message_id else None

    @property
    def id(self) -> str:
        """What it is chosen by: its job's id, or else its message's."""
        return self.job_id or self.message_id

    def told(self, name: str) -> str | None:
        """What the agent said of it: ``reason``, ``message`` or ``runtime``. Nothing if it was SQS that moved it."""
        attribute = self.attributes.get(_OWN_ATTRIBUTES + name)
        return attribute.get("StringValue") if attribute else None

    @property
    def age_seconds(self) -> int:
        """How long ago it came to the queue."""
        return max(0, int((utcnow() - self.sent_at).total_seconds()))

    def describe(self) -> dict[str, Any]:
        """It as JSON, without its content."""
        code, message = self.told("reason"), self.told("message")
        return {
            "id": self.id,
            "message_id": self.message_id,
            "job_id": self.job_id,
            "tenant": self.job.tenant if self.job else None,
            "label": self.job.label if self.job else None,
            "runtime": self.told("runtime"),
            "reason": {"code": code, "message": message} if code else None,
            "sent_at": self.sent_at.isoformat(timespec="seconds"),
            "age_seconds": self.age_seconds,
            "receives": self.receives,
        }


class DeadLetterQueue:
    """The dead-letter queue of one runtime. Raises botocore's errors as they are.

    ``endpoint_url`` is where its AWS is; None for where the session finds it.
    """

    def __init__(self, session: boto3.Session, names: Names, runtime: str, endpoint_url: str | None = None) -> None:
        self._sqs: SQSClient = session.client("sqs", endpoint_url=endpoint_url)
        self._url = names.queue_url(names.dead_letter_queue(runtime))
        self._runtime_url = names.queue_url(names.runtime_queue(runtime))
        self._store = JobStore(session.client("s3", endpoint_url=endpoint_url), names.bucket(Bucket.JOBS))
        self._deleted: set[str] = set()

    @contextmanager
    def holding(self, seconds: int) -> Iterator[list[DeadLetter]]:
        """All dead letters, hidden from others while the context lasts, but no longer than so.

        What is left of them at the end is seen again at once; after so many seconds, if the process was killed.
        """
        letters: dict[str, DeadLetter] = {}
        try:
            while batch := self._receive(seconds):
                were_known = all(letter.message_id in letters for letter in batch)
                letters |= {letter.message_id: letter for letter in batch}
                if were_known:  # their time was over, and they came again
                    break
            yield list(letters.values())
        finally:
            self._give_back([letter for letter in letters.values() if letter.message_id not in self._deleted])

    def send_back(self, letter: DeadLetter, *, even_poison: bool) -> Outcome:
        """Let the runtime have a held dead letter again, unless its job is at work.

        ``even_poison``: also one that the agent will refuse, because it names a job whose message it is not.
        """
        outcome = _reopened(self._store, letter.job) if letter.job and letter.job_id else Outcome.SENT
        if outcome is Outcome.REFUSED and not even_poison:
            outcome = Outcome.UNSENT
        if not outcome.is_sent:
            return outcome
        self._sqs.send_message(
            QueueUrl=self._runtime_url,
            MessageBody=letter.body,
            MessageAttributes={
                name: value for name, value in letter.attributes.items() if not name.startswith(_OWN_ATTRIBUTES)
            },
            MessageSystemAttributes=(
                {"AWSTraceHeader": {"DataType": "String", "StringValue": letter.trace_header}}
                if letter.trace_header
                else {}
            ),
        )
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=letter.receipt)
        self._deleted.add(letter.message_id)
        return outcome

    def _receive(self, seconds: int) -> list[DeadLetter]:
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=_WAIT_SECONDS,
            VisibilityTimeout=seconds,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "AWSTraceHeader", "SentTimestamp"],
            MessageAttributeNames=["All"],
        )
        return [DeadLetter.of(message) for message in answer.get("Messages", [])]

    def _give_back(self, letters: Sequence[DeadLetter]) -> None:
        for start in range(0, len(letters), _BATCH):
            self._sqs.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": letter.receipt, "VisibilityTimeout": 0}
                    for number, letter in enumerate(letters[start : start + _BATCH])
                ],
            )


def _reopened(store: JobStore, job: JobReference) -> Outcome:
    """Let a failed job be run as if it were new; ``SENT`` when it may be, or when nothing is kept of it.

    ``TOLD`` when it ended otherwise: the agent then tells its stored result, which may be what had failed.
    ``REFUSED`` when the message is not the one of the job that it names: whoever may publish may name any job.
    """
    request = store.request(job.tenant, job.job_id)
    if isinstance(job, ClaimedReference):
        if request is None or request.nonce != job.nonce:
            return Outcome.REFUSED
    elif request is not None:  # the id of a message that came past the API is that of one of the API's jobs
        return Outcome.SENT
    try:
        return _reset(store, job)
    except StateConflict:
        return Outcome.BUSY


def _reset(store: JobStore, job: JobReference) -> Outcome:
    result = store.result(job.tenant, job.job_id)
    found = store.state(job.tenant, job.job_id)
    now = utcnow()
    if result is None:
        if found and found[0].lease_until > now:
            return Outcome.BUSY
    elif result.status is JobStatus.FAILED:
        store.archive_result(job.tenant, job.job_id, result.nonce)
    else:
        return Outcome.TOLD
    if found:
        state, etag = found
        # Another holder, so that an agent that still believes to have the job learns that it has not.
        changes = {"starts": 0, "holder": "redrive", "lease_until": min(state.lease_until, now), "updated_at": now}
        cleared = state.model_copy(update={**changes, "progress": 0.0, "last_error": None})
        store.put_state(job.tenant, job.job_id, cleared, etag)
    return Outcome.SENT


def _job_of(body: str, message_id: str) -> JobReference | None:
    """The job that a message is, or was to be."""
    try:
        received = receive(body, message_id)
        return received.message.reference or received.message.to_job(received.message_id)
    except NotAMessage as error:
        return error.reference
