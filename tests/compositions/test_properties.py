"""What holds for every valid spec, whatever is observed."""

import json
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom_contract.cluster import Location
from darkroom_contract.runtime import Runtime
from darkroom_contract.types import Engine
from darkroom_function.apis import ModelRuntimeSpec
from darkroom_function.compositions import compose
from darkroom_function.managed import Managed
from tests.compositions import specs
from tests.compositions.provider import Provider, managed
from tests.unit.contract.test_workflows import WORKFLOW

Composite = tuple[str, dict[str, Any]]
Change = tuple[str, dict[str, Any], dict[str, Any]]
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: The names that AWS takes, by kind: where the name is, and its grammar.
AWS_NAMES = {
    "Topic": (None, r"[A-Za-z0-9_-]{1,256}"),
    "Queue": ("name", r"[A-Za-z0-9_-]{1,80}"),
    "Bucket": (None, r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"),
    "Role": (None, r"[\w+=,.@-]{1,64}"),
    "InstanceProfile": (None, r"[\w+=,.@-]{1,128}"),
    "Rule": (None, r"[A-Za-z0-9_.-]{1,64}"),
    "Function": (None, r"[A-Za-z0-9_-]{1,64}"),
    "Group": (None, r"[A-Za-z0-9_/.#-]{1,512}"),
    "RestAPI": ("name", r".{1,128}"),
    "APIKey": ("name", r".{1,128}"),
    "UsagePlan": ("name", r".{1,128}"),
    "MetricAlarm": (None, r".{1,255}"),
    "FileSystem": ("creationToken", r".{1,64}"),
    "SecurityGroup": ("name", r"(?!sg-)[A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]{1,255}"),
}
#: API Gateway tells keys apart by their ids.
SHARED_NAMES = {"APIKey"}
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def resources(composite: Composite) -> list[Managed]:
    return managed(Provider(*composite).settle())


def aws_name(resource: Managed) -> object:
    field, _ = AWS_NAMES[resource.kind]
    return resource.for_provider[field] if field else resource.external_name


@few
@given(specs.composites)
def test_every_name_is_one_that_aws_and_kubernetes_take(composite: Composite) -> None:
    for resource in resources(composite):
        assert len(resource.name) <= 253
        assert _SUBDOMAIN.fullmatch(resource.name), resource.name
        if resource.kind in AWS_NAMES:
            assert re.fullmatch(AWS_NAMES[resource.kind][1], str(aws_name(resource))), resource
        else:  # AWS has named it, if anybody
            assert resource.external_name in (None, f"id-of-{resource.name}")
        if resource.kind == "RolePolicy":  # named in AWS as in Kubernetes
            assert re.fullmatch(r"[\w+=,.@-]{1,128}", resource.name)


@few
@given(
    specs.prompt_apis, st.lists(specs.model_runtimes, min_size=2, max_size=3, unique_by=lambda spec: str(spec["name"]))
)
def test_no_two_resources_of_a_cluster_have_the_same_name(api: dict[str, Any], runtimes: list[dict[str, Any]]) -> None:
    cluster = {"cluster": api["cluster"]}
    alarms = {"alarms": {"topicArn": Location.model_validate(api["cluster"]).names.topic_arn("ops")}}
    composites = [("Storage", cluster), ("PromptApi", api | alarms), ("ClusterAccess", cluster)]
    composites += [("ModelRuntime", runtime | cluster | alarms) for runtime in runtimes]
    everything = [resource for composite in composites for resource in resources(composite)]
    in_kubernetes = [(resource.kind, resource.name) for resource in everything]
    assert len(set(in_kubernetes)) == len(in_kubernetes)
    named = [resource for resource in everything if resource.kind in AWS_NAMES.keys() - SHARED_NAMES]
    in_aws = [(resource.kind, aws_name(resource)) for resource in named]
    assert len(set(in_aws)) == len(in_aws)


def json_texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for field, item in value.items():
            if field != "content":  # a file, which nothing compares
                yield from json_texts(item)
    elif isinstance(value, str) and value.startswith("{"):
        yield value


@few
@given(specs.composites)
def test_every_policy_is_canonical(composite: Composite) -> None:
    for resource in resources(composite):
        for text in json_texts(resource.for_provider):
            assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@few
@given(specs.composites)
def test_composing_twice_gives_the_same_in_the_same_order(composite: Composite) -> None:
    provider = Provider(*composite)
    provider.step()
    once, again = provider.wanted(), provider.wanted()
    assert once == again
    assert list(once.resources) == list(again.resources)


@few
@given(specs.composites)
def test_a_composite_settles_and_is_ready_then(composite: Composite) -> None:
    provider = Provider(*composite)
    settled = provider.settle()
    assert settled.ready
    assert settled == provider.wanted()
    assert settled.resources.keys() == provider.observed.keys()


@few
@given(specs.changes)
def test_every_change_that_a_composite_may_have_settles_and_is_ready_then(change: Change) -> None:
    kind, before, after = change
    provider = Provider(kind, before)
    provider.settle()
    provider.spec = after
    settled = provider.settle()
    assert settled.ready
    assert settled == Provider(kind, after).settle()


@few
@given(specs.composites, st.integers(1, 10), st.data())
def test_nothing_that_is_observed_is_dropped_for_want_of_an_input(
    composite: Composite, passes: int, data: st.DataObject
) -> None:
    provider = Provider(*composite)
    for _ in range(passes):
        provider.step()
    keys = sorted(provider.observed)
    vanished = data.draw(st.sets(st.sampled_from(keys)), "vanished")
    bare = data.draw(st.sets(st.sampled_from(keys)), "without a status")
    observed = {
        key: {field: value for field, value in item.items() if field != "status" or key not in bare}
        for key, item in provider.observed.items()
        if key not in vanished
    }
    assert observed.keys() <= compose(*composite, observed).resources.keys()


@few
@given(specs.composites)
def test_readiness_is_false_while_any_resource_that_is_waited_for_is_not_ready(composite: Composite) -> None:
    provider = Provider(*composite)
    settled = provider.settle()
    for key in provider.observed:
        status = provider.observed[key].pop("status")
        assert provider.wanted().ready is not settled.resources[key].resource.awaited, key
        provider.observed[key]["status"] = status


@few
@given(specs.composites)
def test_readiness_is_false_while_a_change_is_refused(composite: Composite) -> None:
    provider = Provider(*composite)
    settled = provider.settle()
    for key, item in provider.observed.items():
        synced = next(condition for condition in item["status"]["conditions"] if condition["type"] == "Synced")
        synced["status"] = "False"
        assert provider.wanted().ready is not settled.resources[key].resource.awaited, key
        synced["status"] = "True"


def test_a_runtime_of_the_longest_names_fits() -> None:
    cluster = specs.CLUSTER.model_copy(update={"name": "c" * 20, "region": "ap-southeast-2"})
    spec = ModelRuntimeSpec.of(
        "r" * 32,
        Runtime(engine=Engine.COMFYUI),
        cluster,
        namespace="n",
        service_account="s",
        workflows={"w" * 32: WORKFLOW},
    )
    names = [resource.name for resource in resources(("ModelRuntime", specs.raw(spec)))]
    assert max(map(len, names)) <= 128
