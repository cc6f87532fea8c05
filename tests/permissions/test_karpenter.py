"""Karpenter starts, tags and ends the nodes of its own cluster, and those of no other."""

from typing import Any

import pytest

from darkroom_contract.names import Actor
from tests.permissions.evaluator import Call, Decision, Value, decide
from tests.permissions.system import COMPOSED, FILES, NAMES

KARPENTER, NODE = (NAMES.role_arn(NAMES.role(actor)) for actor in (Actor.KARPENTER, Actor.NODE))
EKS = FILES.cluster.eks_name
#: What Karpenter tags all that it makes with.
OWN = {f"kubernetes.io/cluster/{EKS}": "owned", "eks:eks-cluster-name": EKS, "karpenter.sh/nodepool": "gpu"}
EC2 = f"arn:aws:ec2:{NAMES.region}:{NAMES.account}"
INSTANCE, TEMPLATE = f"{EC2}:instance/i-0123", f"{EC2}:launch-template/lt-0123"
EC2_SERVICE = "ec2.amazonaws.com"


def is_allowed(
    action: str, resource: str, asked: dict[str, str] | None = None, has: dict[str, str] | None = None, **keys: Value
) -> bool:
    """Whether it may do so, with the tags that it asks for and those that the resource has."""
    context: dict[str, Value] = {
        **{f"aws:RequestTag/{tag}": (asked or {}).get(tag) for tag in OWN},
        **{f"aws:ResourceTag/{tag}": (has or {}).get(tag) for tag in OWN},
        "aws:TagKeys": tuple(asked or ()) or None,
        "aws:RequestedRegion": keys.get("region", NAMES.region),
        "aws:SecureTransport": "true",
        "aws:SourceArn": None,
        "ec2:CreateAction": keys.get("creating"),
        "iam:PassedToService": keys.get("service"),
    }
    return decide(Call(KARPENTER, action, resource, frozenset(context.items())), COMPOSED) is Decision.ALLOWED


@pytest.mark.parametrize("kind", ["instance", "volume", "network-interface", "spot-instances-request", "fleet"])
@pytest.mark.parametrize("missing", OWN)
def test_what_it_starts_is_tagged_as_its_clusters(kind: str, missing: str) -> None:
    action = "ec2:CreateFleet" if kind == "fleet" else "ec2:RunInstances"
    assert is_allowed(action, f"{EC2}:{kind}/*", asked=OWN)
    assert not is_allowed(action, f"{EC2}:{kind}/*", asked={tag: OWN[tag] for tag in OWN if tag != missing})


@pytest.mark.parametrize(
    "resource",
    [
        f"{EC2}:subnet/subnet-1",
        f"{EC2}:security-group/sg-1",
        f"arn:aws:ec2:{NAMES.region}::image/ami-1",
        f"arn:aws:ec2:{NAMES.region}::snapshot/snap-1",
    ],
)
def test_it_starts_nodes_of_what_is_there(resource: str) -> None:
    assert is_allowed("ec2:RunInstances", resource)
    assert not is_allowed("ec2:TerminateInstances", resource)


def test_it_makes_uses_and_deletes_templates_of_its_own() -> None:
    assert is_allowed("ec2:CreateLaunchTemplate", f"{EC2}:launch-template/*", asked=OWN)
    for action in ("ec2:RunInstances", "ec2:CreateFleet", "ec2:DeleteLaunchTemplate"):
        assert is_allowed(action, TEMPLATE, has=OWN)
        assert not is_allowed(action, TEMPLATE, has={"karpenter.sh/nodepool": "gpu"})


@pytest.mark.parametrize("other", [{}, {"karpenter.sh/nodepool": "gpu"}, {f"kubernetes.io/cluster/{EKS}": "shared"}])
def test_it_ends_its_own_nodes_alone(other: dict[str, str]) -> None:
    assert is_allowed("ec2:TerminateInstances", INSTANCE, has=OWN)
    assert not is_allowed("ec2:TerminateInstances", INSTANCE, has=other)


def test_it_tags_what_it_makes_and_names_its_nodes() -> None:
    assert is_allowed("ec2:CreateTags", INSTANCE, asked=OWN, creating="RunInstances")
    assert not is_allowed("ec2:CreateTags", INSTANCE, asked=OWN)
    name: dict[str, Any] = {"Name": "a", "karpenter.sh/nodeclaim": "a"}
    assert is_allowed("ec2:CreateTags", INSTANCE, asked=name, has=OWN)
    assert not is_allowed("ec2:CreateTags", INSTANCE, asked=name)
    assert not is_allowed("ec2:CreateTags", INSTANCE, asked={**name, "owner": "a"}, has=OWN)


def test_it_gives_nodes_their_role_and_nothing_else_any() -> None:
    assert is_allowed("iam:PassRole", NODE, service=EC2_SERVICE)
    assert not is_allowed("iam:PassRole", NODE, service="lambda.amazonaws.com")
    assert not is_allowed("iam:PassRole", KARPENTER, service=EC2_SERVICE)


def test_it_looks_around_in_its_own_region() -> None:
    assert is_allowed("ec2:DescribeInstances", "*")
    assert not is_allowed("ec2:DescribeInstances", "*", region="eu-north-1")
    assert is_allowed("pricing:GetProducts", "*", region="eu-north-1")
    assert is_allowed("eks:DescribeCluster", NAMES.eks_cluster_arn(EKS))
    assert not is_allowed("eks:DescribeCluster", NAMES.eks_cluster_arn("another"))
    profiles = f"arn:aws:iam::{NAMES.account}:instance-profile/karpenter/{NAMES.region}"
    assert is_allowed("iam:ListInstanceProfiles", f"{profiles}/{EKS}/")
    assert not is_allowed("iam:ListInstanceProfiles", f"{profiles}/another/")


def test_it_hears_of_interruptions() -> None:
    for action in ("sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:DeleteMessage"):
        assert is_allowed(action, NAMES.queue_arn(NAMES.interruption_queue))
        assert not is_allowed(action, NAMES.queue_arn(NAMES.result_topic))
