"""AWS's policy evaluation logic, as far as this project's documents use it. Pure.

For calls within one account: an explicit deny of any policy decides; else an identity policy has to allow the call, or
the resource's own policy to grant it to the principal, and a role's permissions boundary limits both. Source: IAM user
guide, "Policy evaluation logic", "IAM JSON policy elements reference" and "Permissions boundaries for IAM entities".

What the documents do not use is not evaluated but refused: an element, operator, context key, policy variable or kind
of principal that is not known raises ``UnsupportedPolicy``, so that nothing passes unseen.

Why own code: of the libraries on the package index, moto's access control ignores resources and conditions, IAMSpy and
Principal Mapper are not maintained, policyuniverse and parliament parse and lint but do not decide, and iam-ape and
sibyl pass over conditions that they do not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, TypeAlias

#: What a context key is in a request: one value, several for a multivalued key, None when the request lacks it.
Value: TypeAlias = str | tuple[str, ...] | None

_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"}
_OPERATOR = re.compile(r"(?:(ForAllValues|ForAnyValue):)?([A-Za-z]+?)(IfExists)?")


class UnsupportedPolicy(Exception):  # noqa: N818 - it says what the policy is
    """A policy has, or asks for, something that is not evaluated."""


class Decision(StrEnum):
    """What becomes of a call, and why."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "an explicit deny"
    IMPLICIT_DENY = "no policy allows it"
    OUTSIDE_BOUNDARY = "no permissions boundary allows it"


@dataclass(frozen=True)
class Call:
    """One action on one resource, as IAM sees it."""

    #: The ARN of a role, or the name of an AWS service.
    principal: str
    action: str
    #: ``*`` for an action that knows no resources.
    resource: str
    #: Every key that a condition may ask for.
    context: frozenset[tuple[str, Value]] = frozenset()

    @cached_property
    def keys(self) -> dict[str, Value]:
        """The context by the keys in lower case: IAM does not tell them apart."""
        return {key.lower(): value for key, value in self.context}


@dataclass(frozen=True)
class Policies:
    """The documents of one account, as texts."""

    #: By the role's ARN.
    identity: Mapping[str, str] = field(default_factory=dict)
    boundaries: Mapping[str, str] = field(default_factory=dict)
    #: By the ARN of the queue, topic, bucket or function; a role's is its trust policy.
    resource: Mapping[str, str] = field(default_factory=dict)

    def changed(self, kind: str, owner: str, document: str) -> Policies:
        """The same with another document; ``kind`` is the name of a field."""
        return replace(self, **{kind: {**getattr(self, kind), owner: document}})


def decide(call: Call, policies: Policies) -> Decision:
    """What AWS would say; raises ``UnsupportedPolicy``."""
    is_s3 = call.resource.split(":")[2:3] == ["s3"]
    owner = call.resource.partition("/")[0] if is_s3 else call.resource
    by_identity = _effects(policies.identity.get(call.principal), call)
    by_resource = _effects(policies.resource.get(owner), call, of_resource=True)
    boundary = policies.boundaries.get(call.principal)
    by_boundary = _effects(boundary, call)
    if "Deny" in by_identity | by_resource | by_boundary:
        return Decision.EXPLICIT_DENY
    if "Allow" not in by_identity | by_resource:
        return Decision.IMPLICIT_DENY
    if boundary is not None and "Allow" not in by_boundary:
        return Decision.OUTSIDE_BOUNDARY
    return Decision.ALLOWED


def _effects(document: str | None, call: Call, *, of_resource: bool = False) -> set[str]:
    """The effects of the statements that apply to a call."""
    statements = statements_of(document, of_resource=of_resource) if document is not None else ()
    return {statement.effect for statement in statements if statement.applies(call)}


@dataclass(frozen=True)
class Statement:
    """A statement whose every element is known."""

    effect: str
    actions: tuple[str, ...]
    negates_actions: bool
    #: None in a trust policy: the role itself.
    resources: tuple[str, ...] | None
    negates_resources: bool
    #: None in an identity policy: who has it. ``*`` for everyone.
    principals: frozenset[str] | None
    conditions: tuple[tuple[_Operator, str, tuple[str, ...]], ...]

    def applies(self, call: Call) -> bool:
        """Whether it speaks of a call; raises ``UnsupportedPolicy``."""
        return (
            (self.principals is None or not self.principals.isdisjoint((call.principal, "*")))
            and any(_is_like(action.lower(), call.action.lower()) for action in self.actions) != self.negates_actions
            and self._has_resource(call.resource)
            and all(operator.holds(call, key, values) for operator, key, values in self.conditions)
        )

    def _has_resource(self, arn: str) -> bool:
        if self.resources is None:
            return True
        return any(is_arn_like(pattern, arn) for pattern in self.resources) != self.negates_resources


@cache
def statements_of(document: str, *, of_resource: bool = False) -> tuple[Statement, ...]:
    """A document's statements; raises ``UnsupportedPolicy`` unless all of it is understood."""
    policy = json.loads(document)
    is_known = policy.keys() - {"Id"} == {"Version", "Statement"} and isinstance(policy["Statement"], list)
    if not is_known or policy["Version"] != "2012-10-17":
        raise UnsupportedPolicy(f"not a policy of version 2012-10-17: {document}")
    return tuple(_statement(raw, of_resource) for raw in policy["Statement"])


def _statement(raw: Mapping[str, Any], of_resource: bool) -> Statement:
    unknown = raw.keys() - _ELEMENTS
    if unknown or raw.get("Effect") not in ("Allow", "Deny") or ("Principal" in raw) is not of_resource:
        raise UnsupportedPolicy(f"a {'resource' if of_resource else 'identity'} policy with the statement {raw}")
    actions = _either(raw, "Action", "NotAction")
    resources = _either(raw, "Resource", "NotResource")
    if actions is None or (resources is None and not of_resource):
        raise UnsupportedPolicy(f"without action or resource: {raw}")
    if any(pattern != "*" and pattern.count(":") < 5 for pattern in resources or ()):
        raise UnsupportedPolicy(f"a resource that is no ARN: {raw}")
    return Statement(
        effect=raw["Effect"],
        actions=actions,
        negates_actions="NotAction" in raw,
        resources=resources,
        negates_resources="NotResource" in raw,
        principals=_principals(raw["Principal"], raw["Effect"]) if of_resource else None,
        conditions=tuple(
            (_Operator.parse(operator), key, _texts(values))
            for operator, block in raw.get("Condition", {}).items()
            for key, values in block.items()
        ),
    )


def _either(raw: Mapping[str, Any], name: str, negation: str) -> tuple[str, ...] | None:
    if name in raw and negation in raw:
        raise UnsupportedPolicy(f"both {name} and {negation}: {raw}")
    return _texts(raw[name] if name in raw else raw[negation]) if name in raw or negation in raw else None


def _texts(values: Any) -> tuple[str, ...]:
    """One text or a list of them, as a policy may have it."""
    texts = (values,) if isinstance(values, str) else tuple(values)
    if not texts or any(not isinstance(text, str) or "${" in text for text in texts):
        raise UnsupportedPolicy(f"neither text nor texts without variables: {values}")
    return texts


def _principals(raw: Any, effect: str) -> frozenset[str]:
    """The roles and services that a resource's policy names.

    Not an account, which would only let its identity policies decide, nor a role's session, which no boundary limits.
    """
    everyone = raw in ("*", {"AWS": "*"})
    if everyone and effect == "Deny":
        return frozenset("*")
    if everyone or not isinstance(raw, Mapping) or raw.keys() - {"AWS", "Service"}:
        raise UnsupportedPolicy(f"{effect} for the principal {raw}")
    roles, services = (_texts(raw[kind]) if kind in raw else () for kind in ("AWS", "Service"))
    if not all(re.fullmatch(r"arn:[^:*]+:iam::\d{12}:role/[^*]+", role) for role in roles):
        raise UnsupportedPolicy(f"{effect} for the principal {raw}")
    return frozenset(roles + services)


# Conditions


def _is_like(pattern: str, text: str) -> bool:
    return _wildcards(pattern).fullmatch(text) is not None


@cache
def _wildcards(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(character) or re.escape(character) for character in pattern), re.DOTALL)


def is_arn_like(pattern: str, arn: str) -> bool:
    """Whether an ARN is one of a pattern's: each of its six parts is compared by itself, with the case that it has."""
    if pattern == "*":
        return True
    patterns, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(patterns) == len(parts) and all(map(_is_like, patterns, parts))


_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, value: wanted == value,
    "StringLike": _is_like,
    "ArnEquals": is_arn_like,  # the two are the same
    "ArnLike": is_arn_like,
    "Bool": lambda wanted, value: wanted.lower() == value.lower(),
}


@dataclass(frozen=True)
class _Operator:
    name: str
    #: ForAllValues or ForAnyValue, of a multivalued key.
    quantifier: str | None
    if_exists: bool
    negated: bool

    @classmethod
    def parse(cls, text: str) -> _Operator:
        found = _OPERATOR.fullmatch(text)
        quantifier, name, if_exists = found.groups() if found else (None, "", None)
        negated = bool(re.match(r"(String|Arn)Not", name))
        name = name.replace("Not", "", 1) if negated else name
        is_known = name in _TESTS and not (quantifier and if_exists)
        if not is_known and text != "Null":
            raise UnsupportedPolicy(f"the condition operator {text}")
        return cls(name, quantifier, bool(if_exists), negated)

    def holds(self, call: Call, key: str, wanted: tuple[str, ...]) -> bool:
        """Whether a key of the context is as wanted; raises ``UnsupportedPolicy`` when nobody said what it is."""
        if key.lower() not in call.keys:
            raise UnsupportedPolicy(f"the condition key {key} for {call.action}")
        value = call.keys[key.lower()]
        if self.name == "Null":
            return (value is None) is (wanted == ("true",))
        if self.quantifier is None:
            if isinstance(value, tuple):
                raise UnsupportedPolicy(f"{self.name} of {key}, which has several values")
            return self.if_exists or self.negated if value is None else self._is_met(wanted, value)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        are_met: Iterator[bool] = (self._is_met(wanted, one) for one in values)
        return all(are_met) if self.quantifier == "ForAllValues" else any(are_met)

    def _is_met(self, wanted: tuple[str, ...], value: str) -> bool:
        return any(_TESTS[self.name](one, value) for one in wanted) != self.negated
