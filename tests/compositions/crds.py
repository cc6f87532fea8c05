"""The provider's CRDs, from the folder ``crds/aws`` of ``DARKROOM_REFERENCE``, as schemas that refuse unknown fields.

The API server drops a field that it does not know without a word.
"""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

REFERENCE = os.environ.get("DARKROOM_REFERENCE")
_REQUIRED = re.compile(r"spec\.forProvider\.(\w+) is a required parameter")


def problems(manifest: dict[str, Any]) -> list[str]:
    """What the API server would refuse, or drop, of a managed resource."""
    group, version = manifest["apiVersion"].split("/")
    schema = _schema(group, version, manifest["kind"])
    found = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest["spec"])]
    return found + [rule for rule in _rules(schema) if _is_missing(rule, manifest["spec"])]


def status_problems(api_version: str, kind: str, at_provider: dict[str, Any]) -> list[str]:
    """What the API server would refuse, or drop, of what the provider says that AWS has."""
    group, version = api_version.split("/")
    schema = _schema(group, version, kind, "status")
    status = {"atProvider": at_provider}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(status)]


def name(group: str, kind: str) -> str:
    """The name of a kind's CRD."""
    return str(_crd(group, kind)["metadata"]["name"])


def _rules(schema: dict[str, Any]) -> list[str]:
    return [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]


def _is_missing(rule: str, spec: dict[str, Any]) -> bool:
    required = _REQUIRED.fullmatch(rule)
    assert required, f"an unknown rule: {rule}"
    return required[1] not in spec["forProvider"]


@cache
def _schema(group: str, version: str, kind: str, part: str = "spec") -> dict[str, Any]:
    served = next(item for item in _crd(group, kind)["spec"]["versions"] if item["name"] == version)
    schema: dict[str, Any] = strict(served["schema"]["openAPIV3Schema"]["properties"][part])
    return schema


def _crd(group: str, kind: str) -> dict[str, Any]:
    return next(crd for crd in _crds(group) if crd["spec"]["names"]["kind"] == kind)


@cache
def _crds(group: str) -> list[dict[str, Any]]:
    assert REFERENCE
    files = Path(REFERENCE, "crds", "aws").glob(f"{group}_*.yaml")
    return [yaml.load(file.read_text(), yaml.CSafeLoader) for file in files]


def strict(schema: Any) -> Any:
    """A CRD's schema that refuses the fields that it does not know."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = dict(_strict_items(schema))
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _strict_items(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        yield key, strict(value)
