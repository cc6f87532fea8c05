"""A cluster's objects in memory, in the place of kubectl: for steps whose logic needs no API server."""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from darkroom.kubectl import Kubectl, Object


class Objects(Kubectl):
    """What is there, by kind, namespace and name; what was run is in ``commands``."""

    def __init__(self, **items: list[Object]) -> None:
        super().__init__(Path("kubeconfig"))
        self.items = dict(items)
        self.commands: list[tuple[str, ...]] = []

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        found = (it for it in self.items.get(_plural(kind), ()) if it["metadata"]["name"] == name)
        return next((it for it in found if it["metadata"].get("namespace") == namespace), None)

    def all(self, kind: str, namespace: str | None = None, selector: str | None = None) -> list[Object]:
        wanted = dict(part.split("=") for part in (selector or "").split(",") if part)
        return [
            it
            for it in self.items.get(_plural(kind), ())
            if namespace in (None, it["metadata"].get("namespace"))
            and it["metadata"].get("labels", {}).items() >= wanted.items()
        ]

    def create(self, item: Mapping[str, Any]) -> None:
        metadata = {"resourceVersion": "1", **item["metadata"]}
        made = {**item, "metadata": metadata, "data": _encoded(item.get("stringData", {}))}
        self.items.setdefault(f"{item['kind'].lower()}s", []).append(made)

    def patch(self, kind: str, name: str, namespace: str | None, patch: Mapping[str, Any]) -> None:
        found = self.get(kind, name, namespace)
        assert found
        found.setdefault("data", {}).update(_encoded(patch.get("stringData", {})))

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> None:
        for item in objects:
            self.create(item)

    def run(self, *arguments: str, text: str | None = None) -> str:
        self.commands.append(arguments)
        return ""


def secret(name: str, namespace: str, labels: dict[str, str] | None = None, **fields: str) -> Object:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "1", "labels": labels or {}}
    return {"kind": "Secret", "metadata": metadata, "data": _encoded(fields)}


def _plural(kind: str) -> str:
    return kind.partition(".")[0]


def _encoded(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(value.encode()).decode() for name, value in fields.items()}
