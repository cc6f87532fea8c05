"""What would be missed is not deleted by mistake."""

import pytest

from tests.e2e.controlplane.api import Object, Refused
from tests.e2e.world import World, api_keys, changed, composite


@pytest.mark.parametrize("kind", ["ClusterAccess", "PromptApi", "Storage"])
def test_a_composite_is_not_deleted_until_its_protection_is_lifted(world: World, kind: str) -> None:
    namespace = world.namespace(f"kept{kind.lower()}", api_keys("default", "acme"))
    protected = composite(kind, namespace, namespace)
    world.apply(protected)
    world.eventually(lambda: in_use(world.find(protected)))
    with pytest.raises(Refused, match="in-use"):
        world.delete(protected)
    world.apply(changed(protected, protected=False))
    world.eventually(lambda: not in_use(world.find(protected)))
    world.delete(protected)


def test_buckets_stay_when_all_else_goes(world: World) -> None:
    namespace = world.namespace("buckets")
    storage = composite("Storage", namespace, namespace, protected=False)
    world.apply(storage)
    status = world.wait(storage)["status"]
    world.delete(storage)
    buckets = {bucket["Name"] for bucket in world.client("s3").list_buckets()["Buckets"]}
    assert {status[field] for field in ("modelsBucket", "jobsBucket", "outputsBucket")} <= buckets


def in_use(item: Object) -> bool:
    return "crossplane.io/in-use" in item["metadata"].get("labels", {})
