"""The composites' specs and statuses: what the charts and people write, and what Crossplane shows of it. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from darkroom_contract.cluster import (
    ApiSettings,
    Cluster,
    Images,
    InputBuckets,
    Location,
    LogRetention,
    Retention,
    Tenants,
)
from darkroom_contract.runtime import Runtime
from darkroom_contract.types import Description, Engine, RuntimeName

_DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
#: Lambda takes an image by its digest alone; a tag beside it is refused.
_ImageByDigest = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9][a-z0-9._/-]*@sha256:[0-9a-f]{64}$"),
]


class StorageSpec(Description):
    """The cluster's buckets: for models, jobs and outputs."""

    cluster: Location
    retention: Retention = Retention()

    @classmethod
    def of(cls, cluster: Cluster) -> Self:
        """What the cluster's description asks for."""
        return cls(cluster=cluster.location, retention=cluster.retention)


class StorageStatus(Description):
    """The buckets' names."""

    models_bucket: str
    jobs_bucket: str
    outputs_bucket: str


class PromptApiSpec(Description):
    """The API in front of the cluster, its function, and the topics."""

    cluster: Location
    tenants: Tenants
    api: ApiSettings = ApiSettings()
    log_retention: LogRetention = 30
    """Days that the function's log is kept."""
    image: _ImageByDigest
    """The function's image, ``<repository>@sha256:<digest>``."""

    @classmethod
    def of(cls, cluster: Cluster, images: Images) -> Self:
        """What the cluster's description asks for."""
        return cls(
            cluster=cluster.location,
            tenants=cluster.tenants,
            api=cluster.api,
            log_retention=cluster.retention.logs,
            image=images.api,
        )


class PromptApiStatus(Description):
    """Where prompts go in, and where notifications come out."""

    api_url: str | None = None
    """Known once API Gateway has given the API its id."""
    prompt_topic_arn: str
    result_topic_arn: str
    result_queue_url: str


class ModelRuntimeSpec(Description):
    """What AWS has to know of one model runtime: a projection of its description."""

    name: RuntimeName
    cluster: Location
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
        )


class ModelRuntimeStatus(Description):
    """Where the runtime's jobs wait, and where those go that it gave up on."""

    queue_url: str
    dead_letter_queue_url: str
    role_arn: str


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
