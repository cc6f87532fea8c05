"""The AWS clients, and patience with AWS when there is a finished picture to deliver."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING, Self, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from darkroom_agent.errors import AwsUnavailableError
from darkroom_agent.lifecycle import Lifecycle

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient

log = getLogger(__name__)

#: Anything that an AWS call raises.
AWS_ERRORS = (BotoCoreError, ClientError)

_PATIENCE_SECONDS = 300
_LONGEST_PAUSE_SECONDS = 15
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Clients:
    """The clients of the agent. They may be shared by threads."""

    sqs: SQSClient
    sns: SNSClient
    s3: S3Client

    @classmethod
    def create(cls) -> Self:
        """Clients as the AWS SDK's own environment has it."""
        # A receive waits up to 20 seconds; a heartbeat should not hang much longer.
        config = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
        session = boto3.Session()
        return cls(
            sqs=session.client("sqs", config=config),
            sns=session.client("sns", config=config),
            s3=session.client("s3", config=config),
        )


def status_of(error: BotoCoreError | ClientError) -> int | None:
    """The HTTP status that AWS answered with; None when there was no answer."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(error, ClientError) else None


@dataclass(frozen=True)
class Patience:
    """Repeats AWS calls for minutes, while the message is held and the agent has time."""

    lifecycle: Lifecycle
    is_held: Callable[[], bool]

    def __call__(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call until it succeeds; raises ``AwsUnavailableError`` when that takes too long.

        A conditional write that finds its object there (412) is an answer, not a trouble: the error is raised as it is.
        """
        give_up = time.monotonic() + _PATIENCE_SECONDS
        pause = 0.5
        while True:
            self.lifecycle.beat()
            try:
                return call()
            except AWS_ERRORS as error:
                if status_of(error) == 412:
                    raise
                log.warning("AWS call failed", extra={"reason": str(error)})
                if time.monotonic() >= give_up or not self.is_held() or self.lifecycle.is_out_of_time:
                    raise AwsUnavailableError("AWS did not take the job's result") from error
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
