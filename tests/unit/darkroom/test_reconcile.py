"""The composed resources come into being at the emulator, and follow when what was asked for changes."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import boto3
import pytest

from darkroom.local import kinds
from darkroom.local.reconcile import NotReady, Reconciler
from darkroom_contract import openapi
from darkroom_contract.cluster import ApiSettings, Cluster, Images, Retention, Tenant
from darkroom_contract.names import Bucket, api_key_prefix, registry_key
from darkroom_contract.runtime import Runtime
from darkroom_contract.types import Engine
from darkroom_function import model_runtime, prompt_api, storage
from darkroom_function.apis import ModelRuntimeSpec, PromptApiSpec, StorageSpec
from darkroom_function.gateway import api_key_secret
from darkroom_function.managed import Composed, Observed
from tests.emulator import emulated_aws

RUNTIME = Runtime(engine=Engine.SDWEBUI, checkpoint="a.safetensors")
IMAGES = Images(api=f"test/api@sha256:{0:064}")


class World:
    """An emulator, and a cluster with one runtime that was asked of it."""

    def __init__(self, endpoint_url: str) -> None:
        # The emulator's data is the whole process's, so that each test has a cluster of its own.
        name = f"c{uuid.uuid4().hex[:8]}"
        self.cluster = Cluster(name=name, account="123456789012", region="eu-west-1", eks_name=name)
        self.names = self.cluster.names
        keys = {
            (api_key_secret(tenant), "value"): f"{api_key_prefix(tenant)}-{name}-key"
            for tenant in ("default", "studio")
        }
        session = boto3.Session("test", "test", region_name=self.cluster.region)
        self._aws = kinds.Aws(session, endpoint_url, keys)
        self.reconciler = Reconciler(self._aws)
        self.ask()

    def ask(self, runtime: Runtime = RUNTIME, **cluster: Any) -> None:
        """Ask for the cluster with these fields, and for the runtime."""
        wanted = self.cluster.model_copy(update=cluster)
        self.reconciler.reconcile("storage", partial(storage.compose, StorageSpec.of(wanted)))
        self.reconciler.reconcile("api", partial(prompt_api.compose, PromptApiSpec.of(wanted, IMAGES)))
        spec = ModelRuntimeSpec.of("sdxl", runtime, wanted, namespace="runtimes", service_account="sdxl")
        self.reconciler.reconcile("runtime", partial(model_runtime.compose, spec))

    def client(self, service: str) -> Any:
        return self._aws.client(service)

    def observed(self, composite: str, kind: str) -> list[dict[str, Any]]:
        """What is observed of a composite's resources of a kind."""
        resources = self.reconciler.observed(composite).values()
        return [resource["status"]["atProvider"] for resource in resources if resource["kind"] == kind]

    def registered(self) -> Any:
        answer = self.client("s3").get_object(Bucket=self.names.bucket(Bucket.JOBS), Key=registry_key("sdxl"))
        return json.loads(answer["Body"].read())

    def function(self) -> Any:
        return self.client("lambda").get_function_configuration(FunctionName=self.names.api)

    def api_keys(self) -> dict[str, str]:
        """The API keys that AWS has, by name."""
        answer = self.client("apigateway").get_api_keys(includeValues=True, limit=500)
        return {item["name"]: item["value"] for item in answer["items"]}


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    with emulated_aws() as url:
        yield url


@pytest.fixture
def world(endpoint_url: str) -> World:
    return World(endpoint_url)


def test_a_runtime_that_stops_accepting_says_so_in_the_registry(world: World) -> None:
    assert world.registered()["accepting"] is True
    world.ask(RUNTIME.model_copy(update={"accepting": False}))
    assert world.registered()["accepting"] is False


def test_a_runtimes_new_checkpoint_is_let_through_and_registered(world: World) -> None:
    world.ask(RUNTIME.model_copy(update={"checkpoint": "b.safetensors"}))
    (subscription,) = world.observed("runtime", "TopicSubscription")
    answer = world.client("sns").get_subscription_attributes(SubscriptionArn=subscription["id"])
    attributes = answer["Attributes"]
    assert "b.safetensors" in attributes["FilterPolicy"]
    assert "a.safetensors" not in attributes["FilterPolicy"]
    assert json.loads(attributes["FilterPolicy"]) == json.loads(subscription["filterPolicy"])
    assert attributes["RawMessageDelivery"] == "true"
    assert world.registered()["checkpoint"] == "b.safetensors"


def test_a_new_tenant_gets_a_key_and_the_function_knows_it(world: World) -> None:
    name = world.names.tenant("studio")
    assert name not in world.api_keys()
    world.ask(tenants=(Tenant(name="default"), Tenant(name="studio", rate_limit=5)))
    assert world.api_keys()[name] == f"{api_key_prefix('studio')}-{world.cluster.name}-key"
    assert world.function()["Environment"]["Variables"]["TENANTS"] == "default,studio"
    assert {plan["name"]: plan["throttleSettings"]["rateLimit"] for plan in world.observed("api", "UsagePlan")} == {
        world.names.tenant("default"): 30,
        name: 5,
    }


def test_what_a_tenant_may_ask_changes_in_its_plan_and_not_its_key(world: World) -> None:
    (plan,) = world.observed("api", "UsagePlan")
    keys = world.api_keys()
    world.ask(tenants=(Tenant(name="default", rate_limit=7),))
    (changed,) = world.observed("api", "UsagePlan")
    assert changed["throttleSettings"]["rateLimit"] == 7
    assert changed["id"] == plan["id"]
    assert world.api_keys() == keys


def test_what_is_left_out_goes_and_is_observed_no_more(world: World) -> None:
    world.ask(tenants=(Tenant(name="default"), Tenant(name="studio")))
    world.ask(tenants=(Tenant(name="default"),))
    assert world.names.tenant("studio") not in world.api_keys()
    for kind in ("APIKey", "UsagePlan", "UsagePlanKey"):
        assert len(world.observed("api", kind)) == 1


def test_the_clusters_settings_reach_aws(world: World) -> None:
    world.ask(retention=Retention(jobs=20, logs=7), api=ApiSettings(timeout=5), input_buckets=("pictures",))
    assert world.function()["Timeout"] == 5
    groups = world.client("logs").describe_log_groups(logGroupNamePrefix=world.names.api_log_group)["logGroups"]
    assert [group["retentionInDays"] for group in groups] == [7]
    lifecycle = world.client("s3").get_bucket_lifecycle_configuration(Bucket=world.names.bucket(Bucket.JOBS))
    assert [rule["Expiration"]["Days"] for rule in lifecycle["Rules"] if "Expiration" in rule] == [20]
    (policy,) = world.observed("runtime", "RolePolicy")
    role, _, name = policy["id"].partition(":")
    document = world.client("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    assert "arn:aws:s3:::pictures/*" in json.dumps(document)


def test_a_new_document_gets_a_deployment_of_its_own_and_the_stage_follows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = world.observed("api", "Deployment")
    monkeypatch.setattr(openapi, "INTEGRATION_TIMEOUT_SECONDS", 20)
    world.ask()
    (new,) = world.observed("api", "Deployment")
    assert new["id"] != old["id"]
    (api,), (stage,) = world.observed("api", "RestAPI"), world.observed("api", "Stage")
    assert '"timeoutInMillis":20000' in api["body"]
    known = world.client("apigateway").get_stage(restApiId=api["id"], stageName=stage["stageName"])
    assert known["deploymentId"] == new["id"]


def test_a_composite_that_does_not_become_ready_is_said_with_what_it_waits_for(world: World) -> None:
    def waits(observed: Observed) -> Composed[Any]:
        composed = storage.compose(StorageSpec.of(world.cluster), observed)
        return replace(composed, ready=False)

    with pytest.raises(NotReady, match="storage is not ready: a resource is missing"):
        world.reconciler.reconcile("storage", waits)
