from collections.abc import Iterator
from typing import Any

import pytest

from darkroom_function.managed import Composed
from tests.compositions import crds, specs
from tests.compositions.cases import cases
from tests.compositions.provider import Provider, managed

pytestmark = pytest.mark.skipif(not crds.REFERENCE, reason="DARKROOM_REFERENCE is not set: no CRDs to validate with")


def everything_composed() -> Iterator[Composed[Any]]:
    for case in cases():
        yield case.composed()
    for kind, spec in specs.EXAMPLES.items():
        provider = Provider(kind, spec)
        yield provider.wanted()
        yield provider.settle()


def test_every_composed_resource_is_one_that_its_crd_takes_whole() -> None:
    manifests = [resource.manifest() for composed in everything_composed() for resource in managed(composed)]
    assert manifests
    wrong = {
        f"{manifest['kind']} {manifest['metadata']['name']}": found
        for manifest in manifests
        if (found := crds.problems(manifest))
    }
    assert not wrong


def test_a_field_that_the_crd_does_not_know_is_found() -> None:
    manifest = Provider("Storage", specs.storage()).wanted().resources["models"].resource.manifest()
    manifest["spec"]["forProvider"]["bucketName"] = "models"
    assert crds.problems(manifest) == ["Additional properties are not allowed ('bucketName' was unexpected)"]


def test_a_field_that_the_crd_asks_for_by_a_rule_is_found_missing() -> None:
    manifest = Provider("Storage", specs.storage()).wanted().resources["models-policy"].resource.manifest()
    del manifest["spec"]["forProvider"]["policy"]
    assert crds.problems(manifest) == ["spec.forProvider.policy is a required parameter"]
