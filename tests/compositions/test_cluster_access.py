import json
from typing import Any

import pytest
from moto.iam.aws_managed_policies import aws_managed_policies_data

from darkroom_contract.cluster import Cluster
from darkroom_function import boundary
from darkroom_function.apis import ServiceAccount
from darkroom_function.managed import Composed
from tests.compositions import specs
from tests.compositions.provider import Provider, managed, of_kind, resource

MADE_BY_KARPENTER = {"fleet", "instance", "launch-template", "network-interface", "spot-instances-request", "volume"}


@pytest.fixture
def access() -> Provider:
    return Provider("ClusterAccess", specs.cluster_access())


def statements(composed: Composed[Any], key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = resource(composed, key)["policy"]["Statement"]
    return found


def test_charts_are_told_what_they_have_to_be_told(access: Provider) -> None:
    account = "arn:aws:iam::111122223333:role/darkroom/studio"
    assert access.settle().status.model_dump() == {
        "interruption_queue": "studio-karpenter-interruptions",
        "node_instance_profile": "studio-node",
        "node_role_arn": f"{account}/studio-node",
        "keda_role_arn": f"{account}/studio-keda",
        "karpenter_role_arn": f"{account}/studio-karpenter",
        "mountpoint_role_arn": f"{account}/studio-mountpoint",
        "janitor_role_arn": f"{account}/studio-janitor",
    }


def test_keda_measures_the_runtimes_queues_and_does_nothing_else(access: Provider) -> None:
    (statement,) = statements(access.wanted(), "keda-role-policy")
    assert statement["Action"] == ["sqs:GetQueueAttributes"]
    assert statement["Resource"] == ["arn:aws:sqs:eu-west-1:111122223333:studio-runtime-*"]


def test_mountpoint_reads_the_models_and_does_nothing_else(access: Provider) -> None:
    models = "arn:aws:s3:::studio-models-111122223333-eu-west-1"
    allowed = {
        (action, arn)
        for statement in statements(access.wanted(), "mountpoint-role-policy")
        for action in statement["Action"]
        for arn in statement["Resource"]
    }
    assert allowed == {("s3:ListBucket", models), ("s3:GetObject", f"{models}/*")}


def test_the_janitor_writes_nothing_but_answers_and_its_memory(access: Provider) -> None:
    jobs = "arn:aws:s3:::studio-jobs-111122223333-eu-west-1"
    written = {
        (action, arn)
        for statement in statements(access.wanted(), "janitor-role-policy")
        for action in statement["Action"]
        for arn in statement["Resource"]
        if action in ("s3:PutObject", "s3:DeleteObject")
    }
    assert written == {
        ("s3:PutObject", f"{jobs}/jobs/*/*/answering.json"),
        ("s3:PutObject", f"{jobs}/jobs/*/*/result.json"),
        ("s3:PutObject", f"{jobs}/janitor.json"),
        ("s3:DeleteObject", f"{jobs}/jobs/*/*/answering.json"),
    }


def test_karpenter_makes_and_changes_only_what_is_tagged_as_the_clusters(access: Provider) -> None:
    changing = ("ec2:Create", "ec2:Delete", "ec2:Run", "ec2:Terminate")
    seen = set()
    for statement in statements(access.wanted(), "karpenter-role-policy"):
        types = {arn.rpartition("/")[0].rpartition(":")[2] for arn in statement["Resource"]}
        if any(action.startswith(changing) for action in statement["Action"]) and types & MADE_BY_KARPENTER:
            assert types <= MADE_BY_KARPENTER
            tags = statement["Condition"]["StringEquals"]
            assert {tags.get(f"aws:{of}Tag/kubernetes.io/cluster/studio") for of in ("Request", "Resource")} == {
                "owned",
                None,
            }
            seen |= types
    assert seen == MADE_BY_KARPENTER


def test_karpenter_gives_instances_the_nodes_role_and_no_other(access: Provider) -> None:
    role = resource(access.wanted(), "node-instance-profile")["role"]
    (passing,) = [
        statement
        for statement in statements(access.wanted(), "karpenter-role-policy")
        if "iam:PassRole" in statement["Action"]
    ]
    assert passing["Resource"] == [f"arn:aws:iam::111122223333:role/darkroom/studio/{role}"]
    assert set(passing["Condition"]["StringEquals"]["iam:PassedToService"]) == {
        "ec2.amazonaws.com",
        "ec2.amazonaws.com.cn",
    }


def test_karpenter_cannot_make_an_instance_profile_or_a_role(access: Provider) -> None:
    allowed = {
        action
        for statement in statements(access.wanted(), "karpenter-role-policy")
        for action in statement["Action"]
        if action.startswith("iam:")
    }
    assert allowed == {"iam:PassRole", "iam:GetInstanceProfile", "iam:ListInstanceProfiles"}


def test_every_event_that_karpenter_hears_of_reaches_its_queue_and_nothing_else_does(access: Provider) -> None:
    composed = access.wanted()
    queue = "arn:aws:sqs:eu-west-1:111122223333:studio-karpenter-interruptions"
    rules = {str(resource.external_name) for resource in managed(composed) if resource.kind == "Rule"}
    targets = of_kind(composed, "Target")
    assert {target["rule"] for target in targets} == rules
    assert {target["arn"] for target in targets} == {queue}
    deliver, _ = statements(composed, "interruption-queue-policy")
    assert deliver["Principal"] == {"Service": "events.amazonaws.com"}
    assert set(deliver["Condition"]["ArnEquals"]["aws:SourceArn"]) == {
        f"arn:aws:events:eu-west-1:111122223333:rule/{rule}" for rule in rules
    }


def managed_policies() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(aws_managed_policies_data)
    return data


def test_a_nodes_boundary_leaves_it_what_awss_policies_allow_but_the_accounts_parameters(access: Provider) -> None:
    attached = [item["policyArn"].rpartition("/")[2] for item in of_kind(access.wanted(), "RolePolicyAttachment")]
    allowed = {
        action
        for name in attached
        for statement in managed_policies()[name]["Document"]["Statement"]
        for action in statement["Action"]
    }
    fence = json.loads(boundary.documents(specs.CLUSTER)["studio-node-boundary"])["Statement"]
    left = {action for statement in fence for action in statement["Action"]}
    assert allowed - left == {"ssm:GetParameter", "ssm:GetParameters"}
    assert left <= allowed


def test_instances_in_china_get_their_role_from_ec2_there() -> None:
    cluster = Cluster.model_validate({**specs.raw(specs.CLUSTER), "region": "cn-northwest-1"}).location
    composed = Provider("ClusterAccess", specs.cluster_access(cluster=cluster)).wanted()
    (trust,) = resource(composed, "node-role")["assumeRolePolicy"]["Statement"]
    assert trust["Principal"] == {"Service": "ec2.amazonaws.com.cn"}
    assert {item["policyArn"].split(":")[1] for item in of_kind(composed, "RolePolicyAttachment")} == {"aws-cn"}


@pytest.mark.parametrize("user", ["keda", "karpenter", "mountpoint", "janitor"])
def test_pods_of_another_service_account_get_the_role_before_the_old_ones_lose_it(access: Provider, user: str) -> None:
    old = of_kind(access.settle(), "PodIdentityAssociation")
    access.spec = specs.cluster_access(**{user: ServiceAccount(namespace="platform", name="other")})
    both = of_kind(access.wanted(), "PodIdentityAssociation")
    (new,) = [association for association in both if association not in old]
    assert (new["namespace"], new["serviceAccount"]) == ("platform", "other")
    assert new["roleArn"].endswith(f"/studio-{user}")
    assert len(both) == len(old) + 1
    assert access.settle().ready
    assert len(of_kind(access.wanted(), "PodIdentityAssociation")) == len(old)


def test_nodes_may_join_another_eks_cluster_before_they_may_no_longer_join_the_old_one(access: Provider) -> None:
    (old,) = of_kind(access.settle(), "AccessEntry")
    cluster = specs.CLUSTER.model_copy(update={"eks_name": "next"}).location
    access.spec = specs.cluster_access(cluster=cluster)
    new, still = of_kind(access.wanted(), "AccessEntry")
    assert (new["clusterName"], still) == ("next", old)
    assert access.settle().ready
    assert of_kind(access.wanted(), "AccessEntry") == [new]
