"""A managed resource as an object of the API server: what the provider reads in it, and what it writes into it."""

from collections.abc import Collection, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from kubernetes.dynamic import Resource

from darkroom.local import kinds
from darkroom.local.kinds.references import follow_references

Object: TypeAlias = dict[str, Any]

FINALIZER = "finalizer.managedresource.crossplane.io"
EXTERNAL_NAME = "crossplane.io/external-name"

_MANAGER = "darkroom-stand-in-provider"
#: As crossplane-runtime calls it.
_RESOLVER = "managed.crossplane.io/api-simple-reference-resolver"


class Key(NamedTuple):
    """Which managed resource."""

    kind: str
    namespace: str
    name: str


def condition(kind: str, status: str, reason: str, message: str = "") -> Object:
    """A condition, without the time since when it is so."""
    return {"type": kind, "status": status, "reason": reason, **({"message": message} if message else {})}


class ManagedObject:
    """An object; it is written by server-side apply, and only where that changes something.

    Every write names the object's uid, so that none makes an object anew that is gone: the API server answers 409.
    """

    def __init__(self, item: Object, resource: Resource, memory: MutableMapping[str, str]) -> None:
        self._item = item
        self._resource = resource
        self._memory = memory

    @property
    def key(self) -> Key:
        """Which object it is."""
        metadata = self._item["metadata"]
        return Key(self._item["kind"], metadata["namespace"], metadata["name"])

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations."""
        annotations: dict[str, str] = self._item["metadata"].get("annotations", {})
        return annotations

    @property
    def deleted(self) -> bool:
        """Whether its deletion was asked for."""
        return "deletionTimestamp" in self._item["metadata"]

    @property
    def held(self) -> bool:
        """Whether it cannot go before the provider is done with it."""
        return FINALIZER in self._item["metadata"].get("finalizers", ())

    @property
    def may(self) -> Collection[str]:
        """What the provider may do in AWS."""
        policies = self._item["spec"].get("managementPolicies", ["*"])
        return kinds.EVERYTHING if "*" in policies else frozenset(policies)

    @property
    def _may_late_initialize(self) -> bool:
        return not {"*", "LateInitialize"}.isdisjoint(self._item["spec"].get("managementPolicies", ["*"]))

    @property
    def for_provider(self) -> Object:
        """What is asked for."""
        spec: Object = self._item["spec"]["forProvider"]
        return spec

    @property
    def at_provider(self) -> Object:
        """What was observed last."""
        observed: Object = self._status.get("atProvider", {})
        return observed

    @property
    def external_name(self) -> str:
        """What AWS knows it by; empty while AWS has not given it a name."""
        remembered = self.key.name if self._is_named else self._memory.get(self._item["metadata"]["uid"], "")
        return self.annotations.get(EXTERNAL_NAME, remembered)

    @property
    def _is_named(self) -> bool:
        """Whether it has a name before AWS has made it."""
        return kinds.KINDS[self.key.kind].named

    @property
    def _generation(self) -> int:
        generation: int = self._item["metadata"]["generation"]
        return generation

    @property
    def _status(self) -> Object:
        status: Object = self._item.get("status", {})
        return status

    def has(self, kind: str) -> bool:
        """Whether it has a condition of this type, true or false."""
        return any(each["type"] == kind for each in self._status.get("conditions", ()))

    def keep(self, external_name: str = "") -> None:
        """Hold it with the finalizer, and note its external name.

        A name that AWS has given is written where the provider may late-initialize, and kept in memory elsewhere: so it
        is with crossplane-runtime and upjet (crossplane-runtime#850).
        """
        name = external_name or self.external_name
        if not self._is_named and not self._may_late_initialize:
            self._memory[self._item["metadata"]["uid"]] = name
            name = self.annotations.get(EXTERNAL_NAME, "")
        if not self.held or self.annotations.get(EXTERNAL_NAME, "") != name:
            self._write({"finalizers": [FINALIZER], "annotations": {EXTERNAL_NAME: name} if name else {}})

    def release(self) -> None:
        """Let it go."""
        annotation = self.annotations.get(EXTERNAL_NAME)
        self._write({"annotations": {EXTERNAL_NAME: annotation}} if annotation else {})

    def resolve(self, followed: Object) -> None:
        """Write what its references lead to beside them."""
        if followed == self.for_provider:
            return
        nowhere = follow_references(self.for_provider, lambda _field, _name: "\0")
        found = {field: followed[field] for field, value in nowhere.items() if value != self.for_provider.get(field)}
        self._write({}, {"spec": {"forProvider": found}}, _RESOLVER)

    def report(self, conditions: Sequence[Object], observed: Object | None = None) -> None:
        """Write conditions, and what AWS has, into its status."""
        old = {each["type"]: each for each in self._status.get("conditions", ())}
        new = {each["type"]: self._dated(each, old.get(each["type"], {})) for each in conditions}
        at_provider = self.at_provider if observed is None else kinds.present(observed)
        status = {
            "observedGeneration": self._generation,
            "conditions": list({**old, **new}.values()),
            "atProvider": at_provider,
        }
        if any(status[field] != self._status.get(field) for field in status):
            applied = self._resource.status.server_side_apply(
                body=self._body({}, {"status": status}), field_manager=_MANAGER, force_conflicts=True
            )
            self._item = applied.to_dict()

    def _dated(self, condition: Object, old: Object) -> Object:
        """A condition with the time since when its status is what it is."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        since = old["lastTransitionTime"] if old.get("status") == condition["status"] else now
        return {**condition, "lastTransitionTime": since, "observedGeneration": self._generation}

    def _write(self, metadata: Object, rest: Object | None = None, manager: str = _MANAGER) -> None:
        applied = self._resource.server_side_apply(
            body=self._body(metadata, rest or {}), field_manager=manager, force_conflicts=True
        )
        self._item = applied.to_dict()

    def _body(self, metadata: Object, rest: Object) -> Object:
        place = {name: self._item["metadata"][name] for name in ("name", "namespace", "uid")}
        kind = {name: self._item[name] for name in ("apiVersion", "kind")}
        return {**kind, "metadata": {**place, **metadata}, **rest}
