"""Crossplane's AWS providers may make all that the compositions ask for, and cannot move their own fence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom_contract.cluster import FileSystem, Models
from darkroom_contract.names import Actor, Bucket
from darkroom_function import policy, provider_permissions
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed
from tests.permissions import iam_reference
from tests.permissions.evaluator import Call, Decision, Policies, Value, decide
from tests.permissions.system import FILES, NAMES, RESOURCES

CLUSTER = FILES.cluster
EFS = Models(
    efs=FileSystem(vpc_id="vpc-01234567", subnet_ids=("subnet-01234567",), node_security_group_id="sg-01234567")
)
ROLE = NAMES.own_role_arn(NAMES.provider_role)
POLICIES = Policies(
    identity={ROLE: policy.document(*provider_permissions.provider(CLUSTER))},
    boundaries={ROLE: policy.document(*provider_permissions.boundary(CLUSTER))},
)
EKS = f"arn:aws:eks:{NAMES.region}:{NAMES.account}"
NODE_BOUNDARY = NAMES.permissions_boundary_arn(Actor.NODE)


def is_allowed(action: str, resource: str, **keys: Value) -> bool:
    """Whether they may; a condition's key is written with an underscore for its colon."""
    asked: dict[str, Value] = dict.fromkeys(
        (
            *("aws:RequestedRegion", "aws:SecureTransport", "aws:SourceArn"),
            *("eks:accessEntryType", "eks:principalArn"),
            *("iam:PassedToService", "iam:PermissionsBoundary", "iam:PolicyARN"),
        )
    )
    asked |= {key.replace("_", ":", 1): value for key, value in keys.items()}
    return decide(Call(ROLE, action, resource, frozenset(asked.items())), POLICIES) is Decision.ALLOWED


def calls(item: Managed) -> Iterator[tuple[str, str, dict[str, Value]]]:
    """What Terraform's provider asks AWS for to make, read, change, tag and delete a resource: each action, on what.

    By the source of hashicorp/terraform-provider-aws. A bucket is never deleted.
    """
    for actions, resource, keys in _of_kind(item):
        for action in actions.split():
            service, _, names = action.partition(":")
            for name in names.split(","):
                yield f"{service}:{name}", resource, keys


_Asked: TypeAlias = Iterator[tuple[str, str, dict[str, Value]]]


def _of_kind(item: Managed) -> _Asked:
    return _SERVICES[item.kind.service](
        item, item.for_provider, str(item.external_name or item.for_provider.get("name", ""))
    )


def _sns(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    topic = spec.get("arn") or spec.get("topicArn") or NAMES.topic_arn(name)
    yield "sns:CreateTopic,GetTopicAttributes,SetTopicAttributes,ListTagsForResource,TagResource", topic, {}
    yield "sns:DeleteTopic,UntagResource,Subscribe", topic, {}
    yield "sns:GetSubscriptionAttributes,SetSubscriptionAttributes,Unsubscribe", f"{topic}:{'0' * 8}", {}


def _sqs(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    queue = NAMES.queue_arn(str(spec.get("queueUrl") or spec["name"]).rpartition("/")[2])
    yield "sqs:CreateQueue,GetQueueAttributes,SetQueueAttributes,GetQueueUrl,DeleteQueue", queue, {}
    yield "sqs:ListQueueTags,TagQueue,UntagQueue", queue, {}


def _s3(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    bucket = NAMES.bucket_arn(str(spec.get("bucket") or name))
    if item.kind is Kind.OBJECT:
        yield (
            "s3:PutObject,GetObject,DeleteObject,GetObjectTagging,PutObjectTagging",
            f"{bucket}/{spec['key']}",
            {},
        )
    else:
        yield f"s3:{_BUCKET_READS}", bucket, {}
        yield f"s3:{_BUCKET_WRITES}", bucket, {}


def _iam(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    boundary: dict[str, Value] = {"iam_PermissionsBoundary": NODE_BOUNDARY}
    role = NAMES.role_arn(str(spec.get("role") or name))
    if item.kind is Kind.INSTANCE_PROFILE:
        profile = NAMES.instance_profile_arn(f"{NAMES.role_path[1:]}{name}")
        yield (
            "iam:CreateInstanceProfile,GetInstanceProfile,DeleteInstanceProfile,TagInstanceProfile",
            profile,
            {},
        )
        yield "iam:AddRoleToInstanceProfile,RemoveRoleFromInstanceProfile,UntagInstanceProfile", profile, {}
        yield "iam:PassRole", role, {"iam_PassedToService": "ec2.amazonaws.com"}
    elif item.kind is Kind.ROLE_POLICY_ATTACHMENT:
        yield "iam:AttachRolePolicy", role, {**boundary, "iam_PolicyARN": spec["policyArn"]}
        yield "iam:ListAttachedRolePolicies,DetachRolePolicy", role, boundary
    else:
        yield "iam:CreateRole,PutRolePermissionsBoundary,PutRolePolicy", role, boundary
        yield "iam:GetRole,UpdateRole,UpdateAssumeRolePolicy,DeleteRole,TagRole,UntagRole", role, boundary
        yield "iam:ListRolePolicies,ListAttachedRolePolicies,ListInstanceProfilesForRole", role, boundary
        yield "iam:GetRolePolicy,DeleteRolePolicy", role, boundary


def _eks(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    cluster = f"{EKS}:cluster/{spec['clusterName']}"
    if item.kind is Kind.ACCESS_ENTRY:
        entry = f"{EKS}:access-entry/{spec['clusterName']}/role/{NAMES.account}/{NAMES.role(Actor.NODE)}/0"
        nodes = {"eks_accessEntryType": "EC2_LINUX", "eks_principalArn": spec["principalArn"]}
        yield "eks:CreateAccessEntry", cluster, nodes
        yield "eks:DescribeAccessEntry,UpdateAccessEntry,DeleteAccessEntry,TagResource,UntagResource", entry, {}
    else:
        one = f"{EKS}:podidentityassociation/{spec['clusterName']}/a-1"
        yield "eks:CreatePodIdentityAssociation", cluster, {}
        yield "eks:DescribePodIdentityAssociation,UpdatePodIdentityAssociation", one, {}
        yield "eks:DeletePodIdentityAssociation,TagResource,UntagResource,ListTagsForResource", one, {}
        yield "iam:PassRole", spec["roleArn"], {"iam_PassedToService": "pods.eks.amazonaws.com"}


def _cloudwatchevents(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    rule = NAMES.event_rule_arn(str(spec.get("rule") or name))
    yield "events:PutRule,DescribeRule,DeleteRule,EnableRule,DisableRule,ListTagsForResource", rule, {}
    yield "events:PutTargets,ListTargetsByRule,RemoveTargets,TagResource,UntagResource", rule, {}


def _cloudwatchlogs(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    group = NAMES.log_group_arn(name)
    yield "logs:CreateLogGroup,PutRetentionPolicy,DeleteRetentionPolicy,DeleteLogGroup", group, {}
    yield "logs:TagResource,UntagResource,ListTagsForResource", group.removesuffix(":*"), {}
    yield "logs:DescribeLogGroups", "*", {}


def _cloudwatch(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    alarm = NAMES.alarm_arn(name)
    yield "cloudwatch:PutMetricAlarm,DescribeAlarms,DeleteAlarms,TagResource,ListTagsForResource", alarm, {}


def _lambda(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    function = NAMES.api_function_arn
    yield "lambda:CreateFunction,GetFunction,UpdateFunctionCode,UpdateFunctionConfiguration", function, {}
    yield "lambda:GetFunctionConfiguration,GetFunctionCodeSigningConfig,DeleteFunction", function, {}
    yield "lambda:ListVersionsByFunction,TagResource,UntagResource,ListTags", function, {}
    yield "lambda:PutFunctionConcurrency,DeleteFunctionConcurrency,GetFunctionConcurrency", function, {}
    yield "lambda:AddPermission,RemovePermission,GetPolicy", function, {}
    yield "ecr:BatchGetImage,GetDownloadUrlForLayer", NAMES.image_repository_arn("api"), {}
    yield "iam:PassRole", NAMES.role_arn(NAMES.role(Actor.API)), {"iam_PassedToService": "lambda.amazonaws.com"}


def _apigateway(item: Managed, spec: dict[str, Any], name: str) -> _Asked:
    of = {Kind.API_KEY: "apikeys", Kind.USAGE_PLAN: "usageplans", Kind.USAGE_PLAN_KEY: "usageplans"}
    path = of.get(item.kind, "restapis")
    gateway = f"arn:aws:apigateway:{NAMES.region}::"
    yield "apigateway:POST", f"{gateway}/{path}", {}
    yield "apigateway:GET,PATCH,PUT,DELETE,POST", f"{gateway}/{path}/abc123", {}
    yield "apigateway:GET,PUT,DELETE", f"{gateway}/tags/arn%3Aaws%3Aapigateway%3A", {}


_SERVICES: dict[str, Callable[[Managed, dict[str, Any], str], _Asked]] = {
    "sns": _sns,
    "sqs": _sqs,
    "s3": _s3,
    "iam": _iam,
    "eks": _eks,
    "cloudwatchevents": _cloudwatchevents,
    "cloudwatchlogs": _cloudwatchlogs,
    "cloudwatch": _cloudwatch,
    "lambda": _lambda,
    "apigateway": _apigateway,
}
_BUCKET_READS = (
    "ListBucket,GetBucketAcl,GetBucketCORS,GetBucketLocation,GetBucketLogging,GetBucketObjectLockConfiguration,"
    "GetBucketOwnershipControls,GetBucketPolicy,GetBucketPublicAccessBlock,GetBucketRequestPayment,GetBucketTagging,"
    "GetBucketVersioning,GetBucketWebsite,GetAccelerateConfiguration,GetEncryptionConfiguration,"
    "GetLifecycleConfiguration,GetReplicationConfiguration,ListTagsForResource"
)
_BUCKET_WRITES = (
    "CreateBucket,PutBucketOwnershipControls,PutBucketPolicy,PutBucketPublicAccessBlock,PutBucketTagging,"
    "PutBucketVersioning,PutEncryptionConfiguration,PutLifecycleConfiguration,TagResource,UntagResource"
)


@pytest.mark.parametrize("kind", sorted({item.kind for item in RESOURCES}))
def test_they_may_make_whatever_the_compositions_ask_for(kind: Kind) -> None:
    of_kind = [item for item in RESOURCES if item.kind is kind]
    refused = [call for item in of_kind for call in calls(item) if not is_allowed(call[0], call[1], **call[2])]
    assert refused == []


# The fence


@pytest.mark.parametrize(
    "boundary",
    [None, "arn:aws:iam::123456789012:policy/mine", NAMES.own_policy_arn(NAMES.provider_boundary)],
)
@pytest.mark.parametrize("action", ["CreateRole", "PutRolePolicy", "PutRolePermissionsBoundary"])
def test_no_role_is_made_or_changed_without_one_of_the_clusters_boundaries(action: str, boundary: str | None) -> None:
    role = NAMES.role_arn(NAMES.runtime_role("sdxl"))
    assert is_allowed(f"iam:{action}", role, iam_PermissionsBoundary=NODE_BOUNDARY)
    assert not is_allowed(f"iam:{action}", role, iam_PermissionsBoundary=boundary)


@pytest.mark.parametrize(
    "role",
    [
        ROLE,
        NAMES.own_role_arn(NAMES.crossplane_role),
        NAMES.github_role_arn,
        "arn:aws:iam::123456789012:role/admin",
        NAMES.role_arn("x").replace(f"/{NAMES.cluster}/", "/another/"),
    ],
)
def test_their_own_role_and_those_of_others_are_out_of_reach(role: str) -> None:
    verbs = (
        "CreateRole",
        "PutRolePolicy",
        "AttachRolePolicy",
        "UpdateAssumeRolePolicy",
        "DeleteRolePolicy",
        "PassRole",
    )
    keys: dict[str, Value] = {
        "iam_PermissionsBoundary": NODE_BOUNDARY,
        "iam_PolicyARN": NAMES.aws_policy_arn("AmazonEKSWorkerNodePolicy"),
        "iam_PassedToService": "ec2.amazonaws.com",
    }
    assert [verb for verb in verbs if is_allowed(f"iam:{verb}", role, **keys)] == []


def test_no_policy_is_made_or_changed_and_no_boundary_is_taken_away() -> None:
    verbs = ("CreatePolicy", "CreatePolicyVersion", "SetDefaultPolicyVersion", "DeletePolicy", "DeletePolicyVersion")
    policies = (NODE_BOUNDARY, NAMES.own_policy_arn(NAMES.provider_boundary), "arn:aws:iam::123456789012:policy/mine")
    assert not [(verb, arn) for verb in verbs for arn in policies if is_allowed(f"iam:{verb}", arn)]
    role = NAMES.role_arn(NAMES.role(Actor.KEDA))
    assert not is_allowed("iam:DeleteRolePermissionsBoundary", role, iam_PermissionsBoundary=NODE_BOUNDARY)
    everything = NAMES.aws_policy_arn("AdministratorAccess")
    assert not is_allowed("iam:AttachRolePolicy", role, iam_PermissionsBoundary=NODE_BOUNDARY, iam_PolicyARN=everything)


def test_nobody_but_the_nodes_is_let_into_the_cluster() -> None:
    cluster, admin = NAMES.eks_cluster_arn(CLUSTER.eks_name), "arn:aws:iam::123456789012:role/admin"
    node = NAMES.role_arn(NAMES.role(Actor.NODE))
    for kind, principal in (("STANDARD", node), ("EC2_LINUX", admin)):
        assert not is_allowed("eks:CreateAccessEntry", cluster, eks_accessEntryType=kind, eks_principalArn=principal)
    entry = f"{EKS}:access-entry/{CLUSTER.eks_name}/role/{NAMES.account}/admin/0"
    for action in ("AssociateAccessPolicy", "UpdateAccessEntry", "DeleteAccessEntry"):
        assert not is_allowed(f"eks:{action}", entry)
    assert not is_allowed("eks:DeleteCluster", cluster)


@pytest.mark.parametrize("bucket", Bucket)
def test_data_can_neither_be_read_nor_lost(bucket: Bucket) -> None:
    arn = NAMES.bucket_arn(NAMES.bucket(bucket))
    assert not is_allowed("s3:DeleteBucket", arn)
    for key in ("jobs/default/a/request.json", "inputs/a.png", "checkpoints/a.safetensors"):
        for verb in ("GetObject", "PutObject", "DeleteObject"):
            assert not is_allowed(f"s3:{verb}", f"{arn}/{key}")


def test_what_belongs_to_another_cluster_is_out_of_reach() -> None:
    another = NAMES.queue_arn("another-runtime-sdxl")
    assert not is_allowed("sqs:DeleteQueue", another)
    assert not is_allowed("sns:DeleteTopic", NAMES.topic_arn("another-prompts"))
    assert not is_allowed("lambda:UpdateFunctionCode", NAMES.api_function_arn.replace(NAMES.api, "another-api"))


# The documents


@pytest.mark.parametrize("models", [CLUSTER.models, EFS])
def test_every_action_exists_and_has_a_resource_and_knows_its_conditions(models: Models) -> None:
    wrong = []
    for statement in provider_permissions.provider(CLUSTER.model_copy(update={"models": models})):
        found: dict[str, Any] = json.loads(json.dumps(statement))
        keys = [key for block in found.get("Condition", {}).values() for key in block]
        for action in (action for action in found["Action"] if "*" not in action):
            takes = any(iam_reference.takes(action, arn) for arn in found["Resource"])
            if not iam_reference.exists(action) or not takes:
                wrong.append((found["Sid"], action))
            wrong += [(action, key) for key in keys if not iam_reference.knows(action, key)]
    assert wrong == []


@settings(max_examples=30, deadline=None)
@given(name=st.integers(1, 20), eks_name=st.integers(1, 100), models=st.sampled_from([CLUSTER.models, EFS]))
def test_they_fit_into_iam_whatever_the_cluster_is_called(name: int, eks_name: int, models: Models) -> None:
    changed = {"name": "a" * name, "eks_name": "e" * eks_name, "region": "ap-southeast-1", "models": models}
    cluster = CLUSTER.model_copy(update=changed)
    # IAM user guide, "IAM and AWS STS quotas": a role's own policies, and a managed policy.
    assert len(policy.document(*provider_permissions.provider(cluster))) <= 10240
    assert len(policy.document(*provider_permissions.boundary(cluster))) <= 6144


def test_the_boundary_leaves_out_nothing_that_they_may_do() -> None:
    cluster = CLUSTER.model_copy(update={"models": EFS})
    allowed, bound = provider_permissions.provider(cluster), provider_permissions.boundary(cluster)
    boundary = Policies(identity={ROLE: policy.document(*({**each, "Condition": {}} for each in bound))})
    left_out = [
        (action, arn)
        for statement in allowed
        for action in json.loads(json.dumps(statement["Action"]))
        for arn in json.loads(json.dumps(statement["Resource"]))
        if decide(Call(ROLE, action.replace("*", "x"), arn.replace("*", "x")), boundary) is not Decision.ALLOWED
    ]
    assert left_out == []
