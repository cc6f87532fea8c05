"""Every kind that the compositions use, in an emulated AWS: made, looked at, changed by hand, repaired, taken away."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import boto3
import pytest

from darkroom.local import kinds
from darkroom.local.kinds import Managed, present
from darkroom.local.reconcile import Reconciler
from darkroom_contract.cluster import Alarms, Cluster, FileSystem, Models, Tenant
from darkroom_contract.names import api_key_prefix
from darkroom_contract.runtime import Runtime
from darkroom_contract.types import Engine
from darkroom_function.apis import ClusterAccessSpec, ModelRuntimeSpec, PromptApiSpec, StorageSpec
from darkroom_function.compositions import compose
from darkroom_function.gateway import api_key_secret
from darkroom_function.kinds import Kind
from tests.compositions import crds
from tests.compositions.specs import IMAGE, raw
from tests.emulator import emulated_aws

#: What a spec says that is not observed: how to delete something, whose value a key has, and what moto does not show.
UNSEEN = {
    "Bucket": {"forceDestroy"},
    "Role": {"forceDetachPolicies"},
    "APIKey": {"valueSecretRef"},
    "SecurityGroupIngressRule": {"description"},
}


class World:
    """Everything that a cluster with every feature has in AWS, in the order in which it was made."""

    def __init__(self, endpoint_url: str) -> None:
        session = boto3.Session("test", "test", region_name="eu-west-1")
        secrets = {(api_key_secret("default"), "value"): api_key_prefix("default") + uuid.uuid4().hex}
        self.aws = kinds.Aws(session, endpoint_url, secrets)
        self.reconciler = Reconciler(self.aws)
        name = f"c{uuid.uuid4().hex[:8]}"
        cluster = Cluster(
            name=name,
            account=self.aws.account,
            region="eu-west-1",
            eks_name=name,
            tenants=(Tenant(name="default", daily_quota=100),),
            alarms=Alarms(topic_arn=f"arn:aws:sns:eu-west-1:{self.aws.account}:alarms"),
        )
        with_efs = cluster.model_copy(update={"models": Models(efs=self._network())})
        runtime = Runtime(engine=Engine.SDWEBUI, checkpoint="a.safetensors")
        of_sdxl = ModelRuntimeSpec.of("sdxl", runtime, cluster, namespace="darkroom", service_account="runtime-sdxl")
        specs = {
            "buckets": ("Storage", StorageSpec.of(cluster)),
            "file system": ("Storage", StorageSpec.of(with_efs)),
            "api": (
                "PromptApi",
                PromptApiSpec(cluster=cluster.location, tenants=cluster.tenants, image=IMAGE, alarms=cluster.alarms),
            ),
            "runtime": ("ModelRuntime", of_sdxl),
            "access": ("ClusterAccess", ClusterAccessSpec.of(cluster)),
        }
        for composite, (kind, spec) in specs.items():
            self.reconciler.reconcile(composite, partial(compose, kind, raw(spec)))
        self.resources = [
            self._managed(resource)
            for composite in specs
            for resource in self.reconciler.observed(composite).values()
            if resource["kind"] in kinds.KINDS
        ]

    def _network(self) -> FileSystem:
        ec2 = self.aws.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc)["GroupId"]
        return FileSystem(vpc_id=vpc, subnet_ids=(subnet,), node_security_group_id=group)

    def _managed(self, resource: dict[str, Any]) -> Managed:
        return Managed(
            kind=resource["kind"],
            external_name=resource["metadata"]["annotations"]["crossplane.io/external-name"],
            spec=resource["resolved"],
            aws=self.aws,
            secrets=self.aws.secrets,
            observed=resource["status"]["atProvider"],
        )

    def of_kind(self, kind: str) -> Managed:
        return next(resource for resource in self.resources if resource.kind == kind)


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    with emulated_aws(with_its_policies=True) as url:
        yield url


@pytest.fixture(scope="module")
def world(endpoint_url: str) -> World:
    return World(endpoint_url)


def differences(it: Managed) -> list[str]:
    found = kinds.observe(it)
    assert found is not None
    return kinds.KINDS[it.kind].differences(replace(it, observed=found))


#: One worker runs them: they share what was made.
pytestmark = pytest.mark.xdist_group("kinds")
every_kind = pytest.mark.parametrize("kind", sorted(Kind))


def test_the_table_has_the_kinds_that_the_compositions_use_and_no_others() -> None:
    assert set(kinds.KINDS) == {kind.value for kind in Kind}


@every_kind
def test_what_was_made_is_observed_as_it_was_asked_for(world: World, kind: Kind) -> None:
    it = world.of_kind(kind)
    assert differences(it) == []
    found = kinds.observe(it)
    assert found is not None
    assert it.spec.keys() - UNSEEN.get(kind, set()) <= found.keys()


@pytest.mark.skipif(not crds.REFERENCE, reason="DARKROOM_REFERENCE is not set: no CRDs to compare with")
def test_what_is_observed_is_spelled_as_the_provider_spells_it(world: World) -> None:
    problems = {
        kind: crds.status_problems(kind.api_version, kind, present(world.of_kind(kind).observed)) for kind in Kind
    }
    assert not {kind: found for kind, found in problems.items() if found}


@every_kind
def test_what_was_made_is_not_made_again(world: World, kind: Kind) -> None:
    it = world.of_kind(kind)
    assert kinds.apply(it) == (it.external_name, kinds.observe(it))


Drift = Callable[[Managed], object]


def _queue_attributes(**attributes: str) -> Drift:
    return lambda it: it.client("sqs").set_queue_attributes(
        QueueUrl=it.spec.get("queueUrl", it.external_name), Attributes=attributes
    )


def _subscription_filter(it: Managed) -> None:
    it.client("sns").set_subscription_attributes(
        SubscriptionArn=it.external_name, AttributeName="FilterPolicy", AttributeValue='{"runtime":["other"]}'
    )


def _stage(*patches: tuple[str, str]) -> Drift:
    operations = [{"op": "replace", "path": path, "value": value} for path, value in patches]
    return lambda it: it.client("apigateway").update_stage(
        restApiId=it.spec["restApiId"], stageName=it.spec["stageName"], patchOperations=operations
    )


def _bucket(method: str, **arguments: Any) -> Drift:
    return lambda it: getattr(it.client("s3"), method)(Bucket=it.spec["bucket"], **arguments)


def _policy(statement: str) -> str:
    return f'{{"Version":"2012-10-17","Statement":[{{"Sid":"{statement}","Effect":"Deny","Action":"sns:Publish"}}]}}'


#: What somebody might do by hand to what the provider made.
DRIFT: Mapping[str, Drift] = {
    "TopicPolicy": lambda it: it.client("sns").set_topic_attributes(
        TopicArn=it.spec["arn"], AttributeName="Policy", AttributeValue=_policy("ByHand")
    ),
    "TopicSubscription": _subscription_filter,
    "Queue": _queue_attributes(VisibilityTimeout="7"),
    "QueuePolicy": _queue_attributes(Policy=_policy("ByHand")),
    "QueueRedrivePolicy": _queue_attributes(RedrivePolicy=""),
    "BucketLifecycleConfiguration": _bucket("delete_bucket_lifecycle"),
    "BucketOwnershipControls": _bucket(
        "put_bucket_ownership_controls", OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    ),
    "BucketPublicAccessBlock": _bucket(
        "put_public_access_block", PublicAccessBlockConfiguration={"BlockPublicAcls": False}
    ),
    "BucketServerSideEncryptionConfiguration": _bucket("delete_bucket_encryption"),
    "BucketVersioning": _bucket("put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"}),
    "Object": lambda it: it.client("s3").put_object(Bucket=it.spec["bucket"], Key=it.spec["key"], Body=b"by hand"),
    "Role": lambda it: it.client("iam").update_assume_role_policy(
        RoleName=it.external_name, PolicyDocument=it.spec["assumeRolePolicy"].replace("Allow", "Deny")
    ),
    "RolePolicy": lambda it: it.client("iam").put_role_policy(
        RoleName=it.spec["role"], PolicyName=it.external_name, PolicyDocument=it.spec["policy"].replace("Allow", "Deny")
    ),
    "RolePolicyAttachment": lambda it: it.client("iam").detach_role_policy(
        RoleName=it.spec["role"], PolicyArn=it.spec["policyArn"]
    ),
    "InstanceProfile": lambda it: it.client("iam").remove_role_from_instance_profile(
        InstanceProfileName=it.external_name, RoleName=it.spec["role"]
    ),
    "Group": lambda it: it.client("logs").delete_retention_policy(logGroupName=it.external_name),
    "Function": lambda it: it.client("lambda").update_function_configuration(
        FunctionName=it.external_name, Environment={"Variables": {"BY": "hand"}}
    ),
    "Permission": lambda it: it.client("lambda").remove_permission(
        FunctionName=it.spec["functionName"], StatementId=it.spec["statementId"]
    ),
    "RestAPI": lambda it: it.client("apigateway").update_rest_api(
        restApiId=it.external_name, patchOperations=[{"op": "replace", "path": "/name", "value": "by-hand"}]
    ),
    "Stage": _stage(("/tracingEnabled", "false")),
    "MethodSettings": _stage(("/*/*/throttling/rateLimit", "1"), ("/*/*/metrics/enabled", "false")),
    "APIKey": lambda it: it.client("apigateway").update_api_key(
        apiKey=it.external_name, patchOperations=[{"op": "replace", "path": "/enabled", "value": "false"}]
    ),
    "UsagePlan": lambda it: it.client("apigateway").update_usage_plan(
        usagePlanId=it.external_name,
        patchOperations=[
            {"op": "remove", "path": "/quota"},
            {"op": "replace", "path": "/throttle/rateLimit", "value": "1"},
            {"op": "add", "path": "/apiStages", "value": f"{it.spec['apiStages'][0]['apiId']}:by-hand"},
        ],
    ),
    "UsagePlanKey": lambda it: it.client("apigateway").delete_usage_plan_key(
        usagePlanId=it.spec["usagePlanId"], keyId=it.spec["keyId"]
    ),
    "Rule": lambda it: it.client("events").disable_rule(Name=it.external_name),
    "Target": lambda it: it.client("events").remove_targets(Rule=it.spec["rule"], Ids=[it.spec["targetId"]]),
    "MetricAlarm": lambda it: it.client("cloudwatch").delete_alarms(AlarmNames=[it.external_name]),
    "FileSystem": lambda it: it.client("efs").tag_resource(
        ResourceId=it.external_name, Tags=[{"Key": "Name", "Value": "by hand"}]
    ),
    "AccessPoint": lambda it: it.client("efs").tag_resource(
        ResourceId=it.external_name, Tags=[{"Key": "Name", "Value": "by hand"}]
    ),
    "SecurityGroup": lambda it: it.client("ec2").create_tags(
        Resources=[it.external_name], Tags=[{"Key": "Name", "Value": "by hand"}]
    ),
    "SecurityGroupIngressRule": lambda it: it.client("ec2").revoke_security_group_ingress(
        GroupId=it.spec["securityGroupId"], SecurityGroupRuleIds=[it.external_name]
    ),
}


@pytest.mark.parametrize("kind", sorted(DRIFT))
def test_what_is_changed_by_hand_is_seen_and_repaired(world: World, kind: str) -> None:
    it = world.of_kind(kind)
    DRIFT[kind](it)
    found = kinds.observe(it)
    assert found is None or kinds.KINDS[kind].differences(replace(it, observed=found))
    external_name, observed = kinds.apply(it)
    repaired = replace(it, external_name=external_name, observed=observed)
    assert differences(repaired) == []
    world.resources[world.resources.index(it)] = repaired


@every_kind
def test_what_aws_cannot_change_is_refused_as_the_provider_refuses_it(world: World, kind: Kind) -> None:
    it = world.of_kind(kind)
    before = kinds.observe(it)
    for field in kinds.immutable_fields(kind) & it.spec.keys() - {"valueSecretRef"}:
        asked = replace(it, spec={**it.spec, field: "other"})
        with pytest.raises(kinds.Failed, match=f'requires replacing it: cannot change .* "{field}" from .* to "other"'):
            kinds.apply(asked)
    assert kinds.observe(it) == before


def test_another_value_of_an_api_key_is_refused_and_not_shown(world: World) -> None:
    key = world.of_kind("APIKey")
    other = dict.fromkeys(key.secrets, "another-value-of-the-key")
    with pytest.raises(kinds.Failed, match='cannot change the value of the argument "valueSecretRef"') as refusal:
        kinds.apply(replace(key, secrets=other))
    assert "another-value" not in str(refusal.value)
    assert not any(value in str(refusal.value) for value in key.secrets.values())


def test_a_quota_that_is_asked_for_no_more_goes(world: World) -> None:
    plan = world.of_kind("UsagePlan")
    asked = replace(plan, spec={name: value for name, value in plan.spec.items() if name != "quotaSettings"})
    _, observed = kinds.apply(asked)
    assert observed["quotaSettings"] is None
    kinds.apply(plan)


def test_a_provider_that_may_only_observe_changes_nothing(world: World) -> None:
    queue = world.of_kind("Queue")
    asked = replace(queue, spec={**queue.spec, "visibilityTimeoutSeconds": 11})
    _, observed = kinds.apply(asked, {"Observe"})
    assert observed["visibilityTimeoutSeconds"] == queue.spec["visibilityTimeoutSeconds"]
    with pytest.raises(kinds.Failed, match="external resource does not exist"):
        kinds.apply(replace(queue, external_name=f"{queue.external_name}-of-nobody"), {"Observe"})


def test_everything_can_be_taken_away_and_is_gone_and_that_twice(endpoint_url: str) -> None:
    world = World(endpoint_url)
    for it in reversed(world.resources):
        kinds.delete(it)
        assert kinds.observe(it) is None, it.kind
        kinds.delete(it)


def test_a_role_goes_with_what_others_have_attached_to_it(endpoint_url: str) -> None:
    role = World(endpoint_url).of_kind("Role")
    role.client("iam").attach_role_policy(
        RoleName=role.external_name, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess"
    )
    kinds.delete(role)
    assert kinds.observe(role) is None


def test_aws_refuses_to_delete_what_is_in_use(world: World) -> None:
    for kind, why in {
        "Bucket": "BucketNotEmpty",
        "Deployment": "Active stages pointing to this deployment",
        "Stage": "usage plans associated",
        "Rule": "since it has targets",
    }.items():
        it = world.of_kind(kind)
        if kind == "Bucket":
            it.client("s3").put_object(Bucket=it.external_name, Key="a", Body=b"data")
        with pytest.raises(kinds.Failed, match=f"delete failed: .*{why}"):
            kinds.delete(it)
