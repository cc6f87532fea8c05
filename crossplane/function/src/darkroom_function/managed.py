"""Managed resources: what a composition asks Crossplane's AWS provider for, and what was observed of it. Pure.

A composition names its resources by *keys*, unique within the composite; the object's own name in Kubernetes is
``<owner>.<key>``. An owner is unique within its namespace and has no dot, so that no two objects get the same name.

The provider refuses, for ever, to change what AWS can only replace. Where that may change, it is part of the key
(``keyed``): the composition asks for another resource, and leaves the one before it out in its own time.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import JsonValue

from darkroom_contract.types import Description, Model

#: What Crossplane observed: the composed objects, whole, by their keys.
Observed: TypeAlias = Mapping[str, Mapping[str, Any]]

#: Not LateInitialize: it copies into an object what AWS has beside it. A Queue would take over its QueueRedrivePolicy's
#: document that way, and set it back when that changes; a quota that is dropped would come back. But without it the
#: provider keeps the names that AWS assigns in its memory alone: see ``_ASSIGNED_NAMES``.
_MANAGEMENT_POLICIES = ["Observe", "Create", "Update", "Delete"]


class Kind(StrEnum):
    """The kinds of managed resources that the compositions use."""

    TOPIC = "Topic"
    TOPIC_POLICY = "TopicPolicy"
    TOPIC_SUBSCRIPTION = "TopicSubscription"
    QUEUE = "Queue"
    QUEUE_POLICY = "QueuePolicy"
    QUEUE_REDRIVE_POLICY = "QueueRedrivePolicy"
    QUEUE_REDRIVE_ALLOW_POLICY = "QueueRedriveAllowPolicy"
    BUCKET = "Bucket"
    BUCKET_PUBLIC_ACCESS_BLOCK = "BucketPublicAccessBlock"
    BUCKET_OWNERSHIP_CONTROLS = "BucketOwnershipControls"
    BUCKET_ENCRYPTION = "BucketServerSideEncryptionConfiguration"
    BUCKET_POLICY = "BucketPolicy"
    BUCKET_LIFECYCLE = "BucketLifecycleConfiguration"
    BUCKET_VERSIONING = "BucketVersioning"
    OBJECT = "Object"
    ROLE = "Role"
    ROLE_POLICY = "RolePolicy"
    ROLE_POLICY_ATTACHMENT = "RolePolicyAttachment"
    INSTANCE_PROFILE = "InstanceProfile"
    POD_IDENTITY_ASSOCIATION = "PodIdentityAssociation"
    ACCESS_ENTRY = "AccessEntry"
    RULE = "Rule"
    TARGET = "Target"
    LOG_GROUP = "Group"
    FUNCTION = "Function"
    PERMISSION = "Permission"
    REST_API = "RestAPI"
    DEPLOYMENT = "Deployment"
    STAGE = "Stage"
    METHOD_SETTINGS = "MethodSettings"
    API_KEY = "APIKey"
    USAGE_PLAN = "UsagePlan"
    USAGE_PLAN_KEY = "UsagePlanKey"
    METRIC_ALARM = "MetricAlarm"
    FILE_SYSTEM = "FileSystem"
    ACCESS_POINT = "AccessPoint"
    MOUNT_TARGET = "MountTarget"
    SECURITY_GROUP = "SecurityGroup"
    SECURITY_GROUP_INGRESS_RULE = "SecurityGroupIngressRule"

    @property
    def api_version(self) -> str:
        """The kind's API group and version."""
        return f"{self.group}/v1beta1"

    @property
    def group(self) -> str:
        """The kind's API group."""
        return f"{self.service}.aws.m.upbound.io"

    @property
    def service(self) -> str:
        """The member of the provider's family that the kind belongs to."""
        return _SERVICES[self]

    @property
    def crd(self) -> str:
        """The name of the kind's CustomResourceDefinition."""
        singular = re.sub(r"(?<=[^aeiou])y$", "ie", self.value.lower())
        return f"{singular.removesuffix('s')}s.{self.group}"


_SERVICES = {
    kind: service
    for service, kinds in {
        "sns": (Kind.TOPIC, Kind.TOPIC_POLICY, Kind.TOPIC_SUBSCRIPTION),
        "sqs": (Kind.QUEUE, Kind.QUEUE_POLICY, Kind.QUEUE_REDRIVE_POLICY, Kind.QUEUE_REDRIVE_ALLOW_POLICY),
        "s3": (
            Kind.BUCKET,
            Kind.BUCKET_PUBLIC_ACCESS_BLOCK,
            Kind.BUCKET_OWNERSHIP_CONTROLS,
            Kind.BUCKET_ENCRYPTION,
            Kind.BUCKET_POLICY,
            Kind.BUCKET_LIFECYCLE,
            Kind.BUCKET_VERSIONING,
            Kind.OBJECT,
        ),
        "iam": (Kind.ROLE, Kind.ROLE_POLICY, Kind.ROLE_POLICY_ATTACHMENT, Kind.INSTANCE_PROFILE),
        "eks": (Kind.POD_IDENTITY_ASSOCIATION, Kind.ACCESS_ENTRY),
        "cloudwatchevents": (Kind.RULE, Kind.TARGET),
        "cloudwatchlogs": (Kind.LOG_GROUP,),
        "lambda": (Kind.FUNCTION, Kind.PERMISSION),
        "apigateway": (
            Kind.REST_API,
            Kind.DEPLOYMENT,
            Kind.STAGE,
            Kind.METHOD_SETTINGS,
            Kind.API_KEY,
            Kind.USAGE_PLAN,
            Kind.USAGE_PLAN_KEY,
        ),
        "cloudwatch": (Kind.METRIC_ALARM,),
        "efs": (Kind.FILE_SYSTEM, Kind.ACCESS_POINT, Kind.MOUNT_TARGET),
        "ec2": (Kind.SECURITY_GROUP, Kind.SECURITY_GROUP_INGRESS_RULE),
    }.items()
    for kind in kinds
}


#: The kinds whose names AWS assigns, and where the provider shows the name. It would not know them again when it starts
#: anew, and make them once more (crossplane-runtime#850): the composition tells it the name as soon as it is shown.
_ASSIGNED_NAMES = {
    Kind.TOPIC_SUBSCRIPTION: "id",
    Kind.QUEUE: "id",
    Kind.ROLE_POLICY_ATTACHMENT: "id",
    Kind.POD_IDENTITY_ASSOCIATION: "associationId",
    Kind.PERMISSION: "id",
    Kind.REST_API: "id",
    Kind.DEPLOYMENT: "id",
    Kind.API_KEY: "id",
    Kind.USAGE_PLAN: "id",
    Kind.USAGE_PLAN_KEY: "id",
    Kind.FILE_SYSTEM: "id",
    Kind.ACCESS_POINT: "id",
    Kind.MOUNT_TARGET: "id",
    Kind.SECURITY_GROUP: "id",
    Kind.SECURITY_GROUP_INGRESS_RULE: "id",
}


class Managed(Model):
    """A managed resource, with the fields that the compositions have an opinion about and no others."""

    key: str
    """Its name within the composite."""
    name: str
    """Its name in Kubernetes."""
    kind: Kind
    for_provider: dict[str, JsonValue]
    external_name: str | None = None
    """What AWS knows it by, for the kinds where that is no field of theirs; None as long as it is not known."""
    retained: bool = False
    """Whether what it stands for stays in AWS when the object is deleted."""
    awaited: bool = True
    """Whether the composite is ready only when this is."""

    def named(self, observed: Observed) -> Self:
        """The resource with the name that AWS has assigned to it, once that is observed."""
        field = _ASSIGNED_NAMES.get(self.kind)
        if self.external_name is not None or field is None:
            return self
        return self.model_copy(update={"external_name": at_provider(observed, self.key, field)})

    def manifest(self) -> dict[str, Any]:
        """The object as it is applied. Which account it is in, the ClusterProviderConfig ``default`` says."""
        metadata: dict[str, Any] = {"name": self.name}
        if self.external_name is not None:
            metadata["annotations"] = {"crossplane.io/external-name": self.external_name}
        policies = [policy for policy in _MANAGEMENT_POLICIES if not (self.retained and policy == "Delete")]
        return {
            "apiVersion": self.kind.api_version,
            "kind": self.kind.value,
            "metadata": metadata,
            "spec": {"managementPolicies": policies, "forProvider": self.for_provider},
        }


class Usage(Model):
    """Crossplane's protection of another object of the namespace: a request to delete that is refused."""

    key: str
    """Its name within the composite."""
    name: str
    """Its name in Kubernetes."""
    kind: Literal["Usage"] = "Usage"
    of: dict[str, JsonValue]
    """The object: ``apiVersion``, ``kind`` and ``resourceRef``."""
    reason: str
    """What whoever tries is told."""
    awaited: bool = True

    def manifest(self) -> dict[str, Any]:
        """The object as it is applied."""
        return {
            "apiVersion": "protection.crossplane.io/v1beta1",
            "kind": self.kind,
            "metadata": {"name": self.name},
            "spec": {"of": self.of, "reason": self.reason},
        }


@dataclass(frozen=True)
class Owner:
    """Makes one composite's resources. ``name`` is unique among the composites of a namespace."""

    name: str
    region: str

    def managed(
        self,
        kind: Kind,
        key: str,
        for_provider: Mapping[str, JsonValue],
        *,
        external_name: str | None = None,
        retained: bool = False,
        awaited: bool = True,
    ) -> Managed:
        """A resource in the composite's region (IAM has none)."""
        place = {} if _SERVICES[kind] == "iam" else {"region": self.region}
        return Managed(
            key=key,
            name=f"{self.name}.{key}",
            kind=kind,
            for_provider={**place, **for_provider},
            external_name=external_name,
            retained=retained,
            awaited=awaited,
        )

    def kept(self, kind: Kind, key: str, observed: Observed) -> Managed:
        """An observed resource as it was last asked for."""
        asked = observed[key].get("spec", {}).get("forProvider", {})
        return self.managed(kind, key, _unresolved(asked))

    def earlier(self, current: Managed, observed: Observed) -> Iterator[Managed]:
        """The resources that a resource with a ``keyed`` key takes the place of, as they are."""
        everything = self.kept_all(current.kind, current.key.rpartition(".")[0], observed)
        same = {"retained": current.retained, "awaited": current.awaited}
        return (resource.model_copy(update=same) for resource in everything if resource.key != current.key)

    def kept_all(self, kind: Kind, stem: str, observed: Observed) -> Iterator[Managed]:
        """The observed resources whose ``keyed`` key begins so, as they were last asked for."""
        return (self.kept(kind, key, observed) for key in sorted(observed) if key.startswith(f"{stem}."))

    def replacing(self, resource: Managed, observed: Observed) -> Iterator[Managed]:
        """A resource with a ``keyed`` key; and until it is ready, those that it takes the place of."""
        yield resource
        if not is_ready(observed, resource.key):
            yield from self.earlier(resource, observed)

    def reference(self, key: str) -> dict[str, JsonValue]:
        """A reference to another resource of the composite, followed anew each time.

        By default the provider follows a reference once and keeps what it found, even when the reference changes.
        """
        return {"name": f"{self.name}.{key}", "policy": {"resolve": "Always"}}


def keyed(stem: str, *immutable: str) -> str:
    """The key of a resource with values that AWS cannot change: ``stem.<hash of the values>``."""
    return f"{stem}.{hashlib.sha256(chr(0).join(immutable).encode()).hexdigest()[:10]}"


def _unresolved(value: Any) -> Any:
    """A spec without the values that the provider put beside the references to them."""
    if isinstance(value, list):
        return [_unresolved(item) for item in value]
    if isinstance(value, Mapping):
        return {
            field: _unresolved(item)
            for field, item in value.items()
            if not {f"{field}Ref", f"{field}Refs"} & value.keys()
        }
    return value


@dataclass(frozen=True)
class ComposedResource:
    """A resource that is wanted, and whether it is observed to be ready."""

    resource: Managed | Usage
    ready: bool


_Status = TypeVar("_Status", bound=Description)


@dataclass(frozen=True)
class Composed(Generic[_Status]):
    """What a composite becomes: its resources by key, dependencies first, what it shows, and whether it works."""

    resources: dict[str, ComposedResource]
    status: _Status
    ready: bool
    problem: str | None = None
    """What somebody has to mend."""

    @classmethod
    def of(
        cls,
        resources: Iterable[Managed | Usage],
        observed: Observed,
        status: _Status,
        *,
        complete: bool = True,
        problem: str | None = None,
    ) -> Self:
        """Judge readiness by what is observed. ``complete`` is false while something that is wanted has to wait."""
        named = (resource.named(observed) if isinstance(resource, Managed) else resource for resource in resources)
        composed = {resource.key: ComposedResource(resource, is_ready(observed, resource.key)) for resource in named}
        awaited = (item.ready for item in composed.values() if item.resource.awaited)
        return cls(composed, status, complete and problem is None and all(awaited), problem)


def is_ready(observed: Observed, *keys: str) -> bool:
    """Whether all these resources are observed to be there, and nothing that was asked of them to be refused.

    The provider leaves Ready at True when AWS, or itself, refuses a change; it sets Synced to False then. A change that
    is under way does not show: where it matters, compare what is observed (``at_provider``).
    """
    return all(
        _condition(observed.get(key, {}), "Ready") == "True" and _condition(observed.get(key, {}), "Synced") != "False"
        for key in keys
    )


def _condition(resource: Mapping[str, Any], kind: str) -> str | None:
    conditions = resource.get("status", {}).get("conditions", ())
    return next((condition.get("status") for condition in conditions if condition.get("type") == kind), None)


def at_provider(observed: Observed, key: str, field: str) -> Any:
    """A field of a resource as AWS has it, or None while it is not known."""
    return observed.get(key, {}).get("status", {}).get("atProvider", {}).get(field)


def declared(observed: Observed, key: str, field: str) -> Any:
    """A field of a resource as it was last asked for, or None."""
    return observed.get(key, {}).get("spec", {}).get("forProvider", {}).get(field)
