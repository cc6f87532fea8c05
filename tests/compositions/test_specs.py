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
        (
            {"tenants": [{"name": "Acme"}]},
            "spec.tenants[0].name: it has to be at most 32 lower-case letters, digits and hyphens",
        ),
        ({"tenants": [{"name": "a"}, {"name": "a"}]}, "spec.tenants: two tenants have the same name"),
        ({"tenants": []}, "spec.tenants: it needs 1 or more"),
        ({"api": {"timeout": 29.5}}, "spec.api.timeout: Input should be a valid integer"),
        ({"api": {"memory": 64}}, "spec.api.memory: Input should be greater than or equal to 128"),
        ({"logRetention": 31}, "spec.logRetention: CloudWatch Logs keeps logs for one of 1, 3, 5"),
        ({"image": "api:1"}, "spec.image: it has to be an image by its digest, without a tag, and from ECR"),
        (
            {"image": "example.com/api:1@sha256:" + "0" * 64},
            "spec.image: it has to be an image by its digest, without a tag",
        ),
        ({"images": "x"}, "spec.images: there is no such field"),
        (
            {"subscribers": [{"name": "a", "protocol": "email", "endpoint": "a"}]},
            "spec.subscribers[0].endpoint: for the protocol email it is an e-mail address",
        ),
        (
            {"subscribers": [{"name": "a", "protocol": "sqs", "endpoint": "arn:aws:sqs:eu-west-1:999922223333:a"}]},
            "spec.subscribers[0].endpoint: a queue of another account",
        ),
        (
            {"alarms": {"topicArn": "arn:aws:sns:us-east-1:111122223333:ops"}},
            "spec.alarms.topicArn: it has to be a topic of the cluster's own",
        ),
        (
            {
                "subscribers": [
                    {"name": "a", "protocol": "email", "endpoint": "ops@example.com", "filter": {"tenant": ["nobody"]}}
                ]
            },
            "spec.subscribers[0].filter.tenant[0]: the cluster has no such tenant, nobody",
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


def test_a_list_with_one_wrong_item_is_not_said_to_be_too_short() -> None:
    with pytest.raises(InvalidSpec) as refused:
        compose("PromptApi", specs.prompt_api() | {"tenants": [{"name": "Acme"}]}, {})
    assert str(refused.value).count("spec.tenants") == 1


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="Gallery is not Storage"):
        compose("Gallery", {}, {})


def test_specs_of_a_cluster_say_what_its_description_says() -> None:
    cluster = Cluster.model_validate({**specs.raw(specs.CLUSTER), "retention": {"jobs": 20, "outputs": 40, "logs": 60}})
    api = PromptApiSpec.of(cluster, Images(api=specs.IMAGE))
    assert (api.log_retention, api.tenants, api.image) == (60, cluster.tenants, specs.IMAGE)
    kept = StorageSpec.of(cluster).retention
    assert (kept.jobs, kept.outputs) == (20, 40)
    assert ClusterAccessSpec.of(cluster).cluster == cluster.location
    assert ModelRuntimeSpec.model_validate(specs.model_runtime()).cluster == cluster.location


@pytest.mark.parametrize("protected", [True, False])
def test_what_a_cluster_cannot_do_without_is_protected_with_it(protected: bool) -> None:
    cluster = specs.CLUSTER.model_copy(update={"protected": protected})
    specs_of = (
        StorageSpec.of(cluster),
        PromptApiSpec.of(cluster, Images(api=specs.IMAGE)),
        ClusterAccessSpec.of(cluster),
    )
    assert [spec.protected for spec in specs_of] == [protected] * 3


@pytest.mark.parametrize("kind", ["Storage", "PromptApi", "ClusterAccess"])
def test_a_protected_composite_is_not_deleted(kind: str) -> None:
    spec = specs.EXAMPLES[kind]
    usage = compose(kind, spec, {}).resources["protection"].resource.manifest()
    assert usage["kind"] == "Usage"
    assert usage["spec"]["of"] == {
        "apiVersion": "darkroom.dev/v1alpha1",
        "kind": kind,
        "resourceRef": {"name": "studio"},
    }
    assert "protected: false" in usage["spec"]["reason"]
    assert "protection" not in compose(kind, spec | {"protected": False}, {}).resources


def test_a_runtime_goes_with_its_folder() -> None:
    assert "protection" not in compose("ModelRuntime", specs.model_runtime(), {}).resources
