"""Who is told of jobs beside the cluster's own queue: the key ``subscribers`` of a cluster's description. Pure."""

import math
import re
from collections.abc import Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from darkroom_contract.names import Names
from darkroom_contract.types import Description, RuntimeName, SubscriberName, TenantName, distinct
from darkroom_contract.v1 import JobStatus

#: SNS developer guide, "Filter policy constraints": the product of the lists' lengths.
_MAX_FILTER_COMBINATIONS = 150


class Protocol(StrEnum):
    """How SNS delivers to a subscriber."""

    SQS = "sqs"
    HTTPS = "https"
    EMAIL = "email"


#: What an endpoint looks like, and how that is said.
_ENDPOINTS = {
    Protocol.SQS: (
        re.compile(r"arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,80}"),
        "the ARN of a queue that is not FIFO, arn:aws:sqs:<region>:<account>:<name>",
    ),
    Protocol.HTTPS: (
        re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?([/?][^\s@#]*)?"),
        "a URL that begins with https:// and has no user name or password in it",
    ),
    Protocol.EMAIL: (re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+"), "an e-mail address"),
}


class NotificationFilter(Description):
    """Which notifications a subscriber gets: those that have one of the values in every list that is not empty."""

    runtime: tuple[RuntimeName, ...] = ()
    status: tuple[
        Literal[JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED],
        ...,
    ] = ()
    """``running`` is told only of jobs whose client asked for it."""
    tenant: tuple[TenantName, ...] = ()

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        combinations = math.prod(len(values) for values in self.attributes.values())
        if combinations > _MAX_FILTER_COMBINATIONS:
            raise ValueError(
                f"the lengths of the lists multiplied make {combinations}; SNS takes {_MAX_FILTER_COMBINATIONS}"
            )
        return self

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """The values by the notification's SNS attributes, where there are any."""
        lists = {"runtime": self.runtime, "status": self.status, "tenant": self.tenant}
        return {name: tuple(values) for name, values in lists.items() if values}


class Subscriber(Description):
    """Somebody who is told of every job that ended."""

    name: SubscriberName
    protocol: Protocol
    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """A queue's ARN, an https:// URL or an e-mail address, as the protocol has it."""
    filter: NotificationFilter = NotificationFilter()
    """Every notification when absent."""
    raw: bool = False
    """Whether the notification comes as it is, and not within SNS's envelope. An e-mail has none anyway."""

    @model_validator(mode="after")
    def _fits_protocol(self) -> Self:
        pattern, words = _ENDPOINTS[self.protocol]
        if not pattern.fullmatch(self.endpoint):
            raise ValueError(f"endpoint: for the protocol {self.protocol} it is {words}")
        if self.raw and self.protocol is Protocol.EMAIL:
            raise ValueError("raw: SNS sends an e-mail without an envelope anyway; leave it out")
        return self


#: All of a cluster's. SNS has at most 200 filters for a topic, and one subscription for an endpoint.
Subscribers = Annotated[
    tuple[Subscriber, ...],
    Field(max_length=100),
    distinct("two subscribers have the same name", attrgetter("name")),
    distinct("two subscribers have the same endpoint; one filter may have several values", attrgetter("endpoint")),
]


def check_queues(subscribers: Sequence[Subscriber], names: Names) -> None:
    """Refuse, by a ``ValueError``, queues that the cluster cannot subscribe.

    A queue of another account only that account can subscribe (SNS developer guide, "Sending messages to an Amazon SQS
    queue in a different account").
    """
    for subscriber in subscribers:
        if subscriber.protocol is not Protocol.SQS:
            continue
        if subscriber.endpoint.split(":")[4] != names.account:
            raise ValueError(
                f"subscribers, {subscriber.name}: the endpoint is a queue of another account, which alone can "
                f"subscribe it; the cluster's is {names.account}"
            )
        if subscriber.endpoint == names.queue_arn(names.result_topic):
            raise ValueError(f"subscribers, {subscriber.name}: the cluster's own queue is subscribed already")
