"""The examples, as someone who reads them would apply them."""

from typing import Any

import pytest

from darkroom_function.compositions import compose
from tests.e2e.controlplane.api import Object
from tests.e2e.world import World, api_keys, examples


@pytest.fixture(scope="module")
def applied(whole_world: World) -> list[Object]:
    """Every example, applied and ready."""
    composites = examples(whole_world.namespace("examples", api_keys("default", "studio")))
    whole_world.apply(*composites)
    return [whole_world.wait(composite) for composite in composites]


def test_every_kind_has_an_example(applied: list[Object]) -> None:
    kinds = {composite["kind"] for composite in applied}
    assert kinds == {"ClusterAccess", "ModelRuntime", "PromptApi", "Storage"}


def test_an_example_becomes_exactly_the_resources_of_its_composition(world: World, applied: list[Object]) -> None:
    for composite in applied:
        observed = made_by(world, composite)
        assert observed.keys() == compose(composite["kind"], composite["spec"], observed).resources.keys()


def test_nothing_that_is_asked_for_is_lost_on_the_way(world: World, applied: list[Object]) -> None:
    """The API server drops fields that a CRD does not know, without a word."""
    for composite in applied:
        observed = made_by(world, composite)
        for key, entry in compose(composite["kind"], composite["spec"], observed).resources.items():
            assert _contains(observed[key]["spec"], entry.resource.manifest()["spec"]), (composite["kind"], key)


def test_nothing_is_written_while_nothing_is_asked(world: World, applied: list[Object]) -> None:
    before = world.versions(*applied)
    for composite in applied:
        world.recompose(composite)
    assert world.versions(*applied) == before


def made_by(world: World, composite: Object) -> dict[str, Object]:
    """Everything that a composite has made, by its keys."""
    usages = world.made(composite, "protection.crossplane.io/v1beta1", "Usage")
    return {item["metadata"]["annotations"][_KEY]: item for item in (*world.managed(composite), *usages)}


_KEY = "crossplane.io/composition-resource-name"


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(_contains, whole, part))
    return bool(whole == part)
