"""What holds data is not deleted by mistake."""

import pytest

from tests.e2e.controlplane.api import Refused
from tests.e2e.test_changes import changed
from tests.e2e.world import World, composite


def test_storage_is_not_deleted_until_its_protection_is_lifted_and_its_buckets_never(world: World) -> None:
    namespace = world.namespace("protection")
    storage = composite("Storage", namespace, namespace)
    world.apply(storage)
    ready = world.wait(storage)
    with pytest.raises(Refused, match="in-use"):
        world.delete(storage)
    world.apply(changed(storage, protected=False))
    world.eventually(lambda: "crossplane.io/in-use" not in world.find(storage)["metadata"].get("labels", {}))
    world.delete(storage)
    buckets = {bucket["Name"] for bucket in world.client("s3").list_buckets()["Buckets"]}
    assert {ready["status"][field] for field in ("modelsBucket", "jobsBucket", "outputsBucket")} <= buckets
