"""Policy documents, as IAM, SQS, SNS and S3 take them. Pure.

Always with a version (SQS hangs on documents without one), and canonical: equal documents are equal texts, so that
nothing is written to AWS that is there already.
"""

import json
from collections.abc import Sequence
from typing import TypeAlias

from pydantic import JsonValue

Statement: TypeAlias = dict[str, JsonValue]
Conditions: TypeAlias = dict[str, JsonValue]


def canonical_json(value: JsonValue) -> str:
    """Compact JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def document(*statements: Statement) -> str:
    """The text of a policy."""
    return canonical_json({"Version": "2012-10-17", "Statement": list(statements)})


def allow(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str] = (),
    *,
    service: str | None = None,
    conditions: Conditions | None = None,
) -> Statement:
    """A statement that allows actions on resources, to an AWS service or to who has the policy.

    A role's trust policy has no resources: the role itself is the resource.
    """
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions)}
    if resources:
        statement["Resource"] = list(resources)
    if service:
        statement["Principal"] = {"Service": service}
    if conditions:
        statement["Condition"] = conditions
    return statement


def deny_insecure_transport(action: str, resources: Sequence[str]) -> Statement:
    """A resource's statement that refuses every call without TLS."""
    return {
        "Sid": "DenyInsecureTransport",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": list(resources),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
