"""The description of a cluster: ``clusters/<cluster>/cluster.yaml``, key ``cluster``. Pure."""

from operator import attrgetter
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from darkroom_contract.gitops import GitOps
from darkroom_contract.names import Names
from darkroom_contract.nodes import GpuNodes
from darkroom_contract.rules import Grammar, aws_id, rule, within
from darkroom_contract.subscribers import Subscribers, check_subscribers
from darkroom_contract.types import (
    DEFAULT_TENANT,
    IMAGE_BY_DIGEST,
    AccountId,
    BucketName,
    ClusterName,
    Description,
    Label,
    Region,
    distinct,
)

_A_SET = {"x-kubernetes-list-type": "set"}
_Keys = Annotated[
    tuple[Label, ...], Field(min_length=1, max_length=2, json_schema_extra=_A_SET), distinct("a key is there twice")
]


class Tenant(Description):
    """A user of the API, with one or two keys of its own, and how much it may ask."""

    name: Label
    """At most 32 lower-case letters, digits and hyphens, beginning with a letter. No two tenants have the same."""
    rate_limit: Annotated[float, Field(gt=0, le=10000)] = 30
    """Requests per second over time (API Gateway's token bucket): more than 0, at most 10000; 30 when absent."""
    burst_limit: Annotated[int, Field(ge=1, le=5000)] = 50
    """Requests at once (what the token bucket holds): 1 to 5000; 50 when absent."""
    daily_quota: Annotated[int, Field(ge=1)] | None = None
    """Requests per day; none when absent. Each key has the rate, the burst and the quota to itself."""
    keys: _Keys = ("value",)
    """Its keys, as fields of its Secret ``api-key-<tenant>``: ``value`` when absent. Two while one takes the other's
    place."""


#: Every tenant of a cluster. Their names fit into the environment of the API's function (Lambda: 4 KiB in all).
Tenants = Annotated[
    tuple[Tenant, ...],
    Field(
        min_length=1,
        max_length=100,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
    distinct("two tenants have the same name", attrgetter("name")),
]


class ApiSettings(Description):
    """The API in front of the cluster."""

    stage: Annotated[str, Grammar("[A-Za-z0-9_]{1,128}", "at most 128 letters, digits and underscores", 128)] = "prod"
    """The end of the API's URL: ``prod`` when absent. Changing it changes the URL, and the old one is gone."""
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


class DataRetention(Description):
    """How long jobs and outputs are kept, in days."""

    jobs: Annotated[int, Field(ge=15, le=3650)] = 30
    """What is known of a job: 15 to 3650 days; 30 when absent."""
    outputs: Annotated[int, Field(ge=1, le=3650)] | None = None
    """The pictures: 1 to 3650 days; kept for ever when absent."""


class Retention(DataRetention):
    """How long things are kept, in days."""

    logs: LogRetention = 30
    """The log of the API's function: as many days as CloudWatch Logs knows; 30 when absent."""


class AlarmTopic(Description):
    """Who is told when something is wrong."""

    topic_arn: Annotated[
        str,
        Grammar(
            "arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}",
            "the ARN of a topic that is not FIFO, arn:aws:sns:<region>:<account>:<name>",
            350,
        ),
    ]
    """An SNS topic of the cluster's own account and region, whose policy lets CloudWatch publish."""


class Alarms(AlarmTopic):
    """Who is told when something is wrong with the cluster."""

    longest_wait_minutes: Annotated[int, Field(ge=5, le=7 * 24 * 60)] = 60
    """How long a prompt may wait for its picture before somebody is told, unless it was received three times or more.
    SQS throws it away after 14 days."""


#: What ``check_alarms`` refuses, for the schema of what has ``alarms`` and a ``cluster``.
REACHABLE_TOPIC = rule(
    "!has(self.alarms) || self.alarms.topicArn.contains(':' + self.cluster.region + ':' + self.cluster.account + ':')",
    "it has to be a topic of the cluster's own account and region",
    ".alarms",
)


def check_alarms(alarms: AlarmTopic | None, names: Names) -> None:
    """Refuse a topic of another account or region: CloudWatch does not reach it."""
    if alarms and not alarms.topic_arn.startswith(names.topic_arn("")):
        raise within("alarms.topicArn", f"it has to be a topic of the cluster's own: {names.topic_arn('<name>')}")


_SubnetId = Annotated[str, aws_id("subnet", "a subnet")]
_Subnets = Annotated[
    tuple[_SubnetId, ...],
    Field(min_length=1, max_length=10, json_schema_extra=_A_SET),
    distinct("a subnet is there twice"),
]


class FileSystem(Description):
    """An EFS file system: where in the network it is, and who may use it."""

    vpc_id: Annotated[str, aws_id("vpc", "a VPC")]
    """The nodes' VPC, in which the file system's security group is made."""
    subnet_ids: _Subnets
    """The nodes' subnets, one for each availability zone: EFS has one mount target in a zone."""
    node_security_group_id: Annotated[str, aws_id("sg", "a security group")]
    """The security group of the nodes, which alone may mount it."""
    file_system_id: Annotated[str, aws_id("fs", "a file system", 40)] | None = None
    """A file system that is there already; absent: one is made."""


class Models(Description):
    """Where the models are: in a bucket, or on a file system."""

    efs: FileSystem | None = None
    """A file system instead of the bucket."""


class Emulator(Description):
    """An emulator in the place of AWS, for tests."""

    endpoint: Annotated[
        str,
        Grammar(
            r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", "a URL of a host and a port alone, http://10.0.0.1:5000 say", 300
        ),
    ]
    """Where it listens, as pods reach it. It needs no credentials."""


#: SNS's default quota of filters for a topic (developer guide, "Filter policy constraints"): the topic for prompts has
#: one for each runtime.
MAX_RUNTIMES = 200

#: As many as fit into a permissions boundary (IAM: 6144 characters).
InputBuckets = Annotated[tuple[BucketName, ...], Field(max_length=20)]


class Location(Description):
    """Which cluster it is and where: what every AWS name is built from."""

    name: ClusterName
    """At most 20 lower-case letters and digits, beginning with a letter; no hyphen. It cannot change."""
    account: AccountId
    """The AWS account, twelve digits in quotes. It cannot change."""
    region: Region
    """The AWS region. It cannot change."""
    eks_name: Annotated[
        str,
        Grammar(
            "[A-Za-z0-9][A-Za-z0-9_-]{0,99}",
            "at most 100 letters, digits, hyphens and underscores, beginning with a letter or a digit",
            100,
        ),
    ]
    """The EKS cluster's own name."""

    @property
    def names(self) -> Names:
        """The AWS names of the cluster."""
        return Names(cluster=self.name, account=self.account, region=self.region)


class Cluster(Location):
    """One cluster: what differs between clusters, and nothing else."""

    tenants: Tenants = (Tenant(name=DEFAULT_TENANT),)
    """The users of the API, 1 to 100. ``default`` writes under prefixes of its own choice, as clients of the AWS
    guidance do."""
    api: ApiSettings = ApiSettings()
    retention: Retention = Retention()
    input_buckets: InputBuckets = ()
    """Further buckets that input pictures may come from."""
    models: Models = Models()
    """Where the models are: in a bucket unless it says otherwise."""
    protected: bool = True
    """Whether the cluster's ``Storage``, ``PromptApi`` and ``ClusterAccess`` are protected from deletion."""
    subscribers: Subscribers = ()
    """Who is told of jobs, beside the queue ``<cluster>-results``."""
    alarms: Alarms | None = None
    """Who is told when something is wrong: nobody when absent."""
    gitops: GitOps | None = None
    """The repository that Argo CD keeps the cluster by. Only a cluster without Argo CD has none."""
    gpu_nodes: GpuNodes = GpuNodes()
    """The nodes that runtimes run on: Spot or On-Demand ones of class ``g5``, at most 8 GPUs, when absent."""
    emulator: Emulator | None = None
    """An emulator in the place of AWS, for tests: agents and controllers ask it, and nodes are simulated."""

    @model_validator(mode="after")
    def _clones_safely(self) -> Self:
        if self.gitops and not self.emulator and not self.gitops.is_safely_cloned:
            raise within(
                "gitops.repository",
                "whoever is between could change what the cluster runs: it has to be https:// or SSH. Only beside an "
                "emulator it may be otherwise",
            )
        return self

    @model_validator(mode="after")
    def _is_within_reach(self) -> Self:
        check_subscribers(self.subscribers, [tenant.name for tenant in self.tenants], self.names)
        check_alarms(self.alarms, self.names)
        return self

    @property
    def location(self) -> Location:
        """The cluster's name and place alone."""
        return Location(name=self.name, account=self.account, region=self.region, eks_name=self.eks_name)


_Image = Annotated[
    str,
    Grammar(
        f"({IMAGE_BY_DIGEST})?",
        "an image by its digest, without a tag, <registry>/<repository>@sha256:<64 hex digits>, or empty until "
        "continuous integration has built it",
        512,
    ),
]


class Images(Description):
    """``images.yaml``, key ``images``: what runs, by digest. Only continuous integration writes it."""

    agent: _Image = ""
    """The queue agent, which also reads models ahead and looks after abandoned jobs."""
    api: _Image = ""
    """The API's Lambda function; from ECR, since Lambda takes no other registry's."""
    function: _Image = ""
    """The composition function."""
    sdwebui: _Image = ""
    """AUTOMATIC1111's web UI."""
    comfyui: _Image = ""
    """ComfyUI."""
