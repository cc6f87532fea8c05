"""SNS: topics, their policies, subscriptions."""

from __future__ import annotations

import json
from typing import Any

from darkroom.local.kinds.external import External, Managed, Observation, Setting


class _Topic(External):
    named = True

    def observe(self, it: Managed) -> Observation:
        attributes = it.client("sns").get_topic_attributes(TopicArn=_topic_arn(it))["Attributes"]
        return {"id": attributes["TopicArn"], "arn": attributes["TopicArn"], "owner": attributes["Owner"]}

    def create(self, it: Managed) -> str:
        it.client("sns").create_topic(Name=it.external_name)
        return it.external_name

    def delete(self, it: Managed) -> None:
        it.client("sns").delete_topic(TopicArn=_topic_arn(it))


def _topic_arn(topic: Managed) -> str:
    return topic.arn("sns", topic.external_name)


def _get_policy(it: Managed, arn: str) -> Observation | None:
    # A topic always has a policy: SNS makes one when there is none. Whether this one is there, its mark says.
    policy = it.client("sns").get_topic_attributes(TopicArn=arn)["Attributes"].get("Policy")
    return {"policy": policy} if policy and '"__default_statement_ID"' not in policy else None


def _put_policy(it: Managed, arn: str) -> None:
    it.client("sns").set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=it.spec["policy"])


def _drop_policy(it: Managed, arn: str) -> None:
    """As Terraform does: back to what SNS gives a topic when it is created."""
    owner = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [f"SNS:{action}" for action in ("GetTopicAttributes", "SetTopicAttributes", "Subscribe", "Publish")],
        "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": it.aws.account}},
    }
    document = {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [owner]}
    it.client("sns").set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=json.dumps(document))


class _Subscription(External):
    immutable = frozenset({"topicArn", "protocol", "endpoint"})
    defaults = {"filterPolicy": None, "redrivePolicy": None, "rawMessageDelivery": False}

    def observe(self, it: Managed) -> Observation:
        found = it.client("sns").get_subscription_attributes(SubscriptionArn=it.external_name)["Attributes"]
        return {
            "id": it.external_name,
            "arn": it.external_name,
            "topicArn": found["TopicArn"],
            "protocol": found["Protocol"],
            "endpoint": found["Endpoint"],
            "rawMessageDelivery": found.get("RawMessageDelivery", "false").lower() == "true",
            "filterPolicy": _document(found.get("FilterPolicy")),
            "filterPolicyScope": found.get("FilterPolicyScope"),
            "redrivePolicy": _document(found.get("RedrivePolicy")),
            "pendingConfirmation": found.get("PendingConfirmation", "false") == "true",
        }

    def create(self, it: Managed) -> str:
        arn: str = it.client("sns").subscribe(
            TopicArn=it.spec["topicArn"],
            Protocol=it.spec["protocol"],
            Endpoint=it.spec["endpoint"],
            Attributes={name: value for name, value in self._attributes(it).items() if value},
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]
        return arn

    def update(self, it: Managed) -> None:
        attributes = self._attributes(it)
        for name in self.differences(it):
            attribute = name[0].upper() + name[1:]
            it.client("sns").set_subscription_attributes(
                SubscriptionArn=it.external_name, AttributeName=attribute, AttributeValue=attributes[attribute]
            )

    def delete(self, it: Managed) -> None:
        it.client("sns").unsubscribe(SubscriptionArn=it.external_name)

    @staticmethod
    def _attributes(it: Managed) -> dict[str, str]:
        """The attributes as SNS takes them; one that is empty is one that is taken away."""
        return {
            "RawMessageDelivery": json.dumps(it.spec.get("rawMessageDelivery", False)),
            "FilterPolicyScope": it.spec.get("filterPolicyScope", ""),
            "FilterPolicy": it.spec.get("filterPolicy", ""),
            "RedrivePolicy": it.spec.get("redrivePolicy", ""),
        }


def _document(text: Any) -> str | None:
    return text if text and text != "{}" else None


KINDS: dict[str, External] = {
    "Topic": _Topic(),
    "TopicPolicy": Setting("arn", _get_policy, _put_policy, _drop_policy),
    "TopicSubscription": _Subscription(),
}
