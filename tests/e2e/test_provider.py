"""The stand-in provider does with managed resources what Crossplane's AWS provider does."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from darkroom_contract import openapi
from darkroom_function.kinds import Kind
from tests.e2e.controlplane.api import Object, condition, is_gone
from tests.e2e.world import REGION, World

NAMESPACE = "provider"
EVERYTHING = ["Observe", "Create", "Update", "Delete"]
ALLOW = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}'
TRUST = '{"Version":"2012-10-17","Statement":[]}'


class Managed:
    """One managed resource in the cluster."""

    def __init__(self, world: World, kind: Kind, name: str) -> None:
        self.world = world
        self.place = (kind.api_version, kind.value, name, NAMESPACE)
        self.manifest: Object = {
            "apiVersion": kind.api_version,
            "kind": kind.value,
            "metadata": {"name": name, "namespace": NAMESPACE},
        }

    def ask(self, for_provider: Object, may: list[str] | None = None, annotations: Object | None = None) -> None:
        metadata = {**self.manifest["metadata"], "annotations": annotations or {}}
        place = {} if self.place[0].startswith("iam.") else {"region": REGION}
        spec = {"managementPolicies": may or EVERYTHING, "forProvider": {**place, **for_provider}}
        self.world.cluster.api.apply({**self.manifest, "metadata": metadata, "spec": spec})

    def wait(self, until: Callable[[Object], bool]) -> Object:
        return self.world.cluster.api.wait(*self.place, until)

    def wait_for(self, **conditions: str) -> Object:
        """Wait until it has these conditions, as they are now."""
        return self.wait(
            lambda item: all(
                condition(item, kind) == status and _of(item, kind)["observedGeneration"] == _generation(item)
                for kind, status in conditions.items()
            )
        )

    def ready(self) -> Object:
        return self.wait_for(Ready="True", Synced="True")

    def refused(self) -> str:
        """Wait until something of it is refused; why."""
        message: str = _of(self.wait_for(Synced="False"), "Synced")["message"]
        return message

    def delete(self) -> None:
        self.world.cluster.api.delete(*self.place)

    def gone(self) -> None:
        self.wait(is_gone)


def _of(item: Object, kind: str) -> Object:
    return next((each for each in item.get("status", {}).get("conditions", ()) if each["type"] == kind), {})


def _generation(item: Object) -> Any:
    return item.get("metadata", {}).get("generation")


@pytest.fixture(scope="module", autouse=True)
def namespace(world: World) -> None:
    if world.services:
        pytest.skip("the cluster has a provider of its own: there is no stand-in to test")
    world.namespace(NAMESPACE)


def queue_exists(world: World, name: str) -> bool:
    try:
        world.client("sqs").get_queue_url(QueueName=name)
    except ClientError:
        return False
    return True


def visibility_timeout(world: World, url: str) -> str:
    answer = world.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    timeout: str = answer["Attributes"]["VisibilityTimeout"]
    return timeout


def test_what_is_asked_for_comes_to_be_in_aws_and_the_object_says_so(world: World) -> None:
    queue = Managed(world, Kind.QUEUE, "made")
    queue.ask({"name": "made", "visibilityTimeoutSeconds": 31})
    item = queue.ready()
    url = world.client("sqs").get_queue_url(QueueName="made")["QueueUrl"]
    assert item["metadata"]["finalizers"] == ["finalizer.managedresource.crossplane.io"]
    assert item["status"]["atProvider"]["id"] == url
    assert item["status"]["atProvider"]["arn"].endswith(":made")
    assert item["status"]["atProvider"]["visibilityTimeoutSeconds"] == 31
    assert _of(item, "Ready")["reason"] == "Available"
    assert _of(item, "Synced")["reason"] == "ReconcileSuccess"


def test_a_name_that_aws_gives_is_noted_only_where_the_provider_may_late_initialize(world: World) -> None:
    def name_of(queue: Managed) -> str | None:
        name: str | None = queue.ready()["metadata"].get("annotations", {}).get("crossplane.io/external-name")
        return name

    queue, other = Managed(world, Kind.QUEUE, "late"), Managed(world, Kind.QUEUE, "never-late")
    queue.ask({"name": "late"}, may=[*EVERYTHING, "LateInitialize"])
    other.ask({"name": "never-late"})
    assert name_of(queue) == world.client("sqs").get_queue_url(QueueName="late")["QueueUrl"]
    assert name_of(other) is None


def test_a_changed_spec_changes_aws(world: World) -> None:
    queue = Managed(world, Kind.QUEUE, "changed")
    queue.ask({"name": "changed", "visibilityTimeoutSeconds": 31})
    before = queue.ready()
    queue.ask({"name": "changed", "visibilityTimeoutSeconds": 32})
    after = queue.wait(lambda item: item["status"]["atProvider"]["visibilityTimeoutSeconds"] == 32)
    assert visibility_timeout(world, after["status"]["atProvider"]["id"]) == "32"
    assert _of(after, "Ready")["lastTransitionTime"] == _of(before, "Ready")["lastTransitionTime"]


def test_what_is_changed_by_hand_is_set_right_and_an_object_at_rest_is_not_written(world: World) -> None:
    queue = Managed(world, Kind.QUEUE, "at-rest")
    queue.ask({"name": "at-rest", "visibilityTimeoutSeconds": 31})
    url = queue.ready()["status"]["atProvider"]["id"]
    versions = set()
    for _ in range(3):
        world.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
        world.eventually(lambda: visibility_timeout(world, url) == "31")
        versions.add(queue.ready()["metadata"]["resourceVersion"])
    assert len(versions) == 1


def test_what_is_referred_to_is_waited_for_and_written_beside_the_reference(world: World) -> None:
    deployment = Managed(world, Kind.DEPLOYMENT, "refers")
    deployment.ask({"restApiIdRef": {"name": "referred-to", "policy": {"resolve": "Always"}}})
    assert deployment.refused() == 'cannot resolve references: spec.forProvider.restApiId: "referred-to" not found'
    api = Managed(world, Kind.REST_API, "referred-to")
    body = openapi.text("arn:aws:apigateway:eu-west-1:lambda:path/function/invocations", "referred-to")
    api.ask({"name": "referred-to", "body": body, "endpointConfiguration": {"types": ["REGIONAL"]}})
    api_id = api.ready()["status"]["atProvider"]["id"]
    item = deployment.ready()
    assert item["spec"]["forProvider"]["restApiId"] == api_id
    assert item["status"]["atProvider"]["restApiId"] == api_id


def test_a_secret_that_is_not_there_is_passed_over_and_comes_too_late(world: World) -> None:
    key = Managed(world, Kind.API_KEY, "secret")
    key.ask({"name": "secret", "valueSecretRef": {"name": "the-key", "key": "value"}})
    key_id = key.ready()["status"]["atProvider"]["id"]
    assert world.client("apigateway").get_api_key(apiKey=key_id, includeValue=True)["value"]
    world.namespace(NAMESPACE, {"the-key": "k" * 40})
    assert "cannot change the value of the argument" in key.refused()


def test_what_aws_cannot_change_is_refused_and_stays_ready(world: World) -> None:
    queue = Managed(world, Kind.QUEUE, "immutable")
    queue.ask({"name": "immutable", "visibilityTimeoutSeconds": 31})
    queue.ready()
    queue.ask({"name": "other", "visibilityTimeoutSeconds": 31})
    assert queue.refused() == (
        "update failed: refuse to update the external resource because the following update requires replacing it: "
        'cannot change the value of the argument "name" from "immutable" to "other"'
    )
    assert condition(queue.wait(bool), "Ready") == "True"
    queue.ask({"name": "immutable", "visibilityTimeoutSeconds": 31})
    queue.ready()
    assert not queue_exists(world, "other")


def test_what_is_deleted_goes_from_aws_unless_that_is_not_allowed(world: World) -> None:
    queue, kept = Managed(world, Kind.QUEUE, "deleted"), Managed(world, Kind.QUEUE, "kept")
    queue.ask({"name": "deleted"})
    kept.ask({"name": "kept"}, may=["Observe", "Create", "Update"])
    for item in (queue, kept):
        item.ready()
        item.delete()
        item.gone()
    assert not queue_exists(world, "deleted")
    assert queue_exists(world, "kept")


def test_what_is_in_use_goes_once_it_is_used_no_more(world: World) -> None:
    boundary = "arn:aws:iam::111122223333:policy/boundary"
    role, policy = Managed(world, Kind.ROLE, "in-use"), Managed(world, Kind.ROLE_POLICY, "uses")
    role.ask({"assumeRolePolicy": TRUST, "path": "/", "permissionsBoundary": boundary})
    role.ready()
    policy.ask({"role": "in-use", "policy": ALLOW})
    policy.ready()
    role.delete()
    assert "DeleteConflict" in role.refused()
    policy.delete()
    policy.gone()
    role.gone()


def test_what_may_only_be_observed_is_not_changed(world: World) -> None:
    url = world.client("sqs").create_queue(QueueName="observed", Attributes={"VisibilityTimeout": "5"})["QueueUrl"]
    queue = Managed(world, Kind.QUEUE, "observed")
    queue.ask(
        {"name": "observed", "visibilityTimeoutSeconds": 31},
        may=["Observe"],
        annotations={"crossplane.io/external-name": url},
    )
    assert queue.ready()["status"]["atProvider"]["visibilityTimeoutSeconds"] == 5
    nothing = Managed(world, Kind.TOPIC, "nothing")
    nothing.ask({}, may=["Observe"])
    assert nothing.refused() == "observe failed: external resource does not exist"
    queue.delete()
    queue.gone()
    assert queue_exists(world, "observed")


def test_what_is_paused_is_left_alone(world: World) -> None:
    queue = Managed(world, Kind.QUEUE, "paused")
    queue.ask({"name": "paused"}, annotations={"crossplane.io/paused": "true"})
    item = queue.wait_for(Synced="False")
    assert _of(item, "Synced")["reason"] == "ReconcilePaused"
    assert not queue_exists(world, "paused")
    queue.ask({"name": "paused"})
    queue.ready()
