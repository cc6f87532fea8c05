"""What the provider does with a managed resource, over and over: look, create, change, delete. It calls AWS.

It words what went wrong as crossplane-runtime and upjet do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from darkroom.local.kinds import (
    apigateway,
    cloudwatch,
    ec2,
    efs,
    eks,
    events,
    functions,
    iam,
    logs,
    s3,
    sns,
    sqs,
)
from darkroom.local.kinds.external import External, Managed, Observation, Refused

KINDS: Mapping[str, External] = {
    kind: external
    for service in (apigateway, cloudwatch, ec2, efs, eks, events, functions, iam, logs, s3, sns, sqs)
    for kind, external in service.KINDS.items()
}

#: What a provider may do with a resource.
EVERYTHING = frozenset({"Observe", "Create", "Update", "Delete"})

_ABSENT = re.compile(r"NotFound|NoSuch|NonExistent|DoesNotExist")
_T = TypeVar("_T")


class Failed(Exception):  # noqa: N818 - it says what happened
    """What was asked for could not be done; the message says what, and why."""

    def __init__(self, message: str, observed: Observation | None = None) -> None:
        super().__init__(message)
        #: What AWS has, as far as it is known.
        self.observed = observed


def immutable_fields(kind: str) -> frozenset[str]:
    """What AWS cannot change of the external resources of a kind."""
    return KINDS[kind].immutable | {"region"}


def apply(it: Managed, may: Collection[str] = EVERYTHING) -> tuple[str, Observation]:
    """See that AWS has the resource as it is asked for; its external name and what AWS has. Raises ``Failed``."""
    external = KINDS[it.kind]
    found = observe(it)
    if found is None:
        if "Create" not in may:
            raise Failed("observe failed: external resource does not exist")
        it = replace(it, external_name=_try("create", lambda: external.create(it)), observed={})
    else:
        it = replace(it, observed=found)
        if it.region != found.get("region"):
            _refuse_replacing(it, ["region"])
        changed = _try("observe", lambda: external.differences(it))
        if not changed or "Update" not in may:
            return it.external_name, found
        _refuse_replacing(it, changed)
        _try("update", lambda: external.update(it), found)
    return it.external_name, observe(it) or {}


def observe(it: Managed) -> Observation | None:
    """What AWS has of a resource; None when it has nothing. Raises ``Failed``."""
    external = KINDS[it.kind]
    if not it.external_name and not external.named and not external.addressed:
        return None
    it = _where_it_is(it)
    found = _try("observe", lambda: _unless_absent(lambda: external.observe(it)))
    place = {"region": it.region} if it.region else {}
    return None if found is None else {**place, **found}


def delete(it: Managed) -> None:
    """See that AWS does not have the resource; it may never have had it. Raises ``Failed``."""
    if observe(it) is not None:
        it = _where_it_is(it)
        _try("delete", lambda: _unless_absent(lambda: KINDS[it.kind].delete(it)))


def _where_it_is(it: Managed) -> Managed:
    """The resource as it was when it was looked at last, as far as AWS cannot change it."""
    fixed = {field: it.observed[field] for field in immutable_fields(it.kind) if it.observed.get(field) is not None}
    return replace(it, spec={**it.spec, **fixed})


def _refuse_replacing(it: Managed, changed: Collection[str]) -> None:
    for field in sorted(immutable_fields(it.kind) & set(changed)):
        old, new = it.observed.get(field), it.spec.get(field)
        message = (
            "update failed: refuse to update the external resource because the following update requires replacing it: "
            f'cannot change the value of the argument "{field}" from "{old}" to "{new}"'
        )
        raise Failed(message, it.observed)


def _try(what: str, call: Callable[[], _T], observed: Observation | None = None) -> _T:
    try:
        return call()
    except (BotoCoreError, ClientError, Refused) as error:
        raise Failed(f"{what} failed: {error}", observed) from error


def _unless_absent(call: Callable[[], _T]) -> _T | None:
    try:
        return call()
    except ClientError as error:
        answer: Any = error.response
        if answer["ResponseMetadata"]["HTTPStatusCode"] == 404 or _ABSENT.search(answer["Error"]["Code"]):
            return None
        raise
