import pytest

from darkroom_contract.cluster import Cluster, Images
from darkroom_function.apis import (
    ClusterAccessSpec,
    InvalidSpec,
    ModelRuntimeSpec,
    PromptApiSpec,
    StorageSpec,
    parse_spec,
)
from darkroom_function.compositions import compose
from tests.compositions import specs


def test_numbers_that_come_as_floats_are_read_as_integers() -> None:
    spec = specs.storage()
    spec["retention"] = {"jobs": 300.0}
    assert repr(parse_spec(StorageSpec, spec).retention.jobs) == "300"


def test_what_crossplane_keeps_in_the_spec_is_left_aside() -> None:
    spec = specs.storage()
    assert parse_spec(StorageSpec, {**spec, "crossplane": {"compositionRef": {"name": "storage"}}}) == parse_spec(
        StorageSpec, spec
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tenants": [{"name": "Acme"}]}, "spec.tenants[0].name: String should match"),
        ({"tenants": [{"name": "a"}, {"name": "a"}]}, "spec.tenants: Value error, two tenants have the same name"),
        ({"tenants": []}, "spec.tenants: Tuple should have at least 1 item"),
        ({"api": {"timeout": 29.5}}, "spec.api.timeout: Input should be a valid integer"),
        ({"api": {"memory": 64}}, "spec.api.memory: Input should be greater than or equal to 128"),
        ({"logRetention": 31}, "spec.logRetention: Value error, CloudWatch Logs keeps logs for one of 1, 3, 5"),
        ({"image": ""}, "spec.image: String should match"),
        ({"image": "example.com/api:1@sha256:" + "0" * 64}, "spec.image: String should match"),
        ({"images": "x"}, "spec.images: Extra inputs are not permitted"),
        (
            {"subscribers": [{"name": "a", "protocol": "email", "endpoint": "a"}]},
            "spec.subscribers[0]: Value error, endpoint: for the protocol email it is an e-mail address",
        ),
        (
            {"subscribers": [{"name": "a", "protocol": "sqs", "endpoint": "arn:aws:sqs:eu-west-1:999922223333:a"}]},
            "spec: Value error, subscribers, a: the endpoint is a queue of another account",
        ),
        (
            {"alarms": {"topicArn": "arn:aws:sns:us-east-1:111122223333:ops"}},
            "spec: Value error, alarms.topicArn: it has to be a topic of the cluster's own",
        ),
    ],
)
def test_a_wrong_field_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        compose("PromptApi", specs.prompt_api() | change, {})
    assert str(refused.value).startswith(message)


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.name: .*; spec\.cluster\.account: "):
        compose(
            "ModelRuntime",
            {**specs.model_runtime(name="SDXL"), "cluster": {**specs.model_runtime()["cluster"], "account": 1}},
            {},
        )


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="Gallery is not Storage"):
        compose("Gallery", {}, {})


def test_specs_of_a_cluster_say_what_its_description_says() -> None:
    cluster = Cluster.model_validate({**specs.raw(specs.CLUSTER), "retention": {"jobs": 20, "outputs": 40, "logs": 60}})
    api = PromptApiSpec.of(cluster, Images(api=specs.IMAGE))
    assert (api.log_retention, api.tenants, api.image) == (60, cluster.tenants, specs.IMAGE)
    assert StorageSpec.of(cluster).retention == cluster.retention
    assert ClusterAccessSpec.of(cluster).cluster == cluster.location
    assert ModelRuntimeSpec.model_validate(specs.model_runtime()).cluster == cluster.location
