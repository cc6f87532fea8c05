"""Which specs the API server takes, and in what words it refuses the others."""

from typing import Any

import pytest
import yaml

from tests.e2e.controlplane.api import Refused
from tests.e2e.controlplane.cluster import APIS, Cluster

SUBSCRIBER = {"name": "gallery", "protocol": "sqs", "endpoint": "arn:aws:sqs:eu-west-1:111122223333:gallery"}
EFS = {
    "vpcId": "vpc-0123456789abcdef0",
    "subnetIds": ["subnet-0a123456789abcdef"],
    "nodeSecurityGroupId": "sg-0123456789abcdef0",
}


def https(endpoint: str) -> dict[str, Any]:
    return {"subscribers": [{"name": "hook", "protocol": "https", "endpoint": endpoint}]}


def alarms(topic: str) -> dict[str, Any]:
    return {"alarms": {"topicArn": f"arn:aws:sns:{topic}:ops"}}


@pytest.mark.parametrize(
    "path", sorted(APIS.glob("*/example*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_an_example_is_taken(cluster: Cluster, path: Any) -> None:
    for item in yaml.safe_load_all(path.read_text()):
        cluster.api.check({**item, "metadata": {**item["metadata"], "namespace": "default"}})


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("prompt-api", {"subscribers": [SUBSCRIBER]}),
        ("prompt-api", https("https://example.com:8443/hook?a=b")),
        ("prompt-api", {"alarms": None}),
        ("storage", {"models": {"efs": {**EFS, "fileSystemId": None}}}),
        ("model-runtime", alarms("eu-west-1:111122223333")),
    ],
)
def test_a_right_spec_is_taken(cluster: Cluster, kind: str, fields: dict[str, Any]) -> None:
    cluster.api.check(example(kind, **fields))


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        ("prompt-api", https("http://example.com"), "spec.subscribers"),
        ("prompt-api", https("https://me:secret@example.com"), "spec.subscribers"),
        (
            "prompt-api",
            {"subscribers": [{**SUBSCRIBER, "endpoint": f"{SUBSCRIBER['endpoint']}.fifo"}]},
            "spec.subscribers",
        ),
        ("prompt-api", {"subscribers": [SUBSCRIBER, {**SUBSCRIBER, "name": "other"}]}, "spec.subscribers"),
        ("prompt-api", {"subscribers": [{**SUBSCRIBER, "unknown": 1}]}, "unknown"),
        ("prompt-api", alarms("us-east-1:111122223333"), "spec.alarms"),
        ("prompt-api", {"tenants": []}, "spec.tenants"),
        ("prompt-api", {"tenants": [{"name": "acme", "rateLimit": 0}]}, "spec.tenants"),
        ("prompt-api", {"tenants": [{"name": "acme"}, {"name": "acme"}]}, "spec.tenants"),
        ("prompt-api", {"logRetention": 31}, "spec.logRetention"),
        ("prompt-api", {"image": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/darkroom/api:latest"}, "spec.image"),
        ("storage", {"models": {"efs": {**EFS, "subnetIds": []}}}, "spec.models.efs.subnetIds"),
        (
            "storage",
            {"models": {"efs": {**EFS, "subnetIds": [*EFS["subnetIds"], *EFS["subnetIds"]]}}},
            "spec.models.efs.subnetIds",
        ),
        ("model-runtime", {"engine": None}, "spec.engine"),
        ("cluster-access", {"keda": {"namespace": "Not A Label", "name": "keda"}}, "spec.keda.namespace"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_field(
    cluster: Cluster, kind: str, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refused, match=field):
        cluster.api.check(example(kind, **fields))


def test_a_composite_is_named_after_what_its_names_in_aws_are_made_of(cluster: Cluster) -> None:
    for kind, words in (
        ("storage", "it has to be the cluster's name"),
        ("model-runtime", "it has to be the runtime's name"),
    ):
        item = example(kind)
        item["metadata"]["name"] = "other"
        with pytest.raises(Refused, match=words):
            cluster.api.check(item)


def example(kind: str, **fields: Any) -> dict[str, Any]:
    item: dict[str, Any] = yaml.safe_load((APIS / kind / "example.yaml").read_text())
    item["metadata"]["namespace"] = "default"
    item["spec"] |= fields
    return item
