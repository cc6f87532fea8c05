"""Bring composites into being: compose, apply, observe, until nothing changes. It calls AWS by the table of kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from darkroom.local import kinds
from darkroom.local.kinds.references import follow_references, referred_value, without_references
from darkroom.trouble import Trouble
from darkroom_function.managed import Composed, Observed

Compose: TypeAlias = Callable[[Observed], Composed[Any]]
Object: TypeAlias = dict[str, Any]

#: More passes than any composite needs: each waits for something that an earlier one created.
_MOST_PASSES = 10
_EXTERNAL_NAME = "crossplane.io/external-name"
_READY = [{"type": kind, "status": "True"} for kind in ("Synced", "Ready")]


class NotReady(Trouble):
    """A composite did not become ready; the message names what is missing."""


class _Unresolved(Exception):  # noqa: N818
    """A reference leads to a resource that does not exist yet."""


class Reconciler:
    """The composites of one cluster, and what is observed of their resources."""

    def __init__(self, aws: kinds.Aws) -> None:
        self._aws = aws
        self._observed: dict[str, dict[str, Object]] = {}

    def observed(self, composite: str) -> dict[str, Object]:
        """A composite's resources as they were last observed, by key."""
        return self._observed.setdefault(composite, {})

    def reconcile(self, composite: str, compose: Compose) -> Composed[Any]:
        """Apply a composite until nothing changes, and delete what it leaves out.

        Raises ``NotReady`` when it is not ready by then, and ``kinds.Failed`` when AWS refuses something.
        """
        observed = self.observed(composite)
        for _ in range(_MOST_PASSES):
            composed = compose(observed)
            changes = [self._apply(observed, key, item.resource.manifest()) for key, item in composed.resources.items()]
            # What others need was made first, and goes last.
            gone = [key for key in reversed(observed) if key not in composed.resources]
            for key in gone:
                self._delete(observed[key])
                del observed[key]
            if not any(changes) and not gone:
                break
        if not composed.ready:
            waiting = [key for key, item in composed.resources.items() if not item.ready]
            raise NotReady(f"{composite} is not ready: {', '.join(waiting) or 'a resource is missing'}")
        return composed

    def _apply(self, observed: dict[str, Object], key: str, manifest: Object) -> bool:
        """Apply one resource unless it is as it was; whether anything changed."""
        before = observed.get(key, {})
        if not _is_external(manifest):
            observed[key] = {**manifest, "status": {"conditions": _READY}}
            return not before
        try:
            spec = without_references(follow_references(manifest["spec"]["forProvider"], _follow(observed)))
        except _Unresolved:
            return False
        if before.get("resolved") == spec:
            return False
        annotations = {**_annotations(before), **_annotations(manifest)}
        metadata = {**manifest["metadata"], "annotations": annotations}
        wanted = {**before, **manifest, "metadata": metadata, "resolved": spec}
        annotations[_EXTERNAL_NAME], at_provider = kinds.apply(self._managed(wanted))
        observed[key] = {**wanted, "status": {"conditions": _READY, "atProvider": at_provider}}
        return True

    def _delete(self, resource: Object) -> None:
        if _is_external(resource) and "Delete" in resource["spec"]["managementPolicies"]:
            kinds.delete(self._managed(resource))

    def _managed(self, resource: Object) -> kinds.Managed:
        kind = resource["kind"]
        default = resource["metadata"]["name"] if kinds.KINDS[kind].named else ""
        return kinds.Managed(
            kind=kind,
            external_name=_annotations(resource).get(_EXTERNAL_NAME, default),
            spec=resource["resolved"],
            aws=self._aws,
            secrets=self._aws.secrets,
            observed=resource.get("status", {}).get("atProvider", {}),
        )


def _is_external(resource: Object) -> bool:
    """Whether it stands for something in AWS. What does not, Crossplane's own kinds, is just there."""
    return str(resource["apiVersion"]).partition("/")[0].endswith(".aws.m.upbound.io")


def _annotations(resource: Object) -> dict[str, str]:
    return dict(resource.get("metadata", {}).get("annotations", {}))


def _follow(observed: dict[str, Object]) -> Callable[[str, str], str]:
    def follow(field: str, name: str) -> str:
        found = (resource for resource in observed.values() if resource["metadata"]["name"] == name)
        value = next((referred_value(field, resource) for resource in found), None)
        if value is None:
            raise _Unresolved
        return value

    return follow
