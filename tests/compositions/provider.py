"""A stand-in for Crossplane and its AWS provider: what is desired becomes what is observed. Touches nothing."""

import json
from typing import Any

from darkroom.local.kinds import immutable_fields
from darkroom.local.kinds.references import follow_references
from darkroom_function.compositions import compose
from darkroom_function.managed import Composed, Managed

Objects = dict[str, dict[str, Any]]


class _Waiting(Exception):  # noqa: N818
    """A reference leads to a resource that has no id yet."""


class Provider:
    """Applies what a composition wants, in passes.

    Within a pass every resource sees the others as they were before it: Crossplane's controllers run at once, and the
    provider works on them in no order.
    """

    def __init__(self, kind: str, spec: dict[str, Any]) -> None:
        self.kind = kind
        self.spec = spec
        self.observed: Objects = {}

    def wanted(self) -> Composed[Any]:
        return compose(self.kind, self.spec, self.observed)

    def step(self) -> Composed[Any]:
        """One pass; what was wanted in it."""
        composed = self.wanted()
        before = self.observed
        self.observed = {
            key: self._applied(entry.resource.manifest(), before.get(key), before)
            for key, entry in composed.resources.items()
        }
        return composed

    def settle(self, passes: int = 10) -> Composed[Any]:
        """Passes until nothing changes; what is wanted then."""
        for _ in range(passes):
            before = json.dumps(self.observed)
            self.step()
            if json.dumps(self.observed) == before:
                return self.wanted()
        raise AssertionError(f"{self.kind} does not settle in {passes} passes")

    def _applied(self, manifest: dict[str, Any], old: dict[str, Any] | None, before: Objects) -> dict[str, Any]:
        ids = {other["metadata"]["name"]: other["status"]["atProvider"].get("id") for other in before.values()}
        if manifest["kind"] == "Usage":  # it is Crossplane's own
            return {**manifest, "status": {"conditions": _conditions(synced=True), "atProvider": {}}}
        known = old["status"] if old else {"conditions": [], "atProvider": {}}
        try:
            facts = follow_references(manifest["spec"]["forProvider"], lambda _field, name: _followed(name, ids))
        except _Waiting:  # what is there stays as it is
            return {**manifest, "status": known}
        immutable = immutable_fields(manifest["kind"])
        if known["atProvider"] and any(known["atProvider"].get(field) != facts.get(field) for field in immutable):
            return {**manifest, "status": {**known, "conditions": _conditions(synced=False)}}
        manifest["spec"]["forProvider"] = dict(facts)  # the provider puts what it found beside the reference
        facts["id"] = f"id-of-{manifest['metadata']['name']}"
        if manifest["kind"] == "Deployment":
            # A snapshot of the API at the moment when it is made.
            facts["snapshot"] = (
                known["atProvider"].get("snapshot") or before["rest-api"]["status"]["atProvider"]["body"]
            )
        return {**manifest, "status": {"conditions": _conditions(synced=True), "atProvider": facts}}


def _conditions(*, synced: bool) -> list[dict[str, str]]:
    return [{"type": "Ready", "status": "True"}, {"type": "Synced", "status": str(synced)}]


def _followed(name: str, ids: dict[str, str | None]) -> str:
    known = ids.get(name)
    if known is None:
        raise _Waiting(name)
    return known


def parsed(value: Any) -> Any:
    """The value with its JSON texts (policies, filters, entries) read."""
    if isinstance(value, dict):
        return {key: parsed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [parsed(item) for item in value]
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value


def resource(composed: Composed[Any], key: str) -> dict[str, Any]:
    """A resource's ``forProvider`` with its JSON texts read."""
    fields: dict[str, Any] = parsed(composed.resources[key].resource.manifest()["spec"]["forProvider"])
    return fields


def of_kind(composed: Composed[Any], kind: str) -> list[dict[str, Any]]:
    """The ``forProvider`` of every resource of a kind."""
    return [resource(composed, key) for key, entry in composed.resources.items() if entry.resource.kind == kind]


def managed(composed: Composed[Any]) -> list[Managed]:
    """Every managed resource: all but what is Crossplane's own."""
    return [entry.resource for entry in composed.resources.values() if isinstance(entry.resource, Managed)]
