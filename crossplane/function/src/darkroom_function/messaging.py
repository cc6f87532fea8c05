"""Topics, queues and subscriptions. Pure.

What SNS and SQS may do is said in policies of their own kinds (TopicPolicy, QueuePolicy): a policy within a Topic or a
Queue is rewritten without end (provider-upjet-aws#1356).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from darkroom_contract.names import Names
from darkroom_contract.subscribers import Subscriber
from darkroom_function import policy
from darkroom_function.apis import GROUP, SubscriberState
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed, Observed, Owner, at_provider, is_ready, keyed
from darkroom_function.policy import Statement, canonical_json

#: The longest that SQS keeps a message: a queue may have to wait for GPUs, a dead letter for people.
_RETENTION_SECONDS = 14 * 24 * 60 * 60
#: SNS takes no larger message.
_MAX_MESSAGE_BYTES = 256 * 1024
_LONG_POLL_SECONDS = 20
#: SQS's own: long enough to deal with a notification or an event.
_SQS_VISIBILITY_TIMEOUT_SECONDS = 30

#: Says of a subscription whose it is. It stays when the subscriber moves or gets another name.
SUBSCRIBER_LABEL = f"{GROUP}/subscriber"


def topic(owner: Owner, names: Names, key: str, name: str) -> list[Managed]:
    """A topic that takes messages over TLS only. Who may publish, the publishers' own policies say."""
    arn = names.topic_arn(name)
    # SNS refuses "sns:*" in a topic's policy; publishing is what carries data.
    only_tls = policy.document(policy.deny_insecure_transport("sns:Publish", [arn]))
    return [
        owner.managed(Kind.TOPIC, key, {}, external_name=name),
        owner.managed(Kind.TOPIC_POLICY, f"{key}-policy", {"arn": arn, "policy": only_tls}),
    ]


def queue(
    owner: Owner,
    names: Names,
    key: str,
    name: str,
    *,
    topic: str,
    visibility_timeout_seconds: int = _SQS_VISIBILITY_TIMEOUT_SECONDS,
) -> list[Managed]:
    """A queue, encrypted with SQS's own key, that takes a topic's messages, and is used over TLS only."""
    deliver = policy.allow(
        "AllowTopic",
        ["sqs:SendMessage"],
        [names.queue_arn(name)],
        service="sns.amazonaws.com",
        conditions={"ArnEquals": {"aws:SourceArn": names.topic_arn(topic)}},
    )
    return _queue(owner, names, key, name, deliver, _RETENTION_SECONDS, visibility_timeout_seconds)


def event_queue(
    owner: Owner, names: Names, key: str, name: str, *, rules: Sequence[str], retention_seconds: int
) -> list[Managed]:
    """A queue like any other, that takes what EventBridge's rules of these names match."""
    deliver = policy.allow(
        "AllowRules",
        ["sqs:SendMessage"],
        [names.queue_arn(name)],
        service="events.amazonaws.com",
        conditions={"ArnEquals": {"aws:SourceArn": [names.event_rule_arn(rule) for rule in rules]}},
    )
    return _queue(owner, names, key, name, deliver, retention_seconds, _SQS_VISIBILITY_TIMEOUT_SECONDS)


def _queue(
    owner: Owner,
    names: Names,
    key: str,
    name: str,
    deliver: Statement,
    retention_seconds: int,
    visibility_timeout_seconds: int,
) -> list[Managed]:
    arn = names.queue_arn(name)
    return [
        owner.managed(
            Kind.QUEUE,
            key,
            {
                "name": name,
                "visibilityTimeoutSeconds": visibility_timeout_seconds,
                "messageRetentionSeconds": retention_seconds,
                "receiveWaitTimeSeconds": _LONG_POLL_SECONDS,
                "maxMessageSize": _MAX_MESSAGE_BYTES,
                "sqsManagedSseEnabled": True,
            },
        ),
        owner.managed(
            Kind.QUEUE_POLICY,
            f"{key}-policy",
            {
                "queueUrl": names.queue_url(name),
                "policy": policy.document(deliver, policy.deny_insecure_transport("sqs:*", [arn])),
            },
        ),
    ]


def redrive(owner: Owner, names: Names, name: str, dead_letters: str, *, max_receive_count: int) -> list[Managed]:
    """Let a queue, and no other, move messages to its dead-letter queue after so many receives."""
    return [
        owner.managed(
            Kind.QUEUE_REDRIVE_ALLOW_POLICY,
            "redrive-allow-policy",
            {
                "queueUrl": names.queue_url(dead_letters),
                "redriveAllowPolicy": canonical_json(
                    {"redrivePermission": "byQueue", "sourceQueueArns": [names.queue_arn(name)]}
                ),
            },
        ),
        owner.managed(
            Kind.QUEUE_REDRIVE_POLICY,
            "redrive-policy",
            {
                "queueUrl": names.queue_url(name),
                "redrivePolicy": canonical_json(
                    {"deadLetterTargetArn": names.queue_arn(dead_letters), "maxReceiveCount": max_receive_count}
                ),
            },
        ),
    ]


def subscription(
    owner: Owner,
    names: Names,
    key: str,
    *,
    topic: str,
    queue: str,
    attributes: JsonValue = None,
    dead_letters: str | None = None,
) -> Managed:
    """A queue's subscription to a topic: to every message, or to those whose attributes pass the filter.

    Raw: the message's body is the queue message's, its attributes are the queue message's attributes, and X-Ray's
    trace goes on (``AWSTraceHeader``). What SNS cannot deliver goes to ``dead_letters``.
    """
    for_provider: dict[str, JsonValue] = {
        "topicArn": names.topic_arn(topic),
        "protocol": "sqs",
        "endpoint": names.queue_arn(queue),
        "rawMessageDelivery": True,
    }
    for_provider |= _filtered_by(attributes)
    if dead_letters is not None:
        for_provider["redrivePolicy"] = canonical_json({"deadLetterTargetArn": names.queue_arn(dead_letters)})
    return owner.managed(Kind.TOPIC_SUBSCRIPTION, key, for_provider)


def subscribers(
    owner: Owner, names: Names, topic: str, subscribers: Sequence[Subscriber], observed: Observed
) -> Iterator[Managed]:
    """Subscriptions for those whose endpoints are none of the cluster's; nothing waits for them.

    A subscriber that moved keeps its old subscription until it has confirmed the new one. SNS gives up on a
    subscription that is not confirmed after 48 hours, and the provider asks for it again.
    """
    keys = {_subscriber_key(subscriber) for subscriber in subscribers}
    for subscriber in subscribers:
        yield _subscribed(owner, names, topic, subscriber)
        if subscription_state(subscriber, observed) is not SubscriberState.CONFIRMED:
            yield from (_before(owner, key, observed) for key in _keys_of(subscriber, observed) if key not in keys)


def _subscribed(owner: Owner, names: Names, topic: str, subscriber: Subscriber) -> Managed:
    attributes: dict[str, JsonValue] = {name: [*values] for name, values in subscriber.filter.attributes.items()}
    return owner.managed(
        Kind.TOPIC_SUBSCRIPTION,
        _subscriber_key(subscriber),
        {
            "topicArn": names.topic_arn(topic),
            "protocol": subscriber.protocol.value,
            "endpoint": subscriber.endpoint,
            "rawMessageDelivery": subscriber.raw,
            **_filtered_by(attributes or None),
        },
        awaited=False,
        labels={SUBSCRIBER_LABEL: subscriber.name},
    )


def _before(owner: Owner, key: str, observed: Observed) -> Managed:
    """A subscription as it is, label and all: by that it is known again."""
    labels = {SUBSCRIBER_LABEL: _label(observed[key])}
    return owner.kept(Kind.TOPIC_SUBSCRIPTION, key, observed).model_copy(update={"awaited": False, "labels": labels})


def _keys_of(subscriber: Subscriber, observed: Observed) -> list[str]:
    """The keys of a subscriber's subscriptions, now and before."""
    return sorted(key for key, item in observed.items() if _label(item) == subscriber.name)


def _label(item: Mapping[str, Any]) -> str | None:
    label: str | None = item.get("metadata", {}).get("labels", {}).get(SUBSCRIBER_LABEL)
    return label


def subscription_state(subscriber: Subscriber, observed: Observed) -> SubscriberState:
    """How it stands with the subscription of a subscriber."""
    key = _subscriber_key(subscriber)
    if not is_ready(observed, key):
        return SubscriberState.MISSING
    return SubscriberState.PENDING if at_provider(observed, key, "pendingConfirmation") else SubscriberState.CONFIRMED


def _subscriber_key(subscriber: Subscriber) -> str:
    """Without the name: SNS has one subscription for an endpoint, and it would go with the object of the old name."""
    return keyed("subscriber", subscriber.protocol, subscriber.endpoint)


def _filtered_by(attributes: JsonValue) -> dict[str, JsonValue]:
    if attributes is None:
        return {}
    return {"filterPolicyScope": "MessageAttributes", "filterPolicy": canonical_json(attributes)}


def is_filtered(observed: Observed, key: str, attributes: JsonValue) -> bool:
    """Whether a subscription is observed to have this filter, in whatever words SNS gives it back."""
    known = at_provider(observed, key, "filterPolicy")
    try:
        return known is not None and bool(json.loads(known) == attributes)
    except ValueError:
        return False
