"""The function's image is the package that Crossplane installs it from: its own package manager reads it."""

from typing import Any

import pytest
import yaml

from tests.e2e.controlplane.api import is_true
from tests.e2e.controlplane.cluster import Cluster
from tests.e2e.images.engine import ROOT
from tests.e2e.images.registry import layers

_PACKAGES = "pkg.crossplane.io/v1"
_DESCRIBED = ROOT / "crossplane" / "function" / "package" / "crossplane.yaml"


def test_crossplane_installs_the_function_from_its_image(cluster: Cluster, pinned: dict[str, str]) -> None:
    if cluster.processes is None:
        pytest.skip("the cluster cannot reach this registry")
    api, name, image = cluster.api, "from-its-image", pinned["function"]
    function: dict[str, Any] = {"apiVersion": _PACKAGES, "kind": "Function", "metadata": {"name": name}}
    api.apply({**function, "spec": {"package": image}})
    try:
        installed = api.wait(_PACKAGES, "Function", name, None, is_true("Installed"))
        revision = installed["status"]["currentRevision"]
        read = api.wait(
            _PACKAGES, "FunctionRevision", revision, None, lambda it: "capabilities" in it.get("status", {})
        )
    finally:
        api.delete(_PACKAGES, "Function", name)
    assert read["spec"]["image"] == image
    assert read["status"]["capabilities"] == yaml.safe_load(_DESCRIBED.read_text())["spec"]["capabilities"]


def test_the_package_is_the_last_layer_alone(pinned: dict[str, str]) -> None:
    """Crossplane reads from the last layer on until it meets the file, wherever in the image that lies."""
    digests = layers(pinned["function"])
    *_, last = digests
    assert digests[last] < 2_000
