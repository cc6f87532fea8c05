import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from hypothesis import given, settings

from darkroom_contract.cluster import Cluster
from darkroom_function import boundary
from tests.compositions import specs
from tests.compositions.provider import Provider, managed, parsed, resource

CLUSTER = Cluster.model_validate({**specs.raw(specs.CLUSTER), "inputBuckets": ["photos"]})
COMPOSED = {
    "Storage": Provider("Storage", specs.storage()).settle(),
    "PromptApi": Provider("PromptApi", specs.prompt_api()).settle(),
    "ModelRuntime": Provider("ModelRuntime", specs.model_runtime(input_buckets=CLUSTER.input_buckets)).settle(),
    "ClusterAccess": Provider("ClusterAccess", specs.cluster_access()).settle(),
}


def documents(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy document in a resource."""
    if isinstance(value, dict):
        if "Statement" in value:
            yield value
        for item in value.values():
            yield from documents(item)


def all_documents() -> list[dict[str, Any]]:
    return [
        document
        for composed in COMPOSED.values()
        for item in managed(composed)
        for document in documents(parsed(item.for_provider))
    ]


def role_policies() -> list[list[dict[str, Any]]]:
    """The statements of those who write jobs: the API, a runtime's agent, and the janitor."""
    policies = (("PromptApi", "role-policy"), ("ModelRuntime", "role-policy"), ("ClusterAccess", "janitor-role-policy"))
    return [resource(COMPOSED[kind], key)["policy"]["Statement"] for kind, key in policies]


def test_every_policy_has_a_version_and_distinct_statement_ids() -> None:
    buckets, topics, queues, roles, roles_with_a_policy = 3, 2, 5, 7, 6
    assert len(all_documents()) == buckets + topics + queues + roles + roles_with_a_policy
    for document in all_documents():
        assert document["Version"] == "2012-10-17"
        ids = [statement["Sid"] for statement in document["Statement"]]
        assert len(set(ids)) == len(ids)


def test_no_policy_allows_every_action_of_a_service() -> None:
    allowed = [
        action
        for document in all_documents()
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
    ]
    assert allowed
    assert not [action for action in allowed if "*" in action]


def roles() -> dict[str, dict[str, Any]]:
    """Every role, by its name."""
    return {
        str(item.external_name): dict(item.for_provider)
        for composed in COMPOSED.values()
        for item in managed(composed)
        if item.kind == "Role"
    }


def test_every_role_is_within_the_clusters_path_and_the_boundary_of_its_actor() -> None:
    bounded = {name: role["permissionsBoundary"].rpartition("/") for name, role in roles().items()}
    assert {role["path"] for role in roles().values()} == {"/darkroom/studio/"}
    assert {path for path, _, _ in bounded.values()} == {"arn:aws:iam::111122223333:policy/darkroom/studio"}
    assert {name: policy for name, (_, _, policy) in bounded.items()} == {
        "studio-api": "studio-api-boundary",
        "studio-runtime-sdxl": "studio-runtime-boundary",
        "studio-keda": "studio-keda-boundary",
        "studio-karpenter": "studio-karpenter-boundary",
        "studio-node": "studio-node-boundary",
        "studio-mountpoint": "studio-mountpoint-boundary",
        "studio-janitor": "studio-janitor-boundary",
    }


def test_topics_queues_and_buckets_refuse_calls_without_tls() -> None:
    holders = {"TopicPolicy": 2, "QueuePolicy": 5, "BucketPolicy": 3}
    refusing = dict.fromkeys(holders, 0)
    for composed in COMPOSED.values():
        for item in managed(composed):
            for document in documents(parsed(item.for_provider)):
                refusing[item.kind] = refusing.get(item.kind, 0) + sum(
                    statement["Effect"] == "Deny"
                    and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
                    for statement in document["Statement"]
                )
    assert {kind: count for kind, count in refusing.items() if count} == holders


def allows(statements: list[dict[str, Any]], action: str, arn: str) -> bool:
    return any(
        action in statement["Action"] and any(fnmatchcase(arn, pattern) for pattern in statement["Resource"])
        for statement in statements
    )


def test_a_jobs_facts_have_one_writer_each_but_its_result() -> None:
    api, agent, janitor = role_policies()
    writers = {
        fact: [
            name
            for name, statements in (("api", api), ("agent", agent), ("janitor", janitor))
            if allows(
                statements,
                "s3:PutObject",
                f"arn:aws:s3:::studio-jobs-111122223333-eu-west-1/jobs/acme/picture-1/{fact}",
            )
        ]
        for fact in ("request.json", "published.json", "cancel", "state.json", "answering.json", "result.json")
    }
    assert writers == {
        "request.json": ["api"],
        "published.json": ["api"],
        "cancel": ["api"],
        "state.json": ["agent"],
        "answering.json": ["janitor"],
        "result.json": ["agent", "janitor"],
    }


def test_nobody_but_the_composition_writes_the_registry() -> None:
    bucket = "arn:aws:s3:::studio-jobs-111122223333-eu-west-1"
    for key in ("runtimes/sdxl.json", "workflows/sdxl/portrait.json"):
        assert not any(allows(statements, "s3:PutObject", f"{bucket}/{key}") for statements in role_policies())


def fence(role: str) -> list[dict[str, Any]]:
    """The statements of a role's boundary."""
    name = roles()[role]["permissionsBoundary"].rpartition("/")[2]
    statements: list[dict[str, Any]] = json.loads(boundary.documents(CLUSTER)[name])["Statement"]
    return statements


def test_every_boundary_lets_its_role_do_what_its_policy_allows() -> None:
    policies = [
        parsed(item.for_provider)
        for composed in COMPOSED.values()
        for item in managed(composed)
        if item.kind == "RolePolicy"
    ]
    assert {policy["role"] for policy in policies} == roles().keys() - {"studio-node"}
    for policy in policies:
        for statement in policy["policy"]["Statement"]:
            alike = [
                allowed
                for allowed in fence(policy["role"])
                if allowed.get("Condition") in (None, statement.get("Condition"))
            ]
            for action in statement["Action"]:
                for arn in statement["Resource"]:
                    assert allows(alike, action, arn), (policy["role"], action, arn)


def test_no_boundary_lets_a_role_give_itself_more() -> None:
    for role in roles():
        actions = {action for statement in fence(role) for action in statement["Action"]}
        mighty = {action for action in actions if action.startswith(("iam:", "sts:"))}
        # Karpenter gives a role to nodes, and looks for instance profiles.
        given = {"iam:GetInstanceProfile", "iam:ListInstanceProfiles", "iam:PassRole"}
        assert mighty == (given if role == "studio-karpenter" else set()), role


clusters = specs.model_runtimes.map(
    lambda runtime: Cluster.model_validate({**runtime["cluster"], "inputBuckets": runtime.get("inputBuckets", [])})
)


@settings(max_examples=50, deadline=None)
@given(clusters)
def test_every_boundary_fits_into_a_policy(cluster: Cluster) -> None:
    assert max(map(len, boundary.documents(cluster).values())) <= 6144


def test_every_boundary_of_a_cluster_with_the_longest_names_fits_into_a_policy() -> None:
    cluster = Cluster.model_validate(
        {
            **specs.raw(CLUSTER),
            "name": "a" * 20,
            "region": "us-gov-west-1",
            "eksName": "e" * 100,
            "inputBuckets": [f"{number:02}{'b' * 61}" for number in range(20)],
        }
    )
    assert max(map(len, boundary.documents(cluster).values())) <= 6144
