"""The description of a cluster: ``clusters/<cluster>/cluster.yaml``, key ``cluster``. Pure."""

from typing import Annotated

from pydantic import AfterValidator, Field

from darkroom_contract.names import Names
from darkroom_contract.types import (
    DEFAULT_TENANT,
    AccountId,
    BucketName,
    ClusterName,
    Description,
    Region,
    TenantName,
)


class Tenant(Description):
    """A user of the API, with a key of its own, and how much it may ask."""

    name: TenantName
    rate_limit: Annotated[float, Field(gt=0, le=10000)] = 30
    """Requests per second, over time and at once (API Gateway's token bucket)."""
    burst_limit: Annotated[int, Field(ge=1, le=5000)] = 50
    daily_quota: Annotated[int, Field(ge=1)] | None = None
    """Requests per day; none when absent."""


def _distinct(tenants: tuple[Tenant, ...]) -> tuple[Tenant, ...]:
    names = [tenant.name for tenant in tenants]
    if len(set(names)) < len(names):
        raise ValueError("two tenants have the same name")
    return tenants


#: Every tenant of a cluster. Their names fit into the environment of the API's function (Lambda: 4 KiB in all).
Tenants = Annotated[tuple[Tenant, ...], Field(min_length=1, max_length=100), AfterValidator(_distinct)]


class ApiSettings(Description):
    """The API in front of the cluster."""

    stage: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,128}$")] = "prod"
    memory: Annotated[int, Field(ge=128, le=10240)] = 1024
    """Lambda's memory, in MiB; its processor grows with it."""
    timeout: Annotated[int, Field(ge=3, le=29)] = 10
    """The longest that one request may take, in seconds; API Gateway gives up at 29."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """The most requests that are answered at the same moment, reserved in the account; absent: what the account has
    left. A new account may have as few as ten in all, and none of them can be reserved."""


#: What CloudWatch Logs takes (API reference, PutRetentionPolicy).
_LOG_RETENTIONS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365),
    *(400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653),
)


def _known_log_retention(days: int) -> int:
    if days not in _LOG_RETENTIONS:
        raise ValueError(f"CloudWatch Logs keeps logs for one of {', '.join(map(str, _LOG_RETENTIONS))} days")
    return days


LogRetention = Annotated[
    int, AfterValidator(_known_log_retention), Field(json_schema_extra={"enum": [*_LOG_RETENTIONS]})
]


class Retention(Description):
    """How long things are kept, in days."""

    jobs: Annotated[int, Field(ge=15, le=3650)] = 30
    outputs: Annotated[int, Field(ge=1, le=3650)] | None = None
    """Kept for ever when absent."""
    logs: LogRetention = 30


#: As many as fit into a permissions boundary (IAM: 6144 characters).
InputBuckets = Annotated[tuple[BucketName, ...], Field(max_length=20)]


class Location(Description):
    """Which cluster it is and where: what every AWS name is built from."""

    name: ClusterName
    account: AccountId
    region: Region
    eks_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
    """The EKS cluster's own name."""

    @property
    def names(self) -> Names:
        """The AWS names of the cluster."""
        return Names(cluster=self.name, account=self.account, region=self.region)


class Cluster(Location):
    """One cluster: what differs between clusters, and nothing else."""

    tenants: Tenants = (Tenant(name=DEFAULT_TENANT),)
    """The tenant ``default`` writes under prefixes of its own choice, as clients of the AWS guidance do."""
    api: ApiSettings = ApiSettings()
    retention: Retention = Retention()
    input_buckets: InputBuckets = ()
    """Further buckets that input pictures may come from."""

    @property
    def location(self) -> Location:
        """The cluster's name and place alone."""
        return Location(name=self.name, account=self.account, region=self.region, eks_name=self.eks_name)


class Images(Description):
    """``images.yaml``, key ``images``: what runs, by digest. Only CI writes it."""

    agent: str = ""
    api: str = ""
    function: str = ""
