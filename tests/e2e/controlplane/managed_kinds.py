"""The AWS provider's kinds, declared in a cluster as its packages would: inactive, until a policy asks for them.

With ``DARKROOM_REFERENCE`` they are the provider's own CRDs, ``crds/aws/`` in that folder; without it they are kinds of
the same names that take anything.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from darkroom_function.kinds import Kind
from tests.e2e.controlplane.api import Api, Object, is_true

REFERENCE = os.environ.get("DARKROOM_REFERENCE")
_EXTENSIONS = "apiextensions.crossplane.io/v1alpha1"
PACKAGES = Path(__file__).parents[3] / "crossplane" / "packages"
_POLICY = PACKAGES / "templates" / "managedresourceactivationpolicy-darkroom.yaml"
_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def declare(api: Api) -> None:
    """Declare every kind, activate those that the packages' policy names, and wait until they are served."""
    api.apply(*_definitions())
    (policy,) = api.apply_files([_POLICY])
    for name in policy["spec"]["activate"]:
        api.wait(_EXTENSIONS, "ManagedResourceDefinition", name, None, is_true("Established"))


def _definitions() -> Iterator[Object]:
    for crd in _reference(Path(REFERENCE)) if REFERENCE else _permissive():
        yield {
            "apiVersion": _EXTENSIONS,
            "kind": "ManagedResourceDefinition",
            "metadata": {"name": crd["metadata"]["name"]},
            "spec": {field: crd["spec"][field] for field in ("group", "names", "scope", "versions")},
        }


def _reference(folder: Path) -> Iterator[Object]:
    for path in sorted(folder.glob("crds/aws/*.aws.m.upbound.io_*.yaml")):
        yield yaml.load(path.read_text(), yaml.CSafeLoader)


def _permissive() -> Iterator[Object]:
    for kind in Kind:
        plural, _, group = kind.crd.partition(".")
        schema = {"type": "object", "properties": {"spec": _ANYTHING, "status": _ANYTHING}}
        yield {
            "metadata": {"name": kind.crd},
            "spec": {
                "group": group,
                "names": {"kind": kind.value, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
                "scope": "Namespaced",
                "versions": [
                    {
                        "name": kind.api_version.partition("/")[2],
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                        "subresources": {"status": {}},
                    }
                ],
            },
        }
