"""From the API to the runtime's queue: the registry, the topic, the subscription with its filter, the queues."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from pydantic import ValidationError

from darkroom.doctor.context import NAMESPACE, Context
from darkroom.doctor.finding import Finding, ok, wrong
from darkroom_contract.names import Bucket, registry_key
from darkroom_contract.registry import RegistryEntry

if TYPE_CHECKING:
    from types_boto3_sns.type_defs import SubscriptionTypeDef

_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


def registry(it: Context) -> Finding:
    """The runtime's entry, by which the API knows it."""
    bucket, key = it.names.bucket(Bucket.JOBS), registry_key(it.runtime)
    try:
        body = it.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except it.s3.exceptions.NoSuchKey:
        words = (
            f"the API does not know {it.runtime}: s3://{bucket}/{key} is not there, which comes last of what it needs"
        )
        return wrong(words, *_describe(it))
    except it.s3.exceptions.NoSuchBucket:
        return wrong(f"there is no bucket {bucket}", f"kubectl -n {NAMESPACE} describe storage")
    try:
        entry = RegistryEntry.model_validate_json(body, extra="ignore")
    except ValidationError:
        return wrong(f"s3://{bucket}/{key} is no entry of the registry", *_describe(it))
    if not entry.accepting:
        words = f"{it.runtime} takes no prompts (accepting is false), as one that is to be removed"
        return wrong(words, f"remove accepting: false from {it.folder}/runtimes/{it.runtime}/runtime.yaml, and push it")
    return ok("takes prompts")


def topic(it: Context) -> Finding:
    """The topic that every prompt goes through."""
    try:
        it.sns.get_topic_attributes(TopicArn=it.names.topic_arn(it.names.prompt_topic))
    except it.sns.exceptions.NotFoundException:
        return wrong(f"there is no topic {it.names.prompt_topic}", f"kubectl -n {NAMESPACE} describe promptapi")
    return ok(it.names.prompt_topic)


def subscription(it: Context) -> Finding:
    """The queue's subscription to the topic, and its filter, which has to let this runtime's prompts through alone."""
    queue = it.names.runtime_queue(it.runtime)
    try:
        found = subscribed(it, it.names.prompt_topic, it.names.queue_arn(queue))
    except it.sns.exceptions.NotFoundException:
        found = None
    if found is None:
        return wrong(f"the queue {queue} is not subscribed to {it.names.prompt_topic}", *_describe(it))
    arn = found["SubscriptionArn"]
    attributes = it.sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    policy = json.loads(attributes.get("FilterPolicy") or "{}")
    scope = attributes.get("FilterPolicyScope", "MessageAttributes")
    mend = f"aws sns unsubscribe --subscription-arn {arn} # the provider makes it again"
    if not policy:
        return wrong(f"the subscription of {queue} has no filter: it takes every runtime's prompts", mend)
    if scope != "MessageAttributes" or not _passes(policy, {"runtime": it.runtime}):
        return wrong(f"the filter of {queue} does not let prompts for {it.runtime} through: {json.dumps(policy)}", mend)
    return ok("its filter lets the runtime's prompts through")


def queue(it: Context) -> Finding:
    """The runtime's queue: that it is there, takes the topic's messages, and has its dead-letter queue."""
    name = it.names.runtime_queue(it.runtime)
    attributes = attributes_of(it, name)
    if attributes is None:
        return wrong(f"there is no queue {name}", *_describe(it))
    if not lets_send(attributes, it.names.queue_arn(name), it.names.topic_arn(it.names.prompt_topic)):
        command = f"kubectl -n {NAMESPACE} describe queuepolicies.sqs.aws.m.upbound.io"
        words = f"the policy of {name} does not let {it.names.prompt_topic} send: prompts go to the dead-letter queue"
        return wrong(words, command, *_describe(it))
    if it.names.queue_arn(it.names.dead_letter_queue(it.runtime)) not in attributes.get("RedrivePolicy", ""):
        return wrong(f"{name} does not move what fails to {it.names.dead_letter_queue(it.runtime)}", *_describe(it))
    return ok(f"{attributes['ApproximateNumberOfMessages']} waiting, {in_hand(attributes)} in hand")


def dead_letters(it: Context) -> Finding:
    """What the runtime gave up."""
    name = it.names.dead_letter_queue(it.runtime)
    attributes = attributes_of(it, name)
    if attributes is None:
        return wrong(f"there is no queue {name}", *_describe(it))
    if count := int(attributes["ApproximateNumberOfMessages"]) + in_hand(attributes):
        words = (
            f"{count} message{'s were' if count > 1 else ' was'} given up: see why, mend it, send back what is wanted"
        )
        return wrong(words, it.command(f"runtime redrive {it.runtime}"))
    return ok("none")


def attributes_of(it: Context, name: str) -> dict[str, str] | None:
    """What SQS says of a queue, or None when there is none."""
    try:
        return it.queue_attributes(name)
    except ClientError as error:
        if error.response["Error"]["Code"] in _NO_QUEUE:
            return None
        raise


def in_hand(attributes: dict[str, str]) -> int:
    """How many messages somebody has received and not deleted."""
    return int(attributes["ApproximateNumberOfMessagesNotVisible"])


def subscribed(it: Context, topic: str, endpoint: str) -> SubscriptionTypeDef | None:
    """The subscription of an endpoint to a topic, if it has one; raises botocore's errors."""
    pages = it.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=it.names.topic_arn(topic))
    return next((each for page in pages for each in page["Subscriptions"] if each["Endpoint"] == endpoint), None)


def lets_send(attributes: dict[str, str], queue_arn: str, topic_arn: str) -> bool:
    """Whether a queue's policy lets SNS bring it a topic's messages. Other conditions are passed over."""
    statements = _listed(json.loads(attributes.get("Policy") or "{}").get("Statement"))
    return any(
        each.get("Effect") == "Allow"
        and _matches("sns.amazonaws.com", _principals(each))
        and _matches("sqs:sendmessage", [action.lower() for action in _listed(each.get("Action"))])
        and _matches(queue_arn, _listed(each.get("Resource")))
        and _matches(topic_arn, list(_sources(each)) or ["*"])
        for each in statements
    )


def _principals(statement: dict[str, Any]) -> list[str]:
    principal = statement.get("Principal")
    return [str(principal)] if not isinstance(principal, dict) else _listed(principal.get("Service"))


def _sources(statement: dict[str, Any]) -> Iterator[str]:
    for tests in statement.get("Condition", {}).values():
        for name, values in tests.items():
            if name.lower() == "aws:sourcearn":
                yield from _listed(values)


def _matches(value: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _passes(policy: dict[str, Any], attributes: dict[str, str]) -> bool:
    """Whether SNS's filter lets a message with these attributes through, as far as it is made of names alone."""
    return all(
        any(_passes(each, attributes) for each in wanted) if name == "$or" else attributes.get(name) in wanted
        for name, wanted in policy.items()
    )


def _describe(it: Context) -> tuple[str, ...]:
    return (f"kubectl -n {NAMESPACE} describe modelruntime {it.runtime}",)
