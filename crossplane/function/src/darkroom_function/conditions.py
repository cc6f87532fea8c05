"""What a composite says of its resources, in conditions beside Crossplane's own ``Synced`` and ``Ready``. Pure.

Conditions rather than results: a result is an event every time that Crossplane asks, a condition is written when it
changes. So a message stays as it is for as long as nothing changes.

Of a resource that is left out they say nothing: Crossplane forgets it together with deleting it, and does not show it
again, whether AWS lets it go or not.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from crossplane.function.resource import Condition

from darkroom_function.managed import Composed, Observed

#: False while AWS, or the provider, refuses something; the message says what and why.
SYNCED = "ResourcesSynced"
#: False while something is waited for; the message says for what.
READY = "ResourcesReady"

_MAX_PROBLEMS = 5
_MAX_KEYS = 10
_MAX_CHARACTERS = 300
#: The provider's conditions that say what is wrong, the most telling first. An operation that AWS takes minutes for
#: fails in LastAsyncOperation.
_TELLING = ("Synced", "LastAsyncOperation", "Ready")
#: What is another with every attempt, in the messages of AWS.
_PASSING = re.compile(r",?\s*\b(?:request|host)[ _-]?id:\s*[^\s,]*|encoded authorization failure message: \S+", re.I)


def of(composed: Composed[Any], observed: Observed) -> list[Condition]:
    """The conditions of a composite."""
    return [_synced(composed, observed), _ready(composed)]


def _synced(composed: Composed[Any], observed: Observed) -> Condition:
    problems = list(_problems(composed, observed))
    if not problems:
        return Condition(SYNCED, "True", "NothingRefused")
    return Condition(SYNCED, "False", "Refused", _some(problems, _MAX_PROBLEMS, "; "))


def _ready(composed: Composed[Any]) -> Condition:
    if composed.ready:
        return Condition(READY, "True", "Available")
    if composed.problem:
        return Condition(READY, "False", "Wrong", composed.problem)
    waited_for = [key for key, entry in composed.resources.items() if entry.resource.awaited and not entry.ready]
    if waited_for:
        return Condition(READY, "False", "Waiting", f"waiting for {_some(waited_for, _MAX_KEYS, ', ')}")
    return Condition(READY, "False", "Waiting", "waiting until what was changed is observed in AWS")


def _problems(composed: Composed[Any], observed: Observed) -> Iterator[str]:
    for key, entry in composed.resources.items():
        message = _problem(observed.get(key, {}))
        if message:
            yield f"{key} ({entry.resource.kind}): {message}"


def _problem(resource: Mapping[str, Any]) -> str | None:
    conditions = {condition.get("type"): condition for condition in resource.get("status", {}).get("conditions", ())}
    for kind in _TELLING:
        condition = conditions.get(kind, {})
        message = _lasting(condition.get("message", ""))
        if condition.get("status") == "False" and (message or kind == "Synced"):
            return message or str(condition.get("reason", "refused"))
    return None


def _lasting(message: str) -> str:
    text = " ".join(_PASSING.sub("", message).split())
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _some(items: list[str], limit: int, separator: str) -> str:
    more = len(items) - limit
    return separator.join([*items[:limit], *([f"{more} more"] if more > 0 else [])])
