"""Managed resources: what a composition asks Crossplane's AWS provider for, and what was observed of it. Pure.

A composition names its resources by *keys*, unique within the composite; the object's own name in Kubernetes is
``<owner>.<key>``. An owner is unique within its namespace and has no dot, so that no two objects get the same name.

The provider refuses, for ever, to change what AWS can only replace. Where that may change, it is part of the key
(``keyed``): the composition asks for another resource, and leaves the one before it out in its own time.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import JsonValue

from darkroom_contract.types import Description, Model
from darkroom_function.apis import API_VERSION
from darkroom_function.kinds import ASSIGNED_NAMES, Kind

#: What Crossplane observed: the composed objects, whole, by their keys.
Observed: TypeAlias = Mapping[str, Mapping[str, Any]]

#: Not LateInitialize: it copies into an object what AWS has beside it. A Queue would take over its QueueRedrivePolicy's
#: document that way, and set it back when that changes; a quota that is dropped would come back. But without it the
#: provider keeps the names that AWS assigns in its memory alone: see ``kinds.ASSIGNED_NAMES``.
_MANAGEMENT_POLICIES = ["Observe", "Create", "Update", "Delete"]


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
    labels: dict[str, str] = {}
    """The object's labels in Kubernetes, beside Crossplane's own."""

    def named(self, observed: Observed) -> Self:
        """The resource with the name that AWS has assigned to it, once that is observed."""
        field = ASSIGNED_NAMES.get(self.kind)
        if self.external_name is not None or field is None:
            return self
        return self.model_copy(update={"external_name": at_provider(observed, self.key, field)})

    def manifest(self) -> dict[str, Any]:
        """The object as it is applied. Which account it is in, the ClusterProviderConfig ``default`` says."""
        metadata: dict[str, Any] = {"name": self.name}
        if self.labels:
            metadata["labels"] = self.labels
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

    @classmethod
    def of_composite(cls, owner: "Owner", kind: str, cluster: str, loss: str) -> Self:
        """Protects a cluster's composite of the kind. What would be lost is told to whoever tries to delete it."""
        return cls(
            key="protection",
            name=f"{owner.name}.protection",
            of={"apiVersion": API_VERSION, "kind": kind, "resourceRef": {"name": cluster}},
            reason=f"{loss} Set protected: false in cluster.yaml first.",
        )

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
        labels: Mapping[str, str] | None = None,
    ) -> Managed:
        """A resource in the composite's region (IAM has none)."""
        place = {} if kind.service == "iam" else {"region": self.region}
        return Managed(
            key=key,
            name=f"{self.name}.{key}",
            kind=kind,
            for_provider={**place, **for_provider},
            external_name=external_name,
            retained=retained,
            awaited=awaited,
            labels=dict(labels or {}),
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
