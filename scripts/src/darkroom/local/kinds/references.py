"""References of a resource to others: ``<field>Ref`` and ``<field>Refs`` stand for ``<field>``. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

#: Finds what a field shall have of the resource that is referred to: takes the field and the resource's name.
Follow: TypeAlias = Callable[[str, str], str]


def follow_references(spec: Any, follow: Follow) -> Any:
    """A spec with, beside each reference, what it refers to."""
    if isinstance(spec, list):
        return [follow_references(item, follow) for item in spec]
    if not isinstance(spec, Mapping):
        return spec
    followed = {name: follow_references(value, follow) for name, value in spec.items()}
    for name, field in _references(spec):
        found = spec[name]
        followed[field] = (
            [follow(field, reference["name"]) for reference in found]
            if isinstance(found, list)
            else follow(field, found["name"])
        )
    return followed


def without_references(spec: Any) -> Any:
    """A spec with what was found alone."""
    if isinstance(spec, list):
        return [without_references(item) for item in spec]
    if not isinstance(spec, Mapping):
        return spec
    references = {name for name, _ in _references(spec)}
    return {name: without_references(value) for name, value in spec.items() if name not in references}


def referred_value(field: str, resource: Mapping[str, Any]) -> str | None:
    """What a field that refers to a resource gets of it: its ARN, or what AWS knows it by; None while it has none."""
    if field.removesuffix("s").endswith(("Arn", "Action", "endpoint")):
        return _at_provider(resource, "arn")
    if resource["apiVersion"].startswith(
        "apigateway."
    ):  # upjet reads the id in the status of these (ExtractResourceID)
        return _at_provider(resource, "id")
    name: str | None = resource["metadata"].get("annotations", {}).get("crossplane.io/external-name")
    return name


def _at_provider(resource: Mapping[str, Any], field: str) -> str | None:
    value: str | None = resource.get("status", {}).get("atProvider", {}).get(field)
    return value


def _references(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The references of an object, with the fields that they are for."""
    for name in spec:
        field = name.removesuffix("s").removesuffix("Ref")
        if name.endswith(("Ref", "Refs")) and not field.endswith("Secret"):
            yield name, field
