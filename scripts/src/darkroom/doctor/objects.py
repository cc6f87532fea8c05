"""What is asked of objects of Kubernetes in more than one place. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from darkroom.kubectl import Object
from darkroom_contract.types import utcnow


def condition(item: Object, name: str) -> Object | None:
    """A condition of an object, if it has it."""
    return next((each for each in item.get("status", {}).get("conditions") or () if each["type"] == name), None)


def is_ready(pod: Object) -> bool:
    """Whether a pod's containers all answer."""
    return (condition(pod, "Ready") or {}).get("status") == "True"


def waits_for_node(pod: Object) -> bool:
    """Whether a pod has no node."""
    scheduled = condition(pod, "PodScheduled")
    return pod.get("status", {}).get("phase") == "Pending" and bool(scheduled and scheduled["status"] == "False")


def containers(pod: Object, *names: str) -> Iterator[Object]:
    """How it stands with a pod's containers, in the order in which they begin; all, or those of these names."""
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if not names or container["name"] in names:
            yield container


def age(timestamp: str | None) -> timedelta:
    """How long ago that was; no time where it is not known."""
    return utcnow() - datetime.fromisoformat(timestamp) if timestamp else timedelta(0)
