"""EKS: who may be what in a cluster. The emulator has no such thing: it is only remembered."""

from __future__ import annotations

import uuid

from darkroom.local.kinds.external import External, Remembered


def _assigned(prefix: str) -> str:
    return prefix + uuid.uuid4().hex[:17]


KINDS: dict[str, External] = {
    "AccessEntry": Remembered(
        frozenset({"clusterName", "principalArn", "type"}),
        lambda it: f"{it.spec['clusterName']}:{it.spec['principalArn']}",
    ),
    "PodIdentityAssociation": Remembered(
        frozenset({"clusterName", "namespace", "serviceAccount"}),
        lambda it: it.external_name or _assigned("a-"),
        "associationId",
    ),
}
