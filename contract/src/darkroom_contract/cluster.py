"""The description of a cluster: ``clusters/<cluster>/cluster.yaml``, key ``cluster``. Pure."""

from typing import Annotated, Self

from pydantic import Field, model_validator

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


class ApiSettings(Description):
    """The API in front of the cluster."""

    stage: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,128}$")] = "prod"
    memory: Annotated[int, Field(ge=128, le=10240)] = 1024
    """Lambda's memory, in MiB; its processor grows with it."""
    timeout: Annotated[int, Field(ge=3, le=29)] = 10
    """The longest that one request may take, in seconds; API Gateway gives up at 29."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 100
    """The most requests that are answered at the same moment."""


class Retention(Description):
    """How long things are kept, in days."""

    jobs: Annotated[int, Field(ge=15, le=3650)] = 30
    outputs: Annotated[int, Field(ge=1, le=3650)] | None = None
    """Kept for ever when absent."""
    logs: Annotated[int, Field(ge=1, le=3653)] = 30


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

    tenants: Annotated[tuple[Tenant, ...], Field(min_length=1)] = (Tenant(name=DEFAULT_TENANT),)
    """The tenant ``default`` writes under prefixes of its own choice, as clients of the AWS guidance do."""
    api: ApiSettings = ApiSettings()
    retention: Retention = Retention()
    input_buckets: tuple[BucketName, ...] = ()
    """Further buckets that input pictures may come from."""

    @property
    def location(self) -> Location:
        """The cluster's name and place alone."""
        return Location(name=self.name, account=self.account, region=self.region, eks_name=self.eks_name)

    @model_validator(mode="after")
    def _tenants_are_distinct(self) -> Self:
        names = [tenant.name for tenant in self.tenants]
        if len(set(names)) < len(names):
            raise ValueError("tenants: two have the same name")
        return self


class Images(Description):
    """``images.yaml``, key ``images``: what runs, by digest. Only CI writes it."""

    agent: str = ""
    api: str = ""
    function: str = ""
