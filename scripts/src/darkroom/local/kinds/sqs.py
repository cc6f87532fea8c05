"""SQS: queues, their policies, where their dead letters go."""

from __future__ import annotations

import threading
from typing import Any

from darkroom.local.kinds.external import External, Managed, Observation, Remembered, Setting

#: The fields of a queue that are numbers, and what SQS calls them.
_NUMBERS = {
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "maxMessageSize": "MaximumMessageSize",
    "delaySeconds": "DelaySeconds",
}

#: One at a time: each write has what others wrote before it.
_writing = threading.Lock()


class _Queue(External):
    immutable = frozenset({"name"})

    def observe(self, it: Managed) -> Observation:
        found = _attributes(it, it.external_name)
        return {
            "id": it.external_name,
            "url": it.external_name,
            "arn": found["QueueArn"],
            "name": found["QueueArn"].rpartition(":")[2],
            "sqsManagedSseEnabled": found.get("SqsManagedSseEnabled", "false") == "true",
            **{name: int(found[attribute]) for name, attribute in _NUMBERS.items()},
        }

    def create(self, it: Managed) -> str:
        url: str = it.client("sqs").create_queue(QueueName=it.spec["name"], Attributes=self._wanted(it))["QueueUrl"]
        return url

    def update(self, it: Managed) -> None:
        _set(it, it.external_name, self._wanted(it))

    def delete(self, it: Managed) -> None:
        it.client("sqs").delete_queue(QueueUrl=it.external_name)

    @staticmethod
    def _wanted(it: Managed) -> dict[str, str]:
        numbers = {attribute: f"{it.spec[name]:.0f}" for name, attribute in _NUMBERS.items() if name in it.spec}
        encrypted = it.spec.get("sqsManagedSseEnabled")
        return numbers if encrypted is None else {**numbers, "SqsManagedSseEnabled": str(encrypted).lower()}


def _attributes(it: Managed, url: str) -> dict[str, str]:
    found: dict[str, str] = it.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return found


def _set(it: Managed, url: str, attributes: dict[str, str]) -> None:
    """Set attributes. The emulator forgets a queue's policy unless it is told anew each time."""
    with _writing:
        policy = _attributes(it, url).get("Policy")
        kept = {"Policy": policy} if policy else {}
        it.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={**kept, **attributes})


def _document(field: str) -> Setting:
    """A JSON document that is an attribute of a queue."""
    attribute = field[0].upper() + field[1:]

    def get(it: Managed, url: str) -> dict[str, Any] | None:
        found = _attributes(it, url).get(attribute)
        return {field: found} if found else None

    return Setting(
        "queueUrl",
        get,
        lambda it, url: _set(it, url, {attribute: it.spec[field]}),
        lambda it, url: _set(it, url, {attribute: ""}),
    )


KINDS: dict[str, External] = {
    "Queue": _Queue(),
    "QueuePolicy": _document("policy"),
    # The emulator does not show it.
    "QueueRedriveAllowPolicy": Remembered(frozenset({"queueUrl"}), lambda it: str(it.spec["queueUrl"])),
    "QueueRedrivePolicy": _document("redrivePolicy"),
}
