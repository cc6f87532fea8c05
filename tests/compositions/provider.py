"""A stand-in for Crossplane and its AWS provider: what is desired becomes what is observed. Touches nothing."""

import json
from typing import Any

from darkroom_function.compositions import compose
from darkroom_function.managed import Composed

Objects = dict[str, dict[str, Any]]


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
        fields = manifest["spec"]["forProvider"]
        by_name = {other["metadata"]["name"]: other["status"]["atProvider"].get("id") for other in before.values()}
        referenced = {
            field.removesuffix("Ref"): by_name.get(reference["name"])
            for field, reference in fields.items()
            if field.endswith("Ref") and field != "valueSecretRef"
        }
        if None in referenced.values():  # not yet: what is there stays as it is
            return {**manifest, "status": old["status"] if old else {"conditions": [], "atProvider": {}}}
        facts = {**fields, **referenced, "id": f"id-of-{manifest['metadata']['name']}"}
        if manifest["kind"] == "Deployment":
            # A snapshot of the API at the moment when it is made.
            known = old["status"]["atProvider"].get("snapshot") if old else None
            facts["snapshot"] = known or before["rest-api"]["status"]["atProvider"]["body"]
        return {**manifest, "status": {"conditions": [{"type": "Ready", "status": "True"}], "atProvider": facts}}


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
