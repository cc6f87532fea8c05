"""Specs to compose: an example of each kind, and strategies for all that are valid."""

import string
from typing import Any, TypeAlias

from hypothesis import strategies as st

from darkroom_contract.cluster import Cluster, Location, Tenant
from darkroom_contract.runtime import Runtime
from darkroom_contract.types import Description, Engine
from darkroom_function.apis import ClusterAccessSpec, ModelRuntimeSpec, PromptApiSpec, StorageSpec

_Raw: TypeAlias = st.SearchStrategy[dict[str, Any]]

IMAGE = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/darkroom/api@sha256:" + "0123456789abcdef" * 4
CLUSTER = Cluster(
    name="studio",
    account="111122223333",
    region="eu-west-1",
    eks_name="studio",
    tenants=(Tenant(name="default"), Tenant(name="acme", daily_quota=1000)),
)


def raw(spec: Description) -> dict[str, Any]:
    """A spec as Kubernetes keeps it."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def storage() -> dict[str, Any]:
    return raw(StorageSpec.of(CLUSTER))


def prompt_api(**fields: Any) -> dict[str, Any]:
    spec = PromptApiSpec(cluster=CLUSTER.location, tenants=CLUSTER.tenants, image=IMAGE)
    return raw(spec.model_copy(update=fields))


def model_runtime(**fields: Any) -> dict[str, Any]:
    runtime = Runtime(engine=Engine.SDWEBUI, checkpoint="sd_xl_base_1.0.safetensors")
    spec = ModelRuntimeSpec.of("sdxl", runtime, CLUSTER, namespace="darkroom", service_account="runtime-sdxl")
    return raw(spec.model_copy(update=fields))


def cluster_access(**fields: Any) -> dict[str, Any]:
    return raw(ClusterAccessSpec.of(CLUSTER).model_copy(update=fields))


EXAMPLES = {
    "Storage": storage(),
    "PromptApi": prompt_api(),
    "ModelRuntime": model_runtime(),
    "ClusterAccess": cluster_access(),
}


def _objects(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> _Raw:
    return st.fixed_dictionaries(required, optional=optional)


_labels = st.from_regex(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
_whole = {  # as Kubernetes keeps numbers, and as protobuf hands them over
    bounds: st.integers(*bounds) | st.integers(*bounds).map(float)
    for bounds in ((5, 10080), (1, 3650), (1, 5000), (1, 10**6), (1, 1000), (3, 29), (15, 3650), (128, 10240))
}
_locations = _objects(
    {
        "name": st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True),
        "account": st.text(string.digits, min_size=12, max_size=12),
        "region": st.sampled_from(["us-east-1", "eu-west-1", "ap-southeast-2", "us-gov-west-1", "cn-northwest-1"]),
        "eksName": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True),
    }
)
_tenants = _objects(
    {"name": _labels},
    keys=st.lists(_labels, min_size=1, max_size=2, unique=True),
    rateLimit=st.floats(0.1, 10000),
    burstLimit=_whole[1, 5000],
    dailyQuota=_whole[1, 10**6],
)
_api_settings = _objects(
    {},
    stage=st.from_regex(r"[A-Za-z0-9_]{1,128}", fullmatch=True),
    memory=_whole[128, 10240],
    timeout=_whole[3, 29],
    concurrency=st.none() | _whole[1, 1000],
)
_ids = st.from_regex(r"[0-9a-f]{17}", fullmatch=True)
_file_systems = _objects(
    {
        "vpcId": _ids.map("vpc-{}".format),
        "subnetIds": st.lists(_ids.map("subnet-{}".format), min_size=1, max_size=3, unique=True),
        "nodeSecurityGroupId": _ids.map("sg-{}".format),
    }
)
storages = _objects(
    {"cluster": _locations},
    retention=_objects({}, jobs=_whole[15, 3650], outputs=_whole[1, 3650]),
    models=_objects({}, efs=_file_systems),
    protected=st.booleans(),
)
_subscribers = _objects(
    {"name": _labels},
    filter=_objects(  # the tenants are the spec's own: see _reachable
        {},
        runtime=st.lists(_labels, max_size=3),
        status=st.lists(st.sampled_from(["running", "completed", "failed", "cancelled"]), max_size=4),
    ),
)


def _endpoint(subscriber: dict[str, Any], protocol: str, raw: bool, account: str, tenants: set[str]) -> dict[str, Any]:
    name = subscriber["name"]
    subscriber = subscriber | {"filter": {**subscriber.get("filter", {}), "tenant": sorted(tenants)}}
    endpoints = {
        "sqs": f"arn:aws:sqs:us-east-1:{account}:{name}",
        "https": f"https://example.com/{name}",
        "email": f"{name}@example.com",
    }
    return subscriber | {"protocol": protocol, "endpoint": endpoints[protocol], "raw": raw and protocol != "email"}


prompt_apis = _objects(
    {
        "cluster": _locations,
        "tenants": st.lists(_tenants, min_size=1, max_size=4, unique_by=lambda tenant: str(tenant["name"])),
        "image": st.just(IMAGE),
    },
    api=_api_settings,
    logRetention=st.sampled_from([1, 30.0, 3653]),
    protected=st.booleans(),
)
_workflows = _objects(
    {
        "graph": st.fixed_dictionaries(
            {"1": st.just({"class_type": "KSampler", "inputs": {"seed": 1.0, "steps": 20, "cfg": 7.5, "a": None}})}
        )
    },
    inputs=_objects(
        {},
        seed=st.just({"node": "1", "field": "seed", "type": "integer"}),
        steps=st.just({"node": "1", "field": "steps", "type": "integer", "default": 20.0, "minimum": 1}),
    ),
)


def _with_workflows_of_comfyui(spec: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in spec.items() if field != "workflows" or spec["engine"] == "comfyui"}


model_runtimes = _objects(
    {
        "name": _labels,
        "cluster": _locations,
        "engine": st.sampled_from([engine.value for engine in Engine]),
        "namespace": _labels,
        "serviceAccount": _labels,
    },
    accepting=st.booleans(),
    checkpoint=st.text(min_size=1, max_size=256),
    defaultForCheckpoint=st.booleans(),
    inputBuckets=st.lists(st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True), max_size=20),
    workflows=st.dictionaries(_labels, _workflows, max_size=3),
).map(_with_workflows_of_comfyui)
_service_accounts = _objects({"namespace": _labels, "name": _labels})
cluster_accesses = _objects(
    {"cluster": _locations},
    keda=_service_accounts,
    karpenter=_service_accounts,
    mountpoint=_service_accounts,
    janitor=_service_accounts,
    protected=st.booleans(),
)


def _reachable(composite: tuple[str, dict[str, Any]]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """The composite with what has to be within its account and region, perhaps: subscribers, the alarms' topic."""
    kind, spec = composite
    names = Location.model_validate(spec["cluster"]).names
    topic = {"topicArn": st.just(names.topic_arn("ops"))}
    known = [tenant["name"] for tenant in spec.get("tenants", ())]
    tenants = st.sets(st.sampled_from(known)) if known else st.just(set())
    protocols = st.sampled_from(["sqs", "https", "email"])
    subscribers = st.lists(
        st.builds(_endpoint, _subscribers, protocols, st.booleans(), st.just(names.account), tenants),
        max_size=3,
        unique_by=lambda subscriber: str(subscriber["name"]),
    )
    further: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "PromptApi": {"alarms": _objects(topic), "subscribers": subscribers},
        "ModelRuntime": {"alarms": _objects(topic, longestWaitMinutes=_whole[5, 10080])},
    }
    return _objects({}, **further.get(kind, {})).map(lambda fields: (kind, spec | fields))


#: Every kind of composite with a valid spec of it.
composites = st.one_of(
    st.tuples(st.just("Storage"), storages),
    st.tuples(st.just("PromptApi"), prompt_apis),
    st.tuples(st.just("ModelRuntime"), model_runtimes),
    st.tuples(st.just("ClusterAccess"), cluster_accesses),
).flatmap(_reachable)


def _changed(composite: tuple[str, dict[str, Any]]) -> st.SearchStrategy[tuple[str, dict[str, Any], dict[str, Any]]]:
    kind, spec = composite
    others = {
        "Storage": storages,
        "PromptApi": prompt_apis,
        "ModelRuntime": model_runtimes,
        "ClusterAccess": cluster_accesses,
    }[kind]
    identity = {field: spec[field] for field in ("name",) if field in spec}

    def keep_identity(other: dict[str, Any]) -> dict[str, Any]:
        return {**other, **identity, "cluster": {**spec["cluster"], "eksName": other["cluster"]["eksName"]}}

    changed = others.map(lambda other: (kind, keep_identity(other))).flatmap(_reachable)
    return changed.map(lambda other: (kind, spec, other[1]))


#: A valid spec of each kind, and another valid one of the same composite: what is its identity does not change.
changes = composites.flatmap(_changed)
