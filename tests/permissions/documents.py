"""The policies that a cluster's compositions ask for, and those policies with one thing less. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from darkroom.cluster_files import ClusterFiles
from darkroom.local.composites import composites
from darkroom_contract.cluster import Cluster, Images
from darkroom_contract.names import Names
from darkroom_function import boundary, policy
from darkroom_function.apis import ClusterAccessSpec
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed
from tests.compositions.provider import Provider
from tests.compositions.specs import IMAGE, raw
from tests.permissions.evaluator import Policies


def composed_resources(files: ClusterFiles) -> list[Managed]:
    """Everything that a cluster's composites ask for."""
    specs = [(composite["kind"], composite["spec"]) for composite in composites(files, Images(api=IMAGE))]
    specs.append(("ClusterAccess", raw(ClusterAccessSpec.of(files.cluster))))
    return [
        item.resource
        for kind, spec in specs
        for item in Provider(kind, spec).settle().resources.values()
        if isinstance(item.resource, Managed)
    ]


def policies_of(cluster: Cluster, resources: Iterable[Managed]) -> Policies:
    """The documents in a cluster's resources, and the boundaries that its roles name."""
    names = cluster.names
    boundaries = boundary.documents(cluster)
    identity: dict[str, str] = {}
    bounds: dict[str, str] = {}
    resource: dict[str, str] = {}
    for item in resources:
        spec: dict[str, Any] = item.for_provider
        match item.kind:
            case Kind.ROLE:
                arn = names.role_arn(str(item.external_name))
                resource[arn] = spec["assumeRolePolicy"]
                bounds[arn] = boundaries[spec["permissionsBoundary"].rpartition("/")[2]]
            case Kind.ROLE_POLICY:
                identity[names.role_arn(spec["role"])] = spec["policy"]
            case Kind.TOPIC_POLICY:
                resource[spec["arn"]] = spec["policy"]
            case Kind.QUEUE_POLICY:
                resource[names.queue_arn(spec["queueUrl"].rpartition("/")[2])] = spec["policy"]
            case Kind.BUCKET_POLICY:
                resource[names.bucket_arn(spec["bucket"])] = spec["policy"]
            case Kind.PERMISSION:
                resource[names.api_function_arn] = _function_policy(names, spec)
    return Policies(identity, bounds, resource)


def _function_policy(names: Names, permission: dict[str, Any]) -> str:
    """What Lambda makes of a permission: a statement of the function's policy."""
    statement = policy.allow(
        permission["statementId"],
        [permission["action"]],
        [names.api_function_arn],
        service=permission["principal"],
        conditions={"ArnLike": {"AWS:SourceArn": permission["sourceArn"]}},
    )
    return policy.document(statement)


def without(document: str, sid: str) -> str:
    """A document without one of its statements."""
    statements = json.loads(document)["Statement"]
    (left_out,) = (statement for statement in statements if statement["Sid"] == sid)
    return policy.document(*(statement for statement in statements if statement is not left_out))


@dataclass(frozen=True)
class Lessened:
    """The policies with one thing taken out of them."""

    what: str
    policies: Policies


def lessened(policies: Policies, kind: str, owner: str) -> Iterator[Lessened]:
    """A document's every statement, action, resource and condition, each taken out by itself."""
    statements = json.loads(getattr(policies, kind)[owner])["Statement"]
    for number, statement in enumerate(statements):
        for what, less in _less(statement):
            document = policy.document(*statements[:number], *less, *statements[number + 1 :])
            name = f"{owner.rpartition(':')[2]} {kind} {statement['Sid']}"
            yield Lessened(f"{name}{what}", policies.changed(kind, owner, document))


def _less(statement: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield "", []
    for element in ("Action", "Resource"):
        values = statement.get(element, [])
        if isinstance(values, list) and len(values) > 1:
            for value in values:
                yield f" {value}", [{**statement, element: [other for other in values if other != value]}]
    for operator, block in statement.get("Condition", {}).items():
        for key in block:
            rest = {other: value for other, value in block.items() if other != key}
            conditions = {**statement["Condition"], operator: rest}
            yield f" {key}", [{**statement, "Condition": conditions}]
