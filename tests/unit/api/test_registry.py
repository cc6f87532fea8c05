"""How the function learns of runtimes, and how long it believes what it learnt."""

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from darkroom_api.registry import HIT_SECONDS, MISS_SECONDS, Registry
from darkroom_contract.names import registry_key
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.types import Engine
from tests.unit.api.conftest import JOBS, Cloud

Lookup = Callable[[Registry], RegistryEntry | None]

NEW = RegistryEntry(name="new", engine=Engine.SDWEBUI, checkpoint="new.ckpt")
LOOKUPS = pytest.mark.parametrize(
    "lookup", [lambda registry: registry.by_name("new"), lambda registry: registry.by_checkpoint("new.ckpt")]
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(cloud: Cloud, clock: Clock) -> Registry:
    return Registry(cloud.s3, JOBS, clock)


@LOOKUPS
def test_a_new_runtime_is_known_after_a_short_while(
    cloud: Cloud, registry: Registry, clock: Clock, lookup: Lookup
) -> None:
    assert lookup(registry) is None
    cloud.register(NEW)
    clock.now += MISS_SECONDS - 1
    assert lookup(registry) is None
    clock.now += 1
    assert lookup(registry) == NEW


@LOOKUPS
def test_a_change_of_a_runtime_is_known_after_a_while(
    cloud: Cloud, registry: Registry, clock: Clock, lookup: Lookup
) -> None:
    cloud.register(NEW)
    assert lookup(registry) == NEW
    closed = NEW.model_copy(update={"accepting": False})
    cloud.register(closed)
    clock.now += HIT_SECONDS - 1
    assert lookup(registry) == NEW
    clock.now += 1
    assert lookup(registry) == closed


@LOOKUPS
def test_a_runtime_that_was_removed_is_unknown_after_a_while(
    cloud: Cloud, registry: Registry, clock: Clock, lookup: Lookup
) -> None:
    cloud.register(NEW)
    assert lookup(registry) == NEW
    cloud.s3.delete_object(Bucket=JOBS, Key=registry_key("new"))
    clock.now += HIT_SECONDS
    assert lookup(registry) is None


@LOOKUPS
def test_an_old_entry_is_used_while_the_registry_cannot_be_read(
    cloud: Cloud, registry: Registry, clock: Clock, lookup: Lookup
) -> None:
    cloud.register(NEW)
    assert lookup(registry) == NEW
    remove_bucket(cloud)
    clock.now += HIT_SECONDS
    assert lookup(registry) == NEW


@LOOKUPS
def test_nothing_is_believed_of_a_runtime_while_the_registry_was_never_read(
    cloud: Cloud, registry: Registry, lookup: Lookup
) -> None:
    remove_bucket(cloud)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        lookup(registry)


@LOOKUPS
@pytest.mark.parametrize("body", ["", "{}", '{"name": "new", "engine": "midjourney", "checkpoint": "new.ckpt"}'])
def test_an_entry_that_does_not_parse_is_unknown(cloud: Cloud, registry: Registry, lookup: Lookup, body: str) -> None:
    cloud.put(registry_key("new"), body)
    assert lookup(registry) is None


def test_a_broken_entry_does_not_hide_the_others(cloud: Cloud, registry: Registry) -> None:
    cloud.put(registry_key("a-broken-one"), "{")
    cloud.register(NEW)
    assert registry.by_checkpoint("new.ckpt") == NEW


def test_an_entry_under_another_s_name_is_not_believed(cloud: Cloud, registry: Registry) -> None:
    cloud.put(registry_key("other"), NEW.to_json())
    assert registry.by_name("other") is None


def remove_bucket(cloud: Cloud) -> None:
    """Take the registry's bucket away."""
    for listed in cloud.s3.list_objects_v2(Bucket=JOBS)["Contents"]:
        cloud.s3.delete_object(Bucket=JOBS, Key=listed["Key"])
    cloud.s3.delete_bucket(Bucket=JOBS)
