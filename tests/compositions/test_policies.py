import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from darkroom_contract.cluster import Cluster
from darkroom_function import boundary
from tests.compositions import specs
from tests.compositions.provider import Provider, parsed, resource

#: X-Ray's actions know no resources (service authorization reference, "AWS X-Ray").
WITHOUT_RESOURCES = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
CLUSTER = Cluster.model_validate({**specs.raw(specs.CLUSTER), "inputBuckets": ["photos"]})
COMPOSED = {
    "Storage": Provider("Storage", specs.storage()).settle(),
    "PromptApi": Provider("PromptApi", specs.prompt_api()).settle(),
    "ModelRuntime": Provider("ModelRuntime", specs.model_runtime(input_buckets=CLUSTER.input_buckets)).settle(),
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
        for entry in composed.resources.values()
        for document in documents(parsed(entry.resource.for_provider))
    ]


def role_policies() -> list[list[dict[str, Any]]]:
    return [resource(COMPOSED[kind], "role-policy")["policy"]["Statement"] for kind in ("PromptApi", "ModelRuntime")]


def test_every_policy_has_a_version_and_distinct_statement_ids() -> None:
    buckets, topics, queues, roles = 3, 2, 4, 2
    assert len(all_documents()) == buckets + topics + queues + 2 * roles
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


def test_every_resource_is_named_where_aws_has_resources() -> None:
    for document in all_documents():
        for statement in document["Statement"]:
            if "*" in statement.get("Resource", ()):
                assert set(statement["Action"]) <= WITHOUT_RESOURCES


@pytest.mark.parametrize("kind", ["PromptApi", "ModelRuntime"])
def test_every_role_is_within_the_clusters_path_and_boundary(kind: str) -> None:
    role = resource(COMPOSED[kind], "role")
    assert role["path"] == "/darkroom/studio/"
    assert role["permissionsBoundary"] == "arn:aws:iam::111122223333:policy/darkroom/studio/studio-boundary"


def test_topics_queues_and_buckets_refuse_calls_without_tls() -> None:
    holders = {"TopicPolicy": 2, "QueuePolicy": 4, "BucketPolicy": 3}
    refusing = dict.fromkeys(holders, 0)
    for composed in COMPOSED.values():
        for entry in composed.resources.values():
            for document in documents(parsed(entry.resource.for_provider)):
                refusing[entry.resource.kind] = refusing.get(entry.resource.kind, 0) + sum(
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


def test_an_agent_reaches_its_own_queue_and_no_other() -> None:
    agent = role_policies()[1]
    assert allows(agent, "sqs:ReceiveMessage", "arn:aws:sqs:eu-west-1:111122223333:studio-runtime-sdxl")
    assert not allows(agent, "sqs:ReceiveMessage", "arn:aws:sqs:eu-west-1:111122223333:studio-runtime-sdxl-turbo")


def test_a_jobs_facts_have_one_writer_each() -> None:
    api, agent = role_policies()
    writers = {
        fact: [
            name
            for name, statements in (("api", api), ("agent", agent))
            if allows(
                statements,
                "s3:PutObject",
                f"arn:aws:s3:::studio-jobs-111122223333-eu-west-1/jobs/acme/picture-1/{fact}",
            )
        ]
        for fact in ("request.json", "published.json", "cancel", "state.json", "result.json")
    }
    assert writers == {
        "request.json": ["api"],
        "published.json": ["api"],
        "cancel": ["api"],
        "state.json": ["agent"],
        "result.json": ["agent"],
    }


def test_nobody_but_the_composition_writes_the_registry() -> None:
    entry = "arn:aws:s3:::studio-jobs-111122223333-eu-west-1/runtimes/sdxl.json"
    assert not any(allows(statements, "s3:PutObject", entry) for statements in role_policies())


def test_the_boundary_lets_every_role_do_what_its_policy_allows() -> None:
    fence = json.loads(boundary.document(CLUSTER))["Statement"]
    for statements in role_policies():
        for statement in statements:
            for action in statement["Action"]:
                for arn in statement["Resource"]:
                    assert allows(fence, action, arn), (action, arn)


def test_the_boundary_lets_no_role_give_itself_more() -> None:
    fence = json.loads(boundary.document(CLUSTER))["Statement"]
    assert not [action for statement in fence for action in statement["Action"] if action.startswith(("iam:", "sts:"))]


def test_the_boundary_of_a_cluster_with_the_longest_names_fits_into_a_policy() -> None:
    cluster = Cluster.model_validate(
        {
            **specs.raw(CLUSTER),
            "name": "a" * 20,
            "region": "ap-southeast-2",
            "inputBuckets": [f"{number:02}{'b' * 61}" for number in range(20)],
        }
    )
    assert len(boundary.document(cluster)) <= 6144
