"""The composites' specs and statuses: what the charts and people write, and what Crossplane shows of it. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from darkroom_contract.cluster import (
    REACHABLE_TOPIC,
    Alarms,
    AlarmTopic,
    ApiSettings,
    Cluster,
    DataRetention,
    Images,
    InputBuckets,
    Location,
    LogRetention,
    Models,
    Tenants,
    check_alarms,
)
from darkroom_contract.rules import WITHIN, Grammar, causes, rule, rules
from darkroom_contract.runtime import Checkpoint, Runtime
from darkroom_contract.subscribers import REACHABLE_QUEUES, Subscribers, check_subscribers
from darkroom_contract.types import IMAGE_BY_DIGEST, Description, Engine, Label
from darkroom_contract.workflows import Workflow, Workflows

#: The composites' API group and version.
GROUP, VERSION = "darkroom.dev", "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_DnsLabel = Annotated[
    str,
    Grammar(
        "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        "at most 63 lower-case letters, digits and hyphens, beginning and ending with a letter or a digit",
        63,
    ),
]
#: Lambda takes an image by its digest alone; a tag beside it is refused.
_ImageByDigest = Annotated[
    str,
    Grammar(
        IMAGE_BY_DIGEST,
        "an image by its digest, without a tag, and from ECR, since Lambda takes no other registry's: "
        "<account>.dkr.ecr.<region>.amazonaws.com/<repository>@sha256:<digest>",
        512,
    ),
]

#: What every AWS name is built from stays: with another name, account or region it would be another cluster.
_Cluster = Annotated[
    Location,
    Field(
        json_schema_extra=rules(
            rule(
                "self.name == oldSelf.name && self.account == oldSelf.account && self.region == oldSelf.region",
                "the cluster's name, account and region are part of every AWS name: they cannot change",
            )
        )
    ),
]
_Name = Annotated[
    Label,
    Field(json_schema_extra=rules(rule("self == oldSelf", "the name is part of every AWS name: it cannot change"))),
]


class StorageSpec(Description):
    """Where the cluster keeps models, jobs and outputs. The composite has the cluster's name."""

    cluster: _Cluster
    retention: DataRetention = DataRetention()
    models: Models = Models()
    """Where the models are: in a bucket unless it says otherwise."""
    protected: bool = True
    """Whether the composite is protected from deletion. What it has in AWS stays there all the same."""

    @classmethod
    def of(cls, cluster: Cluster) -> Self:
        """What the cluster's description asks for."""
        return cls(
            cluster=cluster.location,
            retention=DataRetention(jobs=cluster.retention.jobs, outputs=cluster.retention.outputs),
            models=cluster.models,
            protected=cluster.protected,
        )


class StorageStatus(Description):
    """Where things are kept."""

    models_bucket: str | None = None
    """Where the models are: absent where they are on a file system."""
    models_file_system_id: str | None = None
    """Known once EFS has given the file system its id."""
    models_access_point_id: str | None = None
    """The access point that the runtimes' pods mount the file system by, once EFS has given it its id."""
    jobs_bucket: str
    """Where the jobs' requests, states and results are."""
    outputs_bucket: str
    """Where the pictures are."""


class PromptApiSpec(Description):
    """The API in front of the cluster, its function, and the topics."""

    model_config = ConfigDict(json_schema_extra=rules(*REACHABLE_QUEUES, REACHABLE_TOPIC))

    cluster: _Cluster
    tenants: Tenants
    """The users of the API, 1 to 100. No two have the same name."""
    api: ApiSettings = ApiSettings()
    log_retention: LogRetention = 30
    """Days that the function's log is kept: as many as CloudWatch Logs knows; 30 when absent."""
    image: _ImageByDigest
    """The function's image by its digest, from ECR: ``<repository>@sha256:<digest>``."""
    subscribers: Subscribers = ()
    """Who is told of jobs, beside the cluster's own queue: at most 100."""
    alarms: AlarmTopic | None = None
    """Who is told when the API fails: nobody when absent."""
    protected: bool = True
    """Whether the composite, with its topics, its queue and its URL, is protected from deletion."""

    @model_validator(mode="after")
    def _is_within_reach(self) -> Self:
        check_subscribers(self.subscribers, [tenant.name for tenant in self.tenants], self.cluster.names)
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
            alarms=AlarmTopic(topic_arn=cluster.alarms.topic_arn) if cluster.alarms else None,
            protected=cluster.protected,
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
    """As the spec has it."""
    state: SubscriberState
    """Whether it is told of jobs."""


class PromptApiStatus(Description):
    """Where prompts go in, and where notifications come out."""

    api_url: str | None = None
    """The API's URL: known once API Gateway has given the API its id."""
    api_key_secrets: dict[str, str]
    """By tenant: the Secret, in the composite's namespace, that its API keys are in."""
    prompt_topic_arn: str
    """The topic that every prompt goes through."""
    result_topic_arn: str
    """The topic that every notification goes through."""
    result_queue_url: str
    """The queue that keeps the notifications until somebody reads them."""
    subscribers: tuple[SubscriberStatus, ...] = ()
    """How it stands with each subscriber."""
    wrong_keys: tuple[str, ...] = ()
    """API keys, as ``<tenant>.<key>``, that do not begin as those of their tenant have to: the API refuses them."""


class ModelRuntimeSpec(Description):
    """What AWS has to know of one model runtime: a projection of its description."""

    model_config = ConfigDict(json_schema_extra=rules(REACHABLE_TOPIC))

    name: _Name
    """At most 32 lower-case letters, digits and hyphens, beginning with a letter. It cannot change."""
    cluster: _Cluster
    engine: Engine
    """The software that runs the model."""
    accepting: bool = True
    """Whether new jobs are taken: true when absent. Set it to false, and let the queue drain, before it is deleted."""
    checkpoint: Checkpoint | None = None
    """The model's file, as the engine names it: at most 256 characters. ComfyUI's workflows name their own."""
    default_for_checkpoint: bool = True
    """Whether v1alpha1 requests that name this checkpoint come to this runtime: true when absent."""
    namespace: _DnsLabel
    """The namespace of its pods."""
    service_account: _DnsLabel
    """The service account of its pods."""
    input_buckets: InputBuckets = ()
    """Further buckets that input pictures may come from: at most 20."""
    alarms: Alarms | None = None
    """Who is told when its jobs wait long or are given up: nobody when absent."""
    workflows: Workflows = {}
    """Its named workflows (ComfyUI only): none when absent. Half a MiB of JSON in all, a quarter of one for each."""

    @field_validator("workflows")
    @classmethod
    def _are_for_comfyui(cls, workflows: dict[str, Workflow], info: ValidationInfo) -> dict[str, Workflow]:
        if workflows and info.data.get("engine") is Engine.SDWEBUI:
            raise ValueError("only ComfyUI has workflows: leave them out")
        return workflows

    @model_validator(mode="after")
    def _is_within_reach(self) -> Self:
        check_alarms(self.alarms, self.cluster.names)
        return self

    @classmethod
    def of(
        cls,
        name: str,
        runtime: Runtime,
        cluster: Cluster,
        *,
        namespace: str,
        service_account: str,
        workflows: Mapping[str, Workflow] | None = None,
    ) -> Self:
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
            workflows=dict(workflows or {}),
        )


class ModelRuntimeStatus(Description):
    """Where the runtime's jobs wait, and where those go that it gave up on."""

    queue_url: str
    """Where its jobs wait."""
    dead_letter_queue_url: str
    """Where the jobs go that it gave up on."""
    role_arn: str
    """The role of its pods."""


class ServiceAccount(Description):
    """A service account, whose pods get a role in AWS."""

    namespace: _DnsLabel
    """The namespace that it is in."""
    name: _DnsLabel
    """Its name."""


class ClusterAccessSpec(Description):
    """What KEDA, Karpenter, its nodes, Mountpoint and the janitor may do in AWS."""

    cluster: _Cluster
    keda: ServiceAccount = ServiceAccount(namespace="keda", name="keda-operator")
    """The service account of KEDA's operator."""
    karpenter: ServiceAccount = ServiceAccount(namespace="kube-system", name="karpenter")
    """The service account of Karpenter's controller."""
    mountpoint: ServiceAccount = ServiceAccount(namespace="kube-system", name="s3-csi-driver-sa")
    """The service account of the Mountpoint CSI driver on the nodes, which hands its credentials to every mount."""
    janitor: ServiceAccount = ServiceAccount(namespace="darkroom", name="janitor")
    """The service account of the janitor, which answers the jobs of runtimes that are gone."""
    protected: bool = True
    """Whether the composite, with the nodes' role, is protected from deletion."""

    @classmethod
    def of(cls, cluster: Cluster) -> Self:
        """What the cluster's description asks for."""
        return cls(cluster=cluster.location, protected=cluster.protected)


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
    janitor_role_arn: str
    """The role of the janitor."""


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
        raise InvalidSpec("; ".join(map(_said, causes(problems)))) from None


def _said(problem: ErrorDetails) -> str:
    place, context = _path(problem["loc"]), problem.get("ctx", {})
    said = {
        WITHIN: "{place}.{path}: {words}",
        "too_short": "{place}: it needs {min_length} or more",
        "too_long": "{place}: it takes {max_length} at most",
        "extra_forbidden": "{place}: there is no such field",
    }.get(problem["type"])
    return said.format(place=place, **context) if said else f"{place}: {problem['msg'].removeprefix('Value error, ')}"


def _path(location: tuple[str | int, ...]) -> str:
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
