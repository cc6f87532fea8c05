"""The AWS clients, and patience with AWS when there is a finished picture to deliver."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING, Any, Self, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from darkroom_agent.errors import AwsUnavailableError
from darkroom_agent.lifecycle import Lifecycle

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from types_boto3_s3 import S3Client
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient

log = getLogger(__name__)

#: Anything that an AWS call raises.
AWS_ERRORS = (BotoCoreError, ClientError)

_PATIENCE_SECONDS = 300
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
#: Codes that come with 400, and yet say nothing against the request: throttling, timeouts, credentials, keys.
_PASSING = re.compile("Thrott|Timeout|Expired|Token|LimitExceeded|IncompleteBody|KMS|SlowDown")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Clients:
    """The clients of the agent. They may be shared by threads."""

    sqs: SQSClient
    sns: SNSClient
    s3: S3Client
    #: For holds on jobs and messages: they give up long before a lease or a visibility timeout is over.
    brief_s3: S3Client
    brief_sqs: SQSClient
    #: The heartbeat's own connections: nothing else can keep it waiting.
    heartbeat_sqs: SQSClient

    @classmethod
    def create(cls) -> Self:
        """Clients as the AWS SDK's own environment has it."""
        # The SDK itself reads AWS_DEFAULT_REGION only.
        session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
        patient, brief = _config(read_seconds=30, attempts=3), _config(read_seconds=5, attempts=2)
        return cls(
            sqs=session.client("sqs", config=patient),
            sns=session.client("sns", config=patient),
            s3=session.client("s3", config=patient),
            brief_s3=session.client("s3", config=brief),
            brief_sqs=session.client("sqs", config=brief),
            heartbeat_sqs=session.client("sqs", config=brief),
        )

    def __iter__(self) -> Iterator[BaseClient]:
        return iter(vars(self).values())


def _config(*, read_seconds: float, attempts: int) -> Config:
    """A receive alone may take 20 seconds to read."""
    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    return Config(
        connect_timeout=5,
        read_timeout=read_seconds,
        retries=retries,
        max_pool_connections=32,  # as many as there are threads: none waits for another's
        parameter_validation=False,  # the types are checked before; AWS checks the values
    )


def status_of(error: BotoCoreError | ClientError) -> int | None:
    """The HTTP status that AWS answered with; None when there was no answer."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(error, ClientError) else None


def is_passing(error: BotoCoreError | ClientError) -> bool:
    """Whether an error says nothing against the request: no answer, AWS's own fault, throttling, credentials, keys."""
    status = status_of(error)
    return (
        not isinstance(error, ClientError)
        or status is None
        or status >= 500
        or bool(_PASSING.search(error.response["Error"]["Code"]))
    )


def _is_refusal(error: BotoCoreError | ClientError) -> bool:
    """Whether AWS will never take the call: it calls the request itself wrong.

    What is missing or forbidden (403, 404) may be an outage, or set up a little late.
    """
    is_wrong = isinstance(error, ClientError) and "AccessDenied" not in error.response["Error"]["Code"]
    return is_wrong and status_of(error) in (400, 413) and not is_passing(error)


@dataclass(frozen=True)
class Patience:
    """Repeats AWS calls for minutes, while that makes sense and the agent has time."""

    lifecycle: Lifecycle
    #: Whether the job is still the agent's to deliver.
    is_held: Callable[[], bool]

    def __call__(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call until it succeeds; raises ``AwsUnavailableError`` when that takes too long, or never will.

        A conditional write that finds its object there (412) is an answer, not a trouble: the error is raised as it is.
        """
        clock = self.lifecycle.clock
        give_up = clock.now() + _PATIENCE_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return call()
            except AWS_ERRORS as error:
                if status_of(error) == 412:
                    raise
                log.warning("AWS call failed", extra={"reason": str(error), "may_pass": not _is_refusal(error)})
                if _is_refusal(error) or clock.now() >= give_up or not self._may_wait:
                    raise AwsUnavailableError("AWS did not take the job's result") from error
            clock.sleep(min(pause, max(0.0, self.lifecycle.seconds_left)))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    @property
    def _may_wait(self) -> bool:
        return self.is_held() and not self.lifecycle.is_out_of_time
