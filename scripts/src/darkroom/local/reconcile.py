"""Bring composites into being: compose, apply, observe, until nothing changes. It calls AWS by the table of kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from darkroom.local import kinds
from darkroom_function.managed import Composed, Observed

Compose = Callable[[Observed], Composed[Any]]

#: More passes than any composite needs: each waits for something that an earlier one created.
_MOST_PASSES = 10


class NotReady(Exception):  # noqa: N818 - it says what the composite is
    """A composite did not become ready; the message names what is missing."""


class _Unresolved(Exception):  # noqa: N818
    """A reference leads to a resource that does not exist yet."""


class Reconciler:
    """The composites of one cluster, and what is observed of their resources."""

    def __init__(self, aws: kinds.Aws) -> None:
        self._aws = aws
        self._observed: dict[str, dict[str, dict[str, Any]]] = {}

    def observed(self, composite: str) -> dict[str, dict[str, Any]]:
        """A composite's resources as they were last observed, by key."""
        return self._observed.setdefault(composite, {})

    def reconcile(self, composite: str, compose: Compose) -> Composed[Any]:
        """Apply a composite until nothing changes; raises ``NotReady`` when it is not ready by then.

        What is left out is forgotten, not deleted: the emulator's data goes with the stack.
        """
        observed = self.observed(composite)
        for _ in range(_MOST_PASSES):
            composed = compose(observed)
            changes = [self._apply(observed, key, item.resource.manifest()) for key, item in composed.resources.items()]
            gone = observed.keys() - composed.resources.keys()
            for key in gone:
                del observed[key]
            if not any(changes) and not gone:
                break
        if not composed.ready:
            waiting = [key for key, item in composed.resources.items() if not item.ready]
            raise NotReady(f"{composite} is not ready: {', '.join(waiting) or 'a resource is missing'}")
        return composed

    def _apply(self, observed: dict[str, dict[str, Any]], key: str, manifest: dict[str, Any]) -> bool:
        """Apply one resource unless it is as it was; whether anything changed."""
        before = observed.get(key, {})
        try:
            spec = _resolve(manifest["spec"]["forProvider"], observed)
        except _Unresolved:
            return False
        if before.get("resolved") == spec:
            return False
        name = manifest["metadata"]["name"]
        external_name = manifest["metadata"].get("annotations", {}).get("crossplane.io/external-name", name)
        at_provider = kinds.apply(
            kinds.Managed(
                kind=manifest["kind"],
                external_name=external_name,
                spec=spec,
                observed=before.get("status", {}).get("atProvider", {}),
                aws=self._aws,
            )
        )
        conditions = [{"type": kind, "status": "True"} for kind in ("Synced", "Ready")]
        observed[key] = {**manifest, "resolved": spec, "status": {"conditions": conditions, "atProvider": at_provider}}
        return True


def _resolve(value: Any, observed: dict[str, dict[str, Any]]) -> Any:
    """A spec with each ``<field>Ref`` replaced by ``<field>``, the id of the resource that it names."""
    if isinstance(value, list):
        return [_resolve(item, observed) for item in value]
    if not isinstance(value, dict):
        return value
    resolved = {}
    for field, inner in value.items():
        if field.endswith("Ref") and not field.endswith("SecretRef"):
            resolved[field.removesuffix("Ref")] = _id_of(inner["name"], observed)
        else:
            resolved[field] = _resolve(inner, observed)
    return resolved


def _id_of(name: str, observed: dict[str, dict[str, Any]]) -> str:
    for resource in observed.values():
        if resource["metadata"]["name"] == name:
            known: str = resource["status"]["atProvider"]["id"]
            return known
    raise _Unresolved
