"""The composites' specs and statuses: what the charts and people write, and what Crossplane shows of it. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, StringConstraints, ValidationError, model_validator

from darkroom_contract.cluster import (
    Alarms,
    ApiSettings,
    Cluster,
    Images,
    InputBuckets,
    Location,
    LogRetention,
    Models,
    Retention,
    Tenants,
    check_alarms,
)
from darkroom_contract.runtime import Runtime
from darkroom_contract.subscribers import Subscribers, check_queues
from darkroom_contract.types import Description, Engine, RuntimeName
from darkroom_function.schemas import rule

#: The composites' API group and version.
GROUP, VERSION = "darkroom.dev", "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
#: Lambda takes an image by its digest alone; a tag beside it is refused.
_ImageByDigest = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9][a-z0-9._/-]*@sha256:[0-9a-f]{64}$"),
]

#: What every AWS name is built from stays: with another name, account or region it would be another cluster.
_Cluster = Annotated[
    Location,
    Field(
        json_schema_extra=rule(
            "self.name == oldSelf.name && self.account == oldSelf.account && self.region == oldSelf.region",
            "the cluster's name, account and region are part of every AWS name: they cannot change",
        )
    ),
]
_Name = Annotated[
    RuntimeName,
    Field(json_schema_extra=rule("self == oldSelf", "the name is part of every AWS name: it cannot change")),
]
#: A list in which no two items have the same name.
_BY_NAME = Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})


class StorageSpec(Description):
    """Where the cluster keeps models, jobs and outputs. The composite has the cluster's name."""

    cluster: _Cluster
    retention: Retention = Retention()
    models: Models = Models()
    """Where the models are: in a bucket unless it says otherwise."""
    protected: bool = True
    """Whether the composite is protected from deletion. What it has in AWS stays there all the same."""

    @classmethod
    def of(cls, cluster: Cluster) -> Self:
        """What the cluster's description asks for."""
        return cls(
            cluster=cluster.location,
            retention=cluster.retention,
            models=cluster.models,
            protected=cluster.protected,
        )


class StorageStatus(Description):
    """Where things are kept."""

    models_bucket: str | None = None
    """Absent where the models are on a file system."""
    models_file_system_id: str | None = None
    """Known once EFS has given the file system its id."""
    models_access_point_id: str | None = None
    jobs_bucket: str
    outputs_bucket: str


class PromptApiSpec(Description):
    """The API in front of the cluster, its function, and the topics."""

    cluster: _Cluster
    tenants: Annotated[Tenants, _BY_NAME]
    api: ApiSettings = ApiSettings()
    log_retention: LogRetention = 30
    """Days that the function's log is kept."""
    image: _ImageByDigest
    """The function's image, ``<repository>@sha256:<digest>``."""
    subscribers: Annotated[Subscribers, _BY_NAME] = ()
    """Who is told of jobs, beside the cluster's own queue."""
    alarms: Alarms | None = None
    """Who is told when the API fails: nobody when absent."""

    @model_validator(mode="after")
    def _is_within_reach(self) -> Self:
        check_queues(self.subscribers, self.cluster.names)
        check_alarms(self.alarms, self.cluster.names)
        return self

    @classmethod
    def of(cls, cluster: Cluster, images: Images) -> Self:
        """What the cluster's description asks for."""
        return cls(
            cluster=cluster.location,
            tenants=cluster.tenants,
            api=cluster.api,
            log_retention=cluster.retention.logs,
            image=images.api,
            subscribers=cluster.subscribers,
            alarms=cluster.alarms,
        )


class SubscriberState(StrEnum):
    """Whether a subscriber is told of jobs."""

    CONFIRMED = "confirmed"
    PENDING = "pending"
    """SNS has asked the endpoint whether it wants the notifications, and waits for the answer."""
    MISSING = "missing"
    """There is no subscription yet, or AWS refuses it."""


class SubscriberStatus(Description):
    """How it stands with a subscriber."""

    name: str
    state: SubscriberState


class PromptApiStatus(Description):
    """Where prompts go in, and where notifications come out."""

    api_url: str | None = None
    """Known once API Gateway has given the API its id."""
    api_key_secrets: dict[str, str]
    """By tenant: the Secret, in the composite's namespace, that its API keys are in."""
    prompt_topic_arn: str
    result_topic_arn: str
    result_queue_url: str
    subscribers: tuple[SubscriberStatus, ...] = ()
    wrong_keys: tuple[str, ...] = ()
    """API keys, as ``<tenant>.<key>``, that do not begin as those of their tenant have to: the API refuses them."""


class ModelRuntimeSpec(Description):
    """What AWS has to know of one model runtime: a projection of its description."""

    name: _Name
    cluster: _Cluster
    engine: Engine
    accepting: bool = True
    checkpoint: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    default_for_checkpoint: bool = True
    namespace: _DnsLabel
    """The namespace of its pods."""
    service_account: _DnsLabel
    """The service account of its pods."""
    input_buckets: InputBuckets = ()
    """Further buckets that input pictures may come from."""
    alarms: Alarms | None = None
    """Who is told when its jobs wait long or are given up: nobody when absent."""

    @model_validator(mode="after")
    def _is_within_reach(self) -> Self:
        check_alarms(self.alarms, self.cluster.names)
        return self

    @classmethod
    def of(cls, name: str, runtime: Runtime, cluster: Cluster, *, namespace: str, service_account: str) -> Self:
        """What the runtime's description asks for."""
        return cls(
            name=name,
            cluster=cluster.location,
            engine=runtime.engine,
            accepting=runtime.accepting,
            checkpoint=runtime.checkpoint,
            default_for_checkpoint=runtime.default_for_checkpoint,
            namespace=namespace,
            service_account=service_account,
            input_buckets=cluster.input_buckets,
            alarms=cluster.alarms,
        )


class ModelRuntimeStatus(Description):
    """Where the runtime's jobs wait, and where those go that it gave up on."""

    queue_url: str
    dead_letter_queue_url: str
    role_arn: str


class ServiceAccount(Description):
    """A service account, whose pods get a role in AWS."""

    namespace: _DnsLabel
    """The namespace that it is in."""
    name: _DnsLabel
    """Its name."""


class ClusterAccessSpec(Description):
    """What KEDA, Karpenter, its nodes and Mountpoint may do in AWS."""

    cluster: _Cluster
    keda: ServiceAccount = ServiceAccount(namespace="keda", name="keda-operator")
    """The service account of KEDA's operator."""
    karpenter: ServiceAccount = ServiceAccount(namespace="kube-system", name="karpenter")
    """The service account of Karpenter's controller."""
    mountpoint: ServiceAccount = ServiceAccount(namespace="kube-system", name="s3-csi-driver-sa")
    """The service account of the Mountpoint CSI driver on the nodes, which hands its credentials to every mount."""

    @classmethod
    def of(cls, cluster: Cluster) -> Self:
        """What the cluster's description asks for."""
        return cls(cluster=cluster.location)


class ClusterAccessStatus(Description):
    """What the charts of KEDA, Karpenter and Mountpoint, and the nodes' classes, have to be told."""

    interruption_queue: str
    """The name of the queue by which Karpenter learns of interruptions: its chart's ``settings.interruptionQueue``."""
    node_instance_profile: str
    """The name of the nodes' instance profile: ``spec.instanceProfile`` of an EC2NodeClass."""
    node_role_arn: str
    """The role of the nodes."""
    keda_role_arn: str
    """The role of KEDA's operator."""
    karpenter_role_arn: str
    """The role of Karpenter's controller."""
    mountpoint_role_arn: str
    """The role of Mountpoint."""


class InvalidSpec(Exception):  # noqa: N818 - it names what the spec is
    """A composite's spec is wrong; the message names each field and what would be right."""


_Spec = TypeVar("_Spec", bound=Description)


def parse_spec(model: type[_Spec], spec: Mapping[str, Any]) -> _Spec:
    """Read a composite's ``spec`` as Crossplane hands it over; raises ``InvalidSpec``.

    ``spec.crossplane`` is Crossplane's own. Numbers may be floats (protobuf has no others): 300.0 is read as 300.
    """
    try:
        return model.model_validate({field: value for field, value in spec.items() if field != "crossplane"})
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise InvalidSpec("; ".join(f"{_path(problem['loc'])}: {problem['msg']}" for problem in problems)) from None


def _path(location: tuple[str | int, ...]) -> str:
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
