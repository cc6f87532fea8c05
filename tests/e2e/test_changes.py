"""What happens to AWS when a composite is changed, removed or wrong, and when AWS was changed by hand."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from darkroom_contract.names import Bucket, Names, registry_key
from tests.e2e.controlplane import crossplane
from tests.e2e.controlplane.api import Object, Refused, condition
from tests.e2e.world import ACCOUNT, REGION, World, api_keys, changed, composite

CLUSTER = "changes"
NAMES = Names(CLUSTER, ACCOUNT, REGION)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def storage(world: World) -> Object:
    """The buckets, ready."""
    world.namespace(CLUSTER, api_keys("default", "acme"))
    storage = composite("Storage", CLUSTER, CLUSTER)
    world.apply(storage)
    return world.wait(storage)


@pytest.fixture(scope="module")
def api(world: World, storage: Object) -> Object:
    """The API and its topics, ready."""
    api = composite("PromptApi", CLUSTER, CLUSTER)
    world.apply(api)
    return world.wait(api)


@pytest.fixture
def runtime(world: World, api: Object) -> Object:
    """A runtime, ready; each test has one of its own."""
    name = f"runtime{next(_numbers)}"
    runtime = composite("ModelRuntime", name, CLUSTER, checkpoint=f"{name}.safetensors")
    world.apply(runtime)
    return world.wait(runtime)


def registered(world: World, runtime: str) -> dict[str, Any]:
    place = {"Bucket": NAMES.bucket(Bucket.JOBS), "Key": registry_key(runtime)}
    entry: dict[str, Any] = json.loads(world.client("s3").get_object(**place)["Body"].read())
    return entry


def test_a_changed_spec_changes_aws(whole_world: World, runtime: Object) -> None:
    name = runtime["metadata"]["name"]
    assert registered(whole_world, name)["accepting"] is True
    draining = changed(runtime, accepting=False)
    whole_world.apply(draining)
    whole_world.eventually(lambda: registered(whole_world, name)["accepting"] is False)


def test_what_was_changed_by_hand_is_set_right(world: World, runtime: Object) -> None:
    sqs = world.client("sqs")
    url = sqs.get_queue_url(QueueName=NAMES.runtime_queue(runtime["metadata"]["name"]))["QueueUrl"]

    def timeout() -> str:
        value: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["VisibilityTimeout"]
        return value

    before = timeout()
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
    world.eventually(lambda: timeout() == before)


def test_what_was_deleted_by_hand_is_made_again(world: World, runtime: Object) -> None:
    sns = world.client("sns")

    def subscriptions() -> list[Any]:
        topic = NAMES.topic_arn(NAMES.prompt_topic)
        queue = NAMES.queue_arn(NAMES.runtime_queue(runtime["metadata"]["name"]))
        found = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        return [item for item in found if item["Endpoint"] == queue]

    (subscription,) = subscriptions()
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    world.eventually(lambda: len(subscriptions()) == 1)


def test_a_deleted_runtime_takes_its_own_with_it_and_leaves_storage_alone(
    world: World, storage: Object, runtime: Object
) -> None:
    sqs, sns = world.client("sqs"), world.client("sns")
    name = runtime["metadata"]["name"]
    queue = NAMES.queue_arn(NAMES.runtime_queue(name))
    world.delete(runtime)
    for gone in (NAMES.runtime_queue(name), NAMES.dead_letter_queue(name)):
        with pytest.raises(ClientError, match="does not exist"):
            sqs.get_queue_url(QueueName=gone)
    left = sns.list_subscriptions_by_topic(TopicArn=NAMES.topic_arn(NAMES.prompt_topic))["Subscriptions"]
    assert queue not in [item["Endpoint"] for item in left]
    with pytest.raises(ClientError, match="NoSuchKey"):
        registered(world, name)
    with pytest.raises(ClientError, match="NoSuchEntity"):
        world.client("iam").get_role(RoleName=NAMES.runtime_role(name))
    buckets = {bucket["Name"] for bucket in world.client("s3").list_buckets()["Buckets"]}
    assert {storage["status"][field] for field in ("modelsBucket", "jobsBucket", "outputsBucket")} <= buckets
    assert condition(world.find(storage), "Ready") == "True"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"engine": "dall-e"}, "spec.engine: Unsupported value", id="an unknown engine"),
        pytest.param({"checkpoint": ""}, "spec.checkpoint", id="an empty checkpoint"),
        pytest.param({"namespace": "Not A Label"}, "spec.namespace", id="no namespace"),
        pytest.param({"name": "other"}, "metadata.name.*it has to be the runtime's name", id="another name"),
    ],
)
def test_a_wrong_spec_is_refused_when_it_is_applied(
    world: World, runtime: Object, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        world.apply(changed(runtime, **fields))


def test_a_new_function_that_composes_the_same_in_another_order_writes_nothing(
    world: World, api: Object, runtime: Object
) -> None:
    before = world.versions(api, runtime)
    with replaced_function(world, "tests.e2e.reordering_function") as upgraded:
        world.recompose(api)
        world.recompose(runtime)
        after = world.versions(api, runtime)
    assert "composed" in upgraded.process.log.read_text()
    assert after == before


def test_while_the_function_fails_all_that_there_is_stays(world: World, runtime: Object) -> None:
    with replaced_function(world, "tests.e2e.failing_function"):
        before = world.versions(runtime)
        world.apply(changed(runtime, accepting=False))
        failed = world.wait(runtime, Synced="False")
        assert world.versions(runtime) == before
        assert condition(failed, "Ready") == "True"
    name = runtime["metadata"]["name"]
    world.eventually(lambda: registered(world, name)["accepting"] is False)


def test_a_provider_that_starts_anew_makes_nothing_twice(world: World, api: Object, runtime: Object) -> None:
    if world.provider is None:
        pytest.skip("the cluster has a provider of its own, which is not ours to restart")
    before, made = world.versions(api, runtime), in_aws(world)
    world.provider.begin_anew()
    assert in_aws(world) == made
    assert world.versions(api, runtime) == before


def in_aws(world: World) -> dict[str, int]:
    """How many there are of what AWS names itself."""
    gateway, sns = world.client("apigateway"), world.client("sns")
    return {
        "APIs": len(gateway.get_rest_apis()["items"]),
        "keys": len(gateway.get_api_keys()["items"]),
        "plans": len(gateway.get_usage_plans()["items"]),
        "subscriptions": len(sns.list_subscriptions()["Subscriptions"]),
    }


@contextmanager
def replaced_function(world: World, module: str) -> Iterator[crossplane.Function]:
    """Another function in the place of the composition function, for as long as the context lasts."""
    api, processes, function = world.cluster.api, world.cluster.processes, world.cluster.function
    if processes is None or function is None:
        pytest.skip("the cluster was there before: its function is not ours to replace")
    other = crossplane.start_function(processes, api, module)
    crossplane.call_function(api, other.endpoint)
    try:
        yield other
    finally:
        crossplane.call_function(api, function.endpoint)
        other.process.stop()


def test_a_tenant_whose_secret_is_missing_is_named(whole_world: World) -> None:
    namespace = whole_world.namespace("keyless", api_keys("default"))
    keyless = composite("PromptApi", namespace, namespace)
    whole_world.apply(keyless)
    whole_world.eventually(lambda: whole_world.find(keyless).get("status", {}).get("wrongKeys") == ["acme.value"])
    assert condition(whole_world.find(keyless), "Ready") == "False"
