"""Who is told of jobs beside the cluster's own queue: the key ``subscribers`` of a cluster's description. Pure."""

import math
import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from darkroom_contract.names import Names
from darkroom_contract.rules import rule, rules, within
from darkroom_contract.types import Description, Label, distinct
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
_NO_RAW_EMAIL = "SNS sends an e-mail without an envelope anyway; leave it out"
_SAME_ENDPOINT = "two subscribers have the same endpoint; one filter may have several values"


def _endpoint_words(protocol: Protocol) -> str:
    return f"for the protocol {protocol} it is {_ENDPOINTS[protocol][1]}"


_RULES = rules(
    *(
        rule(
            f"self.protocol != '{protocol}' || self.endpoint.matches(r'^{pattern.pattern}$')",
            _endpoint_words(protocol),
            ".endpoint",
        )
        for protocol, (pattern, _) in _ENDPOINTS.items()
    ),
    rule("!self.raw || self.protocol != 'email'", _NO_RAW_EMAIL, ".raw"),
)


class NotificationFilter(Description):
    """Which notifications a subscriber gets: those that have one of the values in every list that is not empty."""

    runtime: Annotated[tuple[Label, ...], Field(max_length=_MAX_FILTER_COMBINATIONS)] = ()
    """Names of runtimes; every runtime when empty. The lengths of the three lists multiplied make at most 150."""
    status: tuple[
        Literal[JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED],
        ...,
    ] = ()
    """What became of the job; anything when empty. ``running`` is told only of jobs whose client asked for it."""
    tenant: Annotated[tuple[Label, ...], Field(max_length=_MAX_FILTER_COMBINATIONS)] = ()
    """Names of the cluster's tenants; every tenant when empty."""

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

    model_config = ConfigDict(json_schema_extra=_RULES)

    name: Label
    """What it is called in the status: at most 32 lower-case letters, digits and hyphens. No two have the same."""
    protocol: Protocol
    """How SNS delivers to it."""
    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """A queue's ARN, an https:// URL or an e-mail address, as the protocol has it. No two have the same."""
    filter: NotificationFilter = NotificationFilter()
    """Every notification when absent."""
    raw: bool = False
    """Whether the notification comes as it is, and not within SNS's envelope. An e-mail has none anyway."""

    @model_validator(mode="after")
    def _fits_protocol(self) -> Self:
        if not _ENDPOINTS[self.protocol][0].fullmatch(self.endpoint):
            raise within("endpoint", _endpoint_words(self.protocol))
        if self.raw and self.protocol is Protocol.EMAIL:
            raise within("raw", _NO_RAW_EMAIL)
        return self


#: All of a cluster's. SNS has at most 200 filters for a topic, and one subscription for an endpoint.
Subscribers = Annotated[
    tuple[Subscriber, ...],
    Field(
        max_length=100,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            **rules(rule("self.all(one, self.exists_one(other, other.endpoint == one.endpoint))", _SAME_ENDPOINT)),
        },
    ),
    distinct("two subscribers have the same name", attrgetter("name")),
    distinct(_SAME_ENDPOINT, attrgetter("endpoint")),
]


_ANOTHER_ACCOUNT = "a queue of another account than the cluster's, which alone can subscribe it"
_OWN_QUEUE = "the cluster's own queue is subscribed already"
_NO_TENANT = "the cluster has no such tenant"

#: What ``check_subscribers`` refuses, for the schema of what has ``subscribers`` and a ``cluster``. Not the tenants:
#: to compare all of them for all the subscribers costs three times what the API server allows a rule.
REACHABLE_QUEUES = (
    rule(
        "self.subscribers.all(one, one.protocol != 'sqs' || one.endpoint.contains(':' + self.cluster.account + ':'))",
        f"the endpoint is {_ANOTHER_ACCOUNT}",
        ".subscribers",
    ),
    rule(
        "!self.subscribers.exists(one, one.endpoint.endsWith("
        "':sqs:' + self.cluster.region + ':' + self.cluster.account + ':' + self.cluster.name + '-results'))",
        _OWN_QUEUE,
        ".subscribers",
    ),
)


def check_subscribers(subscribers: Sequence[Subscriber], tenants: Collection[str], names: Names) -> None:
    """Refuse queues that the cluster cannot subscribe, and filters by a tenant (of these names) that there is not.

    A queue of another account only that account can subscribe (SNS developer guide, "Sending messages to an Amazon SQS
    queue in a different account").
    """
    for index, subscriber in enumerate(subscribers):
        place = f"subscribers[{index}]"
        if subscriber.protocol is Protocol.SQS and subscriber.endpoint.split(":")[4] != names.account:
            raise within(f"{place}.endpoint", f"{_ANOTHER_ACCOUNT}, {names.account}")
        if subscriber.endpoint == names.queue_arn(names.result_topic):
            raise within(f"{place}.endpoint", _OWN_QUEUE)
        for number, tenant in enumerate(subscriber.filter.tenant):
            if tenant not in tenants:
                raise within(f"{place}.filter.tenant[{number}]", f"{_NO_TENANT}, {tenant}")
