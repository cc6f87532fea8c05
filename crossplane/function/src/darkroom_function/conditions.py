"""What a composite says of its resources, in conditions beside Crossplane's own ``Synced`` and ``Ready``. Pure.

Conditions rather than results: a result is an event every time that Crossplane asks, a condition is written when it
changes. So a message stays as it is for as long as nothing changes.

Of a resource that is left out they say nothing: Crossplane forgets it together with deleting it, and does not show it
again, whether AWS lets it go or not.
"""

import re
from collections.abc import Mapping
from typing import Any

from crossplane.function.resource import Condition

from darkroom_function.gateway import API_KEY, api_key_secret
from darkroom_function.kinds import Kind
from darkroom_function.managed import Composed, Managed, Observed, Usage

#: False while AWS, or the provider, refuses something; the message says what and why.
SYNCED = "ResourcesSynced"
#: False while something is waited for; the message says for what.
READY = "ResourcesReady"
#: Why nothing is changed, as reasons of ``READY``: the spec is wrong, or the function is.
INVALID, DEFECT = "Invalid", "Defect"

_MAX_PROBLEMS = 5
_MAX_KEYS = 10
_MAX_CHARACTERS = 300
#: The provider's conditions that say what is wrong, the most telling first. An operation that AWS takes minutes for
#: fails in LastAsyncOperation.
_TELLING = ("Synced", "LastAsyncOperation", "Ready")
#: What is another with every attempt, in the messages of AWS.
_PASSING = re.compile(r",?\s*\b(?:request|host)[ _-]?id:\s*[^\s,]*|encoded authorization failure message: \S+", re.I)
#: The provider's words (upjet) for what AWS can only replace, and for a reference to what is not there yet.
_CANNOT_CHANGE = "cannot change the value of the argument"
_DEPENDS = "cannot resolve references"


def of(composed: Composed[Any], observed: Observed) -> list[Condition]:
    """The conditions of a composite."""
    return [_synced(composed, observed), _ready(composed)]


def nothing_changed(reason: str, problem: str) -> Condition:
    """The condition of a composite that cannot be composed: ``INVALID`` or ``DEFECT``."""
    return Condition(READY, "False", reason, problem)


def _synced(composed: Composed[Any], observed: Observed) -> Condition:
    problems = _problems(composed, observed)
    # What depends on a refused resource is no news beside it.
    told = {key: message for key, message in problems.items() if _DEPENDS not in message} or problems
    if not told:
        return Condition(SYNCED, "True", "NothingRefused")
    messages = [f"{key} ({composed.resources[key].resource.kind}): {message}" for key, message in told.items()]
    return Condition(SYNCED, "False", "Refused", _some(messages, _MAX_PROBLEMS, "; "))


def _ready(composed: Composed[Any]) -> Condition:
    if composed.ready:
        return Condition(READY, "True", "Available")
    if composed.problem:
        return Condition(READY, "False", "Wrong", composed.problem)
    waited_for = [key for key, entry in composed.resources.items() if entry.resource.awaited and not entry.ready]
    if waited_for:
        return Condition(READY, "False", "Waiting", f"waiting for {_some(waited_for, _MAX_KEYS, ', ')}")
    return Condition(READY, "False", "Waiting", "waiting until what was changed is observed in AWS")


def _problems(composed: Composed[Any], observed: Observed) -> dict[str, str]:
    """What is wrong with each resource with which something is."""
    found = ((key, _problem(entry.resource, observed.get(key, {}))) for key, entry in composed.resources.items())
    return {key: problem for key, problem in found if problem}


def _problem(resource: Managed | Usage, observed: Mapping[str, Any]) -> str | None:
    conditions = {condition.get("type"): condition for condition in observed.get("status", {}).get("conditions", ())}
    for kind in _TELLING:
        condition = conditions.get(kind, {})
        message = condition.get("message", "")
        if condition.get("status") == "False" and (message or kind == "Synced"):
            reason = str(condition.get("reason", "refused"))
            return _lasting(_in_our_words(resource, reason, message) or message) or reason
    return None


def _in_our_words(resource: Managed | Usage, reason: str, message: str) -> str | None:
    """What to do, where the words of AWS and the provider do not say it. Theirs of a key would have its value, too."""
    if reason == "ReconcilePaused":
        return "is paused (annotation crossplane.io/paused)"
    if resource.kind is Kind.API_KEY and _CANNOT_CHANGE in message:
        name = resource.key.removeprefix(f"{API_KEY}.")
        return (
            f"The key {name} cannot change. "
            f"Add another field to Secret {api_key_secret(name.partition('.')[0])}, and list it in keys"
        )
    if resource.kind is Kind.TOPIC_SUBSCRIPTION and "Topic does not exist" in message:
        return "the topic does not exist yet: the PromptApi of the cluster makes it"
    return None


def _lasting(message: str) -> str:
    text = " ".join(_PASSING.sub("", message).split())
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _some(items: list[str], limit: int, separator: str) -> str:
    more = len(items) - limit
    return separator.join([*items[:limit], *([f"{more} more"] if more > 0 else [])])
